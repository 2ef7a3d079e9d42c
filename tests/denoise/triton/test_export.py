"""What export-triton writes."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import main
from gateway.denoise.engines import graph_path
from gateway.denoise.ort import OrtEngine, read_card, session_options
from gateway.denoise.triton.export import in_int16, stateful
from gateway.denoise.triton.whole import to_bfloat16
from tests.denoise.tools import recording


def steps(graph: bytes, frames: np.ndarray, gain: float = 0.1) -> np.ndarray:
    """One stream through a stateful graph in row 2 of 4, float32 [k, hop]."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    width = {port.name: port.shape for port in session.get_inputs()}["matrix"][1]
    matrix, made = np.zeros((4, width), np.float32), []
    for frame in frames:
        feeds = {"pcm": frame[None], "control": np.array([[gain, 1]], np.float32), "matrix": matrix}
        feeds |= {"read": np.array([2]), "write": np.array([[2]])}
        matrix, clean, _ = session.run(["matrix_out", "pcm_out", "prob"], feeds)
        made.append(clean[0])
    assert not matrix[[0, 1, 3]].any()
    return np.stack(made)


def embedded(model: str, rate: int, frames: np.ndarray) -> np.ndarray:
    engine = OrtEngine(graph_path(model, rate), 1)
    control = np.array([[0.1, 1]], np.float32)
    one = np.array([len(frames)])
    return engine.collect(engine.submit(np.array([0]), frames[None], one, control), np.inf).frames[0]


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("model", ["light", "standard"])
def test_a_stateful_graph_gives_the_same_audio(model, rate):
    path = graph_path(model, rate)
    frames = recording("noisy_8k.wav", rate, 1.0)
    made = steps(stateful(path, read_card(path), "card"), frames)
    np.testing.assert_array_equal(made, embedded(model, rate, frames))


def on_the_wire(rows: int = 4) -> tuple[ort.InferenceSession, dict[str, np.ndarray]]:
    """The graph of `light` with 16-bit samples, and loud noise for it in rows that begin."""
    path = graph_path("light", 8000)
    session = ort.InferenceSession(in_int16(stateful(path, read_card(path), "card")), session_options())
    pcm = np.random.default_rng(0).integers(-32768, 32768, (rows, 80), np.int16)
    return session, {
        "pcm16": pcm, "control": np.tile(np.array([[1.0, 1.0]], np.float32), (rows, 1)), "read": np.arange(rows),
        "write": np.arange(rows)[:, None], "matrix": np.zeros((rows, read_card(path).state), np.float32),
    }  # fmt: skip


def test_16_bit_samples_come_back_rounded_and_not_wrapped():
    session, feeds = on_the_wire()
    outputs = ["matrix_out", "pcm16_out", "prob_out"]
    feeds["matrix"], *_ = session.run(outputs, feeds)
    before, (_, late, prob) = feeds["pcm16"], session.run(outputs, feeds | {"pcm16": np.zeros((4, 80), np.int16)})
    assert late.dtype == np.int16
    assert np.abs(late.astype(int) - before).max() <= 1  # a smallest gain of 1 changes nothing
    assert np.isfinite(prob).all()


def test_a_row_that_is_no_number_says_so_and_its_neighbours_do_not():
    session, feeds = on_the_wire()
    wanted = session.run(["pcm16_out", "prob_out"], feeds)
    feeds["matrix"][2] = np.nan
    found = session.run(["pcm16_out", "prob_out"], feeds)
    assert np.isnan(found[1]).all(axis=1).tolist() == [False, False, True, False]
    others = [0, 1, 3]
    assert all((x[others] == y[others]).all() for x, y in zip(wanted, found, strict=True))


def test_float32_for_gpus_is_the_same_network_without_the_rounding_of_int8():
    path = graph_path("standard", 8000)
    frames = recording("noisy_8k.wav", 8000, 4.0)
    made = steps(stateful(path, read_card(path), "float32"), frames)
    wanted = embedded("standard", 8000, frames)
    ratio_db = 10 * np.log10((wanted**2).sum() / ((wanted - made) ** 2).sum())
    assert 40 < ratio_db < 100, ratio_db


@pytest.mark.parametrize(
    ("model", "rate"),
    [("light", 8000), ("light", 16000), ("standard", 8000), ("standard", 16000), ("standard_fp32", 8000),
     ("edge", 8000), ("convtasnet", 8000), ("transformer", 8000)],
)  # fmt: skip
def test_bfloat16_is_at_least_40_db_from_the_embedded_network(model, rate):
    path = graph_path(model, rate)
    frames = recording("noisy_8k.wav", rate, 4.0)
    narrow = steps(stateful(path, read_card(path), "bfloat16", imitate=True), frames)
    wanted = embedded(model, rate, frames)
    ratio_db = 10 * np.log10((wanted**2).sum() / ((wanted - narrow) ** 2).sum())
    print(f"{model} {rate}: {ratio_db:.1f} dB")
    assert 40 < ratio_db < 80, ratio_db


@pytest.mark.parametrize("model", ["light", "standard_fp32"])
def test_a_graph_in_bfloat16_for_gpus_is_a_right_one(model):
    path = graph_path(model, 8000)
    graph = onnx.load_from_string(stateful(path, read_card(path), "bfloat16"))
    standard = [node for node in graph.graph.node if node.op_type != "SimplifiedLayerNormalization"]
    assert {node.op_type for node in standard}.isdisjoint({"QuantizeLinear", "MatMulIntegerToFloat"})
    matrices = [each for each in graph.graph.initializer if each.data_type == onnx.TensorProto.BFLOAT16]
    assert len(matrices) == sum(node.op_type == "MatMul" for node in standard) - 5  # five are of the transform
    onnx.shape_inference.infer_shapes(graph, strict_mode=False)


@given(st.floats(width=32, allow_nan=False, min_value=-(2.0**90), max_value=2.0**90))
def test_rounding_to_bfloat16_is_that_of_the_standard_type(value):
    assert to_bfloat16(np.array([value])) == np.array([value], ml_dtypes.bfloat16).astype(np.float32)


def test_float32_stays_what_it_is():
    path = graph_path("standard_fp32", 8000)
    frames = recording("noisy_8k.wav", 8000, 1.0)
    plain = steps(stateful(path, read_card(path), "card"), frames)
    np.testing.assert_array_equal(steps(stateful(path, read_card(path), "float32"), frames), plain)
    np.testing.assert_array_equal(plain, embedded("standard_fp32", 8000, frames))


def test_the_command_writes_what_was_asked_for(tmp_path, capsys):
    arguments = ["--model", "light", "--device", "gpu", "--gpus", "0,3", "--rows", "5000", "--version", "2"]
    assert main(["export-triton", str(tmp_path), *arguments]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"light_8k", "light_16k"}
    text = (tmp_path / "light_16k" / "config.pbtxt").read_text()
    assert "KIND_GPU gpus: [0, 3]" in text and '"rows" value { string_value: "5000" }' in text
    assert {path.name for path in (tmp_path / "light_8k" / "2").iterdir()} == {"graph.onnx", "model.py"}
    assert "light_8k: version 2" in capsys.readouterr().out


def export(folder, version: int, *options: str) -> int:
    return main(["export-triton", str(folder), "--model", "light", "--version", str(version), *options])


def test_versions_that_were_exported_alike_are_served_side_by_side(tmp_path):
    assert [export(tmp_path, version) for version in (1, 2, 1)] == [0, 0, 0]
    place = tmp_path / "light_8k"
    assert {path.name for path in place.iterdir()} == {"config.pbtxt", "1", "2"}
    assert "version_policy { all { } }" in (place / "config.pbtxt").read_text()


def test_a_version_that_would_change_the_others_is_refused(tmp_path, capsys):
    assert export(tmp_path, 1) == 0
    config = tmp_path / "light_8k" / "config.pbtxt"
    before = config.read_text()
    assert export(tmp_path, 2, "--rows", "100") == 2
    said = capsys.readouterr().err
    assert "light_8k: version 1 was exported with other options" in said and 'key: "rows"' in said
    assert config.read_text() == before and not (tmp_path / "light_8k" / "2").exists()
    assert export(tmp_path, 1, "--rows", "100") == 0  # alone it may change


def test_what_cannot_be_exported_is_said(tmp_path, capsys):
    assert main(["export-triton", str(tmp_path), "--model", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err
    (tmp_path / "light_8k").write_text("a file")
    assert main(["export-triton", str(tmp_path), "--model", "light"]) == 2
    assert "cannot write" in capsys.readouterr().err

"""The network in torch against the embedded engine, on real speech: the same audio, whoever shares the batch."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnx")

from gateway.denoise.triton.device_network import DeviceNetwork, Precision  # noqa: E402  # wants torch
from models import weights  # noqa: E402  # wants torch
from models.networks.geometry import Geometry  # noqa: E402  # wants torch
from models.networks.graph import build  # noqa: E402  # wants torch
from models.runtime import session  # noqa: E402  # wants torch

ROOT = Path(__file__).parents[3]
NETWORKS = ("light_8k", "standard_8k", "light_16k", "standard_16k")
STEP = 1 / 32768
"""Answers come as 16-bit samples."""
FRAMES, SLOTS = 300, (5, 0, 3)
LEAST_GAIN = 10 ** (-24 / 20)


@cache
def arrays(name: str) -> weights.Weights:
    return weights.read(ROOT / f"models/{name}.onnx")


@cache
def speech(hop: int) -> np.ndarray:
    """int16 [3, frames, hop]: three places of the noisy recording; at 16 kHz every sample twice."""
    noisy, rate = soundfile.read(ROOT / "tests/audio/noisy_8k.wav", dtype="int16")
    noisy = np.repeat(noisy, hop * 100 // rate)
    return np.stack([noisy[start * hop : (start + FRAMES) * hop] for start in (0, 350, 700)]).reshape(3, FRAMES, hop)


def control(rows: int) -> np.ndarray:
    return np.tile(np.array([[LEAST_GAIN, 1]], np.float32), (rows, 1))


def engine(graph: str | bytes, pcm: np.ndarray) -> np.ndarray:
    """float32 [rows, samples] of ONNX Runtime."""
    run, out = session(graph), []
    state = np.zeros((len(pcm), run.get_inputs()[1].shape[1]), np.float32)
    for frame in np.moveaxis(pcm, 1, 0):
        inputs = {"pcm": frame.astype(np.float32) * np.float32(STEP), "state": state, "control": control(len(pcm))}
        clean, state = run.run(("pcm_out", "state_out"), inputs)
        out.append(clean)
    return np.concatenate(out, axis=1)


def device(found: weights.Weights, precision: Precision, pcm: np.ndarray, fuse: bool = False) -> np.ndarray:
    """The same of `DeviceNetwork`."""
    net, slots, out = DeviceNetwork(found, 8, "cpu", precision, fuse), np.array(SLOTS[: len(pcm)]), []
    for t, frame in enumerate(np.moveaxis(pcm, 1, 0)):
        out.append(net.step(slots, frame, control(len(pcm)), np.full(len(pcm), t == 0))[0].copy())
    return np.concatenate(out, axis=1) * np.float32(STEP)


def snr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


@pytest.mark.parametrize("name", NETWORKS)
def test_in_float32_it_is_the_float32_graph(name: str):
    pcm = speech(80 if name.endswith("8k") else 160)
    size, rate = name.split("_")
    layers = weights.whole(weights.in_float(arrays(name)))
    graph = build(Geometry.of(size, int(rate.removesuffix("k")) * 1000), layers, int8=False)
    wanted = engine(graph.SerializeToString(), pcm)
    np.testing.assert_allclose(device(weights.in_float(arrays(name)), "fp32", pcm), wanted, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_rounds_like_the_shipped_int8_graphs(name: str):
    """More than the float32 network of the same weights comes near (50 dB), and bf16 stays above its limit of 40."""
    pcm = speech(80 if name.endswith("8k") else 160)
    wanted = engine(str(ROOT / f"models/{name}.onnx"), pcm)
    assert snr_db(device(arrays(name), "fp32", pcm), wanted) > 60
    assert snr_db(device(arrays(name), "bf16", pcm), wanted) > 48


def test_bf16_scores_the_same_pesq():
    pesq = pytest.importorskip("pesq", reason="pesq is not installed").pesq
    clean, rate = soundfile.read(ROOT / "tests/audio/clean_8k.wav", dtype="float32")
    noisy, _ = soundfile.read(ROOT / "tests/audio/noisy_8k.wav", dtype="int16")
    pcm = noisy[: len(noisy) // 80 * 80].reshape(1, -1, 80)
    heard = engine(str(ROOT / "models/standard_8k.onnx"), pcm), device(arrays("standard_8k"), "bf16", pcm)
    one, two = (pesq(rate, clean[: x.size - 80], x[0, 80:], "nb") for x in heard)
    assert abs(one - two) < 0.02


def test_a_stream_does_not_hear_its_neighbours_and_begins_anew_at_its_reset():
    """Streams come and go, in any order and batch; each is what it is alone."""
    found, pcm = arrays("light_8k"), speech(80)
    alone = [device(found, "fp32", pcm[row : row + 1])[0] for row in range(3)]
    net, out = DeviceNetwork(found, 80, "cpu", "fp32"), {row: [] for row in range(3)}
    rng, at = np.random.default_rng(0), np.zeros(3, int)
    net.step(np.arange(70), rng.integers(-9999, 9999, (70, 80), np.int16), control(70), np.ones(70, bool))
    while at.min() < 100:
        rows = rng.permutation(3)[: rng.integers(1, 4)]
        answer, _ = net.step(rows * 7, pcm[rows, at[rows]], control(len(rows)), at[rows] == 0)
        for row, frame in zip(rows, answer, strict=True):
            out[row].append(frame.copy())
        at[rows] += 1
    for row in range(3):
        np.testing.assert_array_equal(np.concatenate(out[row][:100]) * np.float32(STEP), alone[row][: 100 * 80])


def test_a_smallest_gain_of_one_only_delays():
    pcm = speech(80)
    net = DeviceNetwork(arrays("light_8k"), 8, "cpu", "bf16")
    out = [
        net.step(np.arange(3), pcm[:, t], np.ones((3, 2), np.float32), np.zeros(3, bool))[0].copy() for t in range(50)
    ]
    np.testing.assert_array_equal(np.stack(out[1:], axis=1), pcm[:, :49])


def test_loud_silence_and_any_control_give_finite_audio():
    net = DeviceNetwork(arrays("light_8k"), 8, "cpu", "bf16")
    for pcm in (np.full((2, 80), -32768, np.int16), np.zeros((2, 80), np.int16)) * 20:
        answer, prob = net.step(np.arange(2), pcm, np.array([[0, 0], [1, 1]], np.float32), np.zeros(2, bool))
        assert answer.dtype == np.int16 and np.isfinite(prob).all() and (prob >= 0).all() and (prob <= 1).all()


@pytest.mark.parametrize("slots", [[0, 0], [-1, 1], [0, 8]])
def test_slots_that_are_none_are_refused(slots: list[int]):
    net = DeviceNetwork(arrays("light_8k"), 8, "cpu", "fp32")
    with pytest.raises(ValueError, match="unique and from 0 to 7"):
        net.step(np.array(slots), np.zeros((2, 80), np.int16), control(2), np.zeros(2, bool))
    with pytest.raises(ValueError, match=r"expected pcm \[1, 80\]"):
        net.step(np.array([1]), np.zeros((1, 160), np.int16), control(1), np.zeros(1, bool))


def test_arrays_survive_a_file_and_other_graphs_are_refused(tmp_path):
    weights.main([str(ROOT / "models/light_8k.onnx"), str(tmp_path / "weights.npz")])
    with np.load(tmp_path / "weights.npz") as stored:
        found = dict(stored)
    pcm = speech(80)[:1, :20]
    np.testing.assert_array_equal(device(found, "fp32", pcm), device(arrays("light_8k"), "fp32", pcm))
    import onnx

    other = onnx.load(ROOT / "models/light_8k.onnx")
    del other.graph.initializer[:10]
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="no graph of ours"):
        weights.read(tmp_path / "other.onnx")


def test_it_imports_nothing_of_ours():
    """A Triton server gets this file alone."""
    source = (ROOT / "gateway/denoise/triton/device_network.py").read_text()
    imported = [line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert {name.split(".")[0] for name in imported} == {"__future__", "collections", "typing", "numpy", "torch"}


def test_a_stream_that_has_no_numbers_says_so_and_begins_anew():
    net, pcm = DeviceNetwork(arrays("light_8k"), 8, "cpu", "fp32"), speech(80)
    spoilt, slots = np.array([[np.nan, 1], [LEAST_GAIN, 1]], np.float32), np.arange(2)
    _, prob = net.step(slots, pcm[:2, 0], spoilt, np.ones(2, bool))
    assert np.isnan(prob[0]).all() and np.isfinite(prob[1]).all()
    net.step(slots, pcm[:2, 1], np.full((2, 2), np.nan, np.float32), np.zeros(2, bool))
    other = DeviceNetwork(arrays("light_8k"), 8, "cpu", "fp32")
    for t in range(2, 9):
        reset = np.full(2, t == 2)
        ours, theirs = (each.step(slots, pcm[:2, t], control(2), reset)[0].copy() for each in (net, other))
        np.testing.assert_array_equal(ours, theirs)

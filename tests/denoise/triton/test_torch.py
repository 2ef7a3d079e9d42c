"""A repository of `export-triton --runtime torch` on the real server, on the CPU: the same audio as embedded."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from gateway.cli import main
from gateway.denoise.engines import graph_path
from gateway.denoise.ort import OrtEngine
from gateway.denoise.triton import arrays
from gateway.denoise.triton.engine import TritonEngine
from models.networks import geometry, graph
from tests.denoise.tools import recording
from tests.denoise.triton.servers import ROOT, Triton, connected, largest_difference, quantised, run, submit

SLOTS = 40


@pytest.fixture(scope="module")
def server(tritonserver, tmp_path_factory):
    home = Path(os.environ.get("TRITON_HOME", ROOT / ".triton"))
    if not any(home.glob("venv/lib/python*/site-packages/torch")):
        pytest.skip("the server's Python has no torch: deploy/triton/local.sh --torch --setup")
    folder = tmp_path_factory.mktemp("torch") / "repository"
    for model in ("light", "standard_fp32"):
        Triton.export(folder, model, runtime="torch")
    server = Triton(folder).start()
    yield server
    server.kill()


def engines(server, model: str) -> tuple[TritonEngine, OrtEngine]:
    """Remote, embedded."""
    remote = TritonEngine((server.endpoint,), (f"{model}_8k", ""), 8000, SLOTS, 1.0)
    return connected(remote), OrtEngine(graph_path(model, 8000), SLOTS)


def test_in_float32_the_output_equals_the_embedded_engines(server):
    remote, embedded = engines(server, "standard_fp32")
    worst = largest_difference(remote, embedded, SLOTS, probability_atol=1e-4)
    print(f"largest difference {worst:.1e}")
    assert worst < 1e-4, worst


def test_with_int8_products_it_rounds_like_the_embedded_engine(server):
    remote, embedded = engines(server, "light")
    frames = recording("noisy_8k.wav", 8000, 3.0)[None]
    ours, theirs = (
        np.concatenate([run(each, [3], frames[:, at : at + 50]).frames[0] for at in range(0, 300, 50)])
        for each in (remote, embedded)
    )
    ratio_db = 10 * np.log10((theirs**2).sum() / ((ours - theirs) ** 2).sum())
    print(f"signal to difference {ratio_db:.1f} dB")
    assert ratio_db > 60, ratio_db


@pytest.mark.parametrize("runtime", ["server", "triton"])
def test_a_row_without_numbers_begins_anew_and_no_other_notices(runtime, request):
    """`server` is torch, `triton` ONNX Runtime; that no number reaches the network is the fault."""
    remote, embedded = engines(request.getfixturevalue(runtime), "light")
    frames, other = quantised(3, 4), quantised(1, 1, 7)
    slots, ones, control = np.arange(3), np.ones(3, int), np.tile(np.array([[0.1, 1.0]], np.float32), (3, 1))
    poisoned = control.copy()
    poisoned[1] = np.nan
    for step, given in enumerate((control, poisoned, control, control)):
        ours = remote.collect(remote.submit(slots, frames[:, step : step + 1], ones, given), np.inf)
        theirs = run(embedded, slots, frames[:, step : step + 1])
        spoilt = ~np.isfinite(ours.frames).all(axis=(1, 2))
        assert spoilt.tolist() == [False, step == 1, False]
        np.testing.assert_allclose(ours.frames[[0, 2]], theirs.frames[[0, 2]], atol=1e-3)
        if step == 1:
            embedded.reset(np.array([1]))
        elif step > 1:
            np.testing.assert_allclose(ours.frames[1], theirs.frames[1], atol=1e-3)
    assert np.isfinite(remote.collect(submit(remote, [39], other), np.inf).frames).all()


def test_the_command_writes_what_a_server_needs_and_no_more(tmp_path, capsys):
    assert main(["export-triton", str(tmp_path), "--model", "light", "--runtime", "torch", "--device", "gpu"]) == 0
    files = {path.name for path in (tmp_path / "light_8k" / "1").iterdir()}
    assert files == {"model.py", "device_network.py", "weights.npz"}
    text = (tmp_path / "light_8k" / "config.pbtxt").read_text()
    assert '"runtime" value { string_value: "torch" }' in text
    assert '"precision" value { string_value: "bfloat16" }' in text
    assert "gpu with torch, bfloat16" in capsys.readouterr().out


def test_a_graph_that_is_not_of_our_design_is_refused(tmp_path, capsys):
    other = onnx.load(graph_path("light", 8000))
    other.graph.initializer.remove(next(each for each in other.graph.initializer if each.name == "cosines"))
    onnx.save(other, tmp_path / "odd_8k.onnx")
    card = json.loads(graph_path("light", 8000).with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256((tmp_path / "odd_8k.onnx").read_bytes()).hexdigest()
    (tmp_path / "odd_8k.json").write_text(json.dumps(card))
    arguments = ["--model", str(tmp_path / "odd"), "--runtime", "torch"]
    assert main(["export-triton", str(tmp_path / "repository"), *arguments]) == 2
    assert "cosines is missing" in capsys.readouterr().err


def test_constants_are_those_that_the_graphs_are_built_with():
    assert {
        "log_power_floor": geometry.LOG_POWER_FLOOR,
        "reference_log_power": geometry.REFERENCE_LOG_POWER,
        "level_attack": geometry.LEVEL_ATTACK,
        "level_release": geometry.LEVEL_RELEASE,
        "feature_scale": geometry.FEATURE_SCALE,
        "feature_range": graph.FEATURE_RANGE,
        "norm_range": graph.NORM_RANGE,
        "memory_range": graph.MEMORY_RANGE,
        "head": len(geometry.HEAD),
    } == arrays.SCALARS


@pytest.mark.parametrize("name", ["light", "standard"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_graph_says_how_fast_its_gains_close(name, rate):
    release = arrays.read(graph_path(name, rate))["gain_release"]
    assert release.shape == () and release == np.float32(geometry.RELEASE)

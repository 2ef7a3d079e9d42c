"""Every design of a network, untrained: its graph is its torch module, and keeps what the engine relies on."""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="models/requirements-train.txt is not installed")
onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402  # wants torch

from models.networks import geometry  # noqa: E402  # wants torch
from models.networks.convtasnet import Bend, Spread  # noqa: E402  # wants torch
from models.networks.designs import DESIGNS  # noqa: E402  # wants torch
from models.networks.edge import LARGEST_FILE  # noqa: E402  # wants torch
from models.networks.geometry import LANES  # noqa: E402  # wants torch
from models.networks.growth import grow, of_graph  # noqa: E402  # wants torch
from models.networks.network import Denoiser  # noqa: E402  # wants torch

RATES = (8000, 16000)
FRAMES = 140
"""More than any design remembers exactly."""


@cache
def network(name: str, rate: int) -> Denoiser:
    """With weights that differ enough from their start to show what they do."""
    torch.manual_seed(3)
    net = DESIGNS[name](rate).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += torch.randn_like(parameter) * 0.3 * parameter.square().mean().sqrt().clamp(min=0.02)
    return net


@cache
def session(name: str, rate: int, int8: bool) -> onnxruntime.InferenceSession:
    return opened(network(name, rate).graph(int8))


def opened(model) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(graph: onnxruntime.InferenceSession, pcm: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, ...]:
    """pcm [n, samples], control [n, 2] -> (pcm [n, samples], last state, probabilities [frames, n, 4])."""
    hop, width = (graph.get_inputs()[i].shape[1] for i in (0, 1))
    state, audio, probabilities = np.zeros((len(pcm), width), np.float32), [], []
    for at in range(0, pcm.shape[1], hop):
        feed = {"pcm": np.ascontiguousarray(pcm[:, at : at + hop]), "state": state, "control": control}
        out, state, prob = graph.run(None, feed)
        audio.append(out)
        probabilities.append(prob)
    return np.concatenate(audio, axis=1), state, np.stack(probabilities)


def sound(rate: int, rows: int, frames: int = FRAMES) -> np.ndarray:
    """Noise that swells and fades, each row louder than the one before."""
    samples = frames * rate // 100
    swell = 1 + np.sin(np.arange(samples) * 20 / rate)
    noise = np.random.default_rng(7).standard_normal((rows, samples)) * swell
    return (noise * np.geomspace(0.005, 0.2, rows)[:, None]).astype(np.float32)


def wish(rows: int, least: float = 0.0) -> np.ndarray:
    """Rows keep music and not, in turn."""
    return np.stack([np.full(rows, least), np.arange(rows) % 2], axis=1).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_the_graph_is_the_network_frame_by_frame(name: str, rate: int):
    pcm, control = sound(rate, 3), wish(3)
    with torch.no_grad():
        audio, logits = network(name, rate)(torch.tensor(pcm), torch.tensor(control[:, 1]))
    out, _, prob = run(session(name, rate, int8=False), pcm, control)
    np.testing.assert_allclose(out, audio.numpy(), atol=1e-4)
    np.testing.assert_allclose(prob, torch.sigmoid(logits).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_int8_is_near_float32(name: str):
    pcm, control = sound(8000, 3), wish(3)
    exact, near = (run(session(name, 8000, int8), pcm, control)[0] for int8 in (False, True))
    assert np.square(near - exact).sum() < 0.01 * np.square(exact).sum()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_a_smallest_gain_of_one_only_delays(name: str, rate: int):
    net, pcm = network(name, rate), sound(rate, 3)
    out = run(session(name, rate, int8=True), pcm, wish(3, least=1.0))[0]
    np.testing.assert_allclose(out[:, net.delay :], pcm[:, : -net.delay], atol=1e-6)


@pytest.mark.parametrize("int8", (True, False))
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_a_call_does_not_depend_on_who_shares_its_batch(name: str, rate: int, int8: bool):
    graph, pcm, control = session(name, rate, int8), sound(rate, 37, frames=20), wish(37)
    together = run(graph, pcm, control)
    for rows in (slice(0, 1), slice(36, 37), slice(5, 12)):
        for alone, part in zip(run(graph, pcm[rows], control[rows]), together, strict=True):
            np.testing.assert_array_equal(alone, part[:, rows] if part.ndim == 3 else part[rows])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_all_that_is_remembered_comes_in_multiples_of_a_vector(name: str, rate: int):
    g = network(name, rate).geometry
    assert all(width % LANES == 0 for width in g.state_parts)
    assert session(name, rate, True).get_inputs()[1].shape[1] == sum(g.state_parts)


@pytest.mark.parametrize("name", sorted(DESIGNS))
def test_training_hears_no_future(name: str):
    net, pcm = network(name, 8000), torch.tensor(sound(8000, 2))
    other = pcm.clone()
    other[:, 70 * 80 :] = 0.3
    with torch.no_grad():
        (one, one_head), (two, two_head) = (net(x, torch.ones(2)) for x in (pcm, other))
    torch.testing.assert_close(one[:, : 70 * 80], two[:, : 70 * 80], atol=1e-6, rtol=0)
    torch.testing.assert_close(one_head[:70], two_head[:70], atol=1e-5, rtol=0)
    assert not torch.allclose(one, two)


@pytest.mark.parametrize("name", sorted(set(DESIGNS) - {"edge"}))
def test_a_wide_band_network_grown_from_a_narrow_band_one_keeps_its_blocks(name: str):
    narrow, wide = network(name, 8000).state_dict(), DESIGNS[name](16000)
    grow(narrow, wide)
    kept = [torch.equal(value, wide.state_dict()[key]) for key, value in narrow.items() if key.startswith("blocks.")]
    assert kept and all(kept)


@pytest.mark.parametrize("name", ["light", "standard"])
def test_training_can_start_from_a_shipped_graph(name: str, tmp_path: Path):
    trained = network(name, 16000).state_dict()
    for int8, nearness in ((False, 0.0), (True, 0.02)):
        onnx.save(network(name, 16000).graph(int8), tmp_path / "shipped.onnx")
        net = DESIGNS[name](16000)
        grow(of_graph(tmp_path / "shipped.onnx"), net)
        for key, value in net.state_dict().items():
            torch.testing.assert_close(value, trained[key], atol=nearness * float(trained[key].abs().max()), rtol=0)


def test_a_graph_of_another_design_is_refused_as_a_start(tmp_path: Path):
    onnx.save(network("convtasnet", 8000).graph(), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="no graph of ours"):
        of_graph(tmp_path / "other.onnx")


def test_the_conv_tasnets_gradients_are_right():
    torch.manual_seed(0)
    x = torch.randn(11, 2, 3, dtype=torch.double, requires_grad=True)
    taps = torch.randn(3, 3, dtype=torch.double, requires_grad=True)
    slope = torch.tensor(0.3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, taps: Spread.apply(x, taps, 4), (x, taps))
    assert torch.autograd.gradcheck(Bend.apply, (x, slope))


@pytest.mark.parametrize("rate", RATES)
def test_the_edge_graph_is_small_and_computes_the_tables_it_does_not_store(rate: int):
    net, pcm = network("edge", rate), sound(rate, 2, frames=40)
    assert len(net.graph(int8=True).SerializeToString()) < LARGEST_FILE
    stored, computed = (opened(model) for model in (Denoiser.graph(net, False), net.graph(False)))
    np.testing.assert_allclose(run(computed, pcm, wish(2))[0], run(stored, pcm, wish(2))[0], atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_the_edge_tflite_file_with_a_plain_fft_around_it_does_what_the_graph_does(rate: int):
    pytest.importorskip("ai_edge_litert")
    from models import tflite

    net, pcm = network("edge", rate), sound(rate, 1, frames=100)
    written = tflite.build(net.geometry, net.weights())
    assert len(written) < LARGEST_FILE
    out, prob = on_a_device(written, net.geometry, pcm[0])
    for int8, audio_error, prob_error in ((False, 1e-4, 0.01), (True, 3e-3, 0.05)):
        wanted, _, wanted_prob = run(session("edge", rate, int8), pcm, np.array([[0, 1]], np.float32))
        assert np.square(out - wanted[0]).sum() < audio_error * np.square(wanted).sum()
        np.testing.assert_allclose(prob, wanted_prob[:, 0], atol=prob_error)


def test_the_tflite_file_lies_beside_the_graph_and_in_its_card(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    from models import export, tflite

    monkeypatch.setattr(export, "FOLDER", tmp_path)
    (tmp_path / "edge_8k.json").write_text('{"name": "edge_8k"}')
    tflite.write(8000, untrained=True)
    written, card = (tmp_path / "edge_8k.tflite").read_bytes(), json.loads((tmp_path / "edge_8k.json").read_text())
    assert len(written) < LARGEST_FILE
    tflite_entry = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    assert card == {"name": "edge_8k", "tflite": tflite_entry}


def on_a_device(written: bytes, g: geometry.Geometry, pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `networks/edge.py` tells a device to do, with NumPy's transform. pcm [samples] -> (pcm, probabilities)."""
    from ai_edge_litert.interpreter import Interpreter

    step = Interpreter(model_content=written, num_threads=1).get_signature_runner()
    widths = {"level": 1, "before": g.bins, "gains": g.bins} | {f"memory{i}": g.width for i in range(g.blocks)}
    memories = {name: np.zeros((1, width), np.float32) for name, width in widths.items()}
    window, synthesis = geometry.analysis_window(g), geometry.synthesis_window(g)
    heard = np.concatenate([np.zeros(g.history), pcm])
    out, probabilities = np.zeros(len(pcm) + g.hop), []
    for at in range(0, len(pcm), g.hop):
        spectrum = np.fft.rfft(heard[at : at + g.window] * window) / window.sum()
        power = np.abs(spectrum) ** 2
        power[0] += power[-1]
        log_power = np.log(power[: g.bins] + geometry.LOG_POWER_FLOOR).astype(np.float32)[None]
        answer = step(log_power=log_power, keep_music=np.ones((1, 1), np.float32), **memories)
        memories = {name: answer[f"new_{name}"] for name in memories}
        mask = np.append(memories["gains"], memories["gains"][0, 0])
        clean = np.fft.irfft(spectrum * mask) * window.sum()
        out[at : at + 2 * g.hop] += clean[-2 * g.hop :] * synthesis
        probabilities.append(answer["prob"][0])
    return out[: len(pcm)], np.array(probabilities)

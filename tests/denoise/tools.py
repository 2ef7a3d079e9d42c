"""What the tests of engines share: streams through an engine, and small ONNX graphs with known behaviour."""

from pathlib import Path

import numpy as np
import onnx
import soundfile
import soxr
from onnx import TensorProto, helper, numpy_helper

AUDIO = Path(__file__).parents[1] / "audio"


def noise(rows: int, frames: int, hop: int, seed: int = 0) -> np.ndarray:
    """float32 [rows, frames, hop]."""
    return np.random.default_rng(seed).normal(0, 0.05, (rows, frames, hop)).astype(np.float32)


def recording(name: str, rate: int, seconds: float, start: float = 2.0) -> np.ndarray:
    """A part of a recording of tests/audio, float32 [frames, hop] of 10 ms."""
    pcm, own = soundfile.read(AUDIO / name, dtype="float32", start=round(start * 8000), frames=round(seconds * 8000))
    pcm = pcm if own == rate else soxr.resample(pcm, own, rate)
    return np.ascontiguousarray(pcm.reshape(-1, rate // 100), np.float32)


def run(engine, slots, frames, counts=None, gain: float = 0.0) -> np.ndarray:
    """Clean frames of slots, all with one smallest gain."""
    slots = np.asarray(slots)
    counts = np.full(len(slots), frames.shape[1]) if counts is None else np.asarray(counts)
    control = np.tile(np.array([[gain, 1.0]], np.float32), (len(slots), 1))
    return engine.collect(engine.submit(slots, frames, counts, control), np.inf).frames


def stream(engine, slot: int, frames: np.ndarray, gain: float = 0.0) -> np.ndarray:
    """One slot's audio as samples: frames float32 [k, hop]."""
    return run(engine, [slot], frames[None], gain=gain).reshape(-1)


def save(path: Path, nodes: list, inputs: dict, outputs: dict, constants: dict | None = None) -> Path:
    """An ONNX graph of float32 tensors; shapes by name, texts in them stay open."""

    def tensors(shapes: dict) -> list:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        [helper.make_node(kind, takes, gives, **extra) for kind, takes, gives, extra in nodes],
        "small", tensors(inputs), tensors(outputs), weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path


def echo(folder: Path, hop: int, batch: str | int = "n") -> Path:
    """A graph on PCM: half of this hop, and a quarter of the hop before, which is its state."""
    nodes = [
        ("Transpose", ["before"], ["turned"], {"perm": [1, 0, 2]}),
        ("Mul", ["x", "half"], ["now"], {}),
        ("Mul", ["turned", "quarter"], ["then"], {}),
        ("Add", ["now", "then"], ["y"], {}),
        ("Transpose", ["x"], ["after"], {"perm": [1, 0, 2]}),
    ]
    shapes = {"x": [batch, 1, hop], "before": [1, batch, hop]}
    outputs = {"y": shapes["x"], "after": shapes["before"]}
    return save(folder / "echo.onnx", nodes, shapes, outputs, {"half": np.float32(0.5), "quarter": np.float32(0.25)})


def gate(folder: Path, bins: int) -> Path:
    """A graph on magnitudes: the mask m / (m + 1), and m's mean over bins as probability of speech."""
    nodes = [
        ("Add", ["m", "one"], ["more"], {}),
        ("Div", ["m", "more"], ["mask"], {}),
        ("ReduceMean", ["mask"], ["voice"], {"axes": [1], "keepdims": 0}),
    ]
    outputs = {"mask": ["n", bins], "voice": ["n"]}
    return save(folder / "gate.onnx", nodes, {"m": ["n", bins]}, outputs, {"one": np.float32(1)})


def vowel(rate: int, frames: int) -> np.ndarray:
    """A held vowel with some vibrato in noise 15 dB below it, nothing above 1 kHz: float32 [frames, hop] of 10 ms."""
    t = np.arange(frames * rate // 100) / rate
    phase = 2 * np.pi * np.cumsum(120 + 3 * np.sin(2 * np.pi * 4 * t)) / rate
    voice = sum(np.exp(-(((120 * k - 500) / 400) ** 2)) * np.sin(k * phase) for k in range(1, 9))
    hiss = np.random.default_rng(0).normal(0, 10 ** (-15 / 20), len(t))
    spectrum = np.fft.rfft(0.1 * (voice / np.std(voice) + hiss))
    spectrum[np.fft.rfftfreq(len(t), 1 / rate) > 1000] = 0
    return np.fft.irfft(spectrum, len(t)).astype(np.float32).reshape(frames, -1)


def click_db(heard: np.ndarray, at: int, rate: int) -> float:
    """Energy above 1.5 kHz in the 80 ms around a sample, against all of it."""
    length = rate * 80 // 1000
    power = np.abs(np.fft.rfft(heard[at - length // 4 :][:length] * np.blackman(length))) ** 2
    return float(10 * np.log10(power[np.fft.rfftfreq(length, 1 / rate) > 1500].sum() / power.sum()))

"""What the tests of the exported graphs share: which there are, how to run one frame by frame, and sounds for them."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

FOLDER = Path(__file__).parents[2] / "models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))
UNLIMITED, UNTOUCHED = (0.0, 1.0), (1.0, 1.0)
"""Smallest gain of the mask; music is kept."""
OUTPUTS = ("pcm_out", "state_out", "prob")


@cache
def card(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


@cache
def session(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])


def step(name: str, pcm: np.ndarray, state: np.ndarray, control: np.ndarray) -> list[np.ndarray]:
    """One frame of [n] rows: (pcm [n, hop], state [n, S], probabilities [n, 4])."""
    return session(name).run(OUTPUTS, {"pcm": np.ascontiguousarray(pcm), "state": state, "control": control})


def run(name: str, pcm: np.ndarray, control: tuple[float, float] = UNLIMITED) -> tuple[np.ndarray, ...]:
    """pcm [n, samples] -> (pcm [n, samples], last state [n, S], probabilities [n, frames, 4])."""
    about = card(name)
    hop, rows = about["hop"], len(pcm)
    state = np.zeros((rows, about["state"]), np.float32)
    wish = np.tile(np.array([control], np.float32), (rows, 1))
    audio, probabilities = [], []
    for at in range(0, pcm.shape[1], hop):
        out, state, prob = step(name, pcm[:, at : at + hop], state, wish)
        audio.append(out)
        probabilities.append(prob)
    return np.concatenate(audio, axis=1), state, np.stack(probabilities, axis=1)


def voice(rate: int, seconds: float, loudness: float = 0.1) -> np.ndarray:
    """A vowel-like sound, float32 [samples]: harmonics of a gliding pitch under two formants, in syllables."""
    t = np.arange(int(rate * seconds)) / rate
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    peaks = lambda f: np.exp(-(((f - 600) / 250) ** 2)) + 0.5 * np.exp(-(((f - 1500) / 350) ** 2))  # noqa: E731
    wave = sum(peaks(k * 120) * np.sin(k * phase) for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t) * 2, 0, 1)
    out = wave * syllables
    return (out * loudness / np.sqrt(np.mean(out**2))).astype(np.float32)


def noise(rate: int, rows: int, seconds: float, loudness: float = 0.05) -> np.ndarray:
    shape = (rows, int(rate * seconds))
    return (np.random.default_rng(5).standard_normal(shape) * loudness).astype(np.float32)


def db(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-14))

"""The exported graphs keep what the engine relies on: their card, their delay, and every call's independence."""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

FOLDER = Path(__file__).parents[2] / "models"
NAMES = ("standard_8k", "standard_16k")
UNLIMITED, UNTOUCHED = (0.0, 1.0), (1.0, 1.0)
"""Smallest gain of the mask; music is kept."""


def card(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


@cache
def session(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])


def run(name: str, pcm: np.ndarray, control: tuple[float, float] = UNLIMITED) -> tuple[np.ndarray, ...]:
    """pcm [n, samples] -> (pcm [n, samples], last state [n, S], probabilities [n, frames, 4])."""
    about = card(name)
    hop, rows = about["hop"], len(pcm)
    state = np.zeros((rows, about["state"]), np.float32)
    wish = np.tile(np.array([control], np.float32), (rows, 1))
    audio, probabilities = [], []
    for at in range(0, pcm.shape[1], hop):
        feed = {"pcm": np.ascontiguousarray(pcm[:, at : at + hop]), "state": state, "control": wish}
        out, state, prob = session(name).run(None, feed)
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


@pytest.mark.parametrize("name", NAMES)
def test_the_card_describes_the_graph_beside_it(name: str):
    about, graph = card(name), session(name)
    assert hashlib.sha256((FOLDER / f"{name}.onnx").read_bytes()).hexdigest() == about["sha256"]
    assert [(i.name, i.shape[1]) for i in graph.get_inputs()] == [
        ("pcm", about["hop"]), ("state", about["state"]), ("control", 2),
    ]  # fmt: skip
    assert [(o.name, o.shape[1]) for o in graph.get_outputs()] == [
        ("pcm_out", about["hop"]), ("state_out", about["state"]), ("prob", 4),
    ]  # fmt: skip
    assert about["hop"] * 100 == about["rate"]
    assert about["state"] % 16 == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_call_does_not_depend_on_who_shares_its_batch(name: str):
    rate = card(name)["rate"]
    mine = (voice(rate, 0.6) + noise(rate, 1, 0.6, 0.02)[0])[None]
    alone = run(name, mine)
    for rows in (2, 7, 64, 200):
        crowd = np.clip(noise(rate, rows, 0.6, 0.8), -1, 1)
        at = rows // 2
        crowd[at] = mine[0]
        together = run(name, crowd)
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], many[at], err_msg=f"{rows} rows")


@pytest.mark.parametrize("name", NAMES)
def test_a_least_gain_of_one_only_delays(name: str):
    about = card(name)
    pcm = noise(about["rate"], 3, 0.5, 0.2)
    out = run(name, pcm, UNTOUCHED)[0]
    np.testing.assert_allclose(out[:, about["delay"] :], pcm[:, : -about["delay"]], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_least_gain_limits_what_is_taken_away(name: str):
    rate = card(name)["rate"]
    pcm = noise(rate, 1, 3.0)
    limited, unlimited = run(name, pcm, (0.25, 1.0))[0], run(name, pcm)[0]
    half = pcm.shape[1] // 2
    assert db(limited[:, half:]) >= db(pcm[:, half:]) - 12.5
    assert db(unlimited[:, half:]) < db(pcm[:, half:]) - 15


@pytest.mark.parametrize("name", NAMES)
def test_silence_stays_silent(name: str):
    out, state, _ = run(name, np.zeros((2, card(name)["rate"]), np.float32))
    assert np.abs(out).max() == 0
    assert np.isfinite(state).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_full_scale_square_wave_gives_finite_sound(name: str):
    rate = card(name)["rate"]
    square = np.sign(np.sin(2 * np.pi * 200 * np.arange(rate) / rate)).astype(np.float32)[None]
    for part in run(name, square):
        assert np.isfinite(part).all()
    assert np.abs(run(name, square)[0]).max() < 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hz", [(697.0, 1209.0), (941.0, 1477.0), (425.0,), (2100.0,)])
def test_tones_pass(name: str, hz: tuple[float, ...]):
    rate = card(name)["rate"]
    t = np.arange(rate * 2) / rate
    tone = sum(0.15 * np.sin(2 * np.pi * f * t) for f in hz).astype(np.float32)[None]
    out = run(name, tone)[0]
    assert abs(db(out[:, rate // 2 :]) - db(tone[:, rate // 2 :])) < 1.5


@pytest.mark.parametrize("name", NAMES)
def test_quiet_and_loud_noise_fall_alike(name: str):
    rate = card(name)["rate"]
    falls = []
    for loudness in (0.005, 0.02, 0.1):
        pcm = noise(rate, 1, 3.0, loudness)
        falls.append(db(run(name, pcm)[0][:, rate:]) - db(pcm[:, rate:]))
    assert max(falls) < -12


@pytest.mark.parametrize("name", NAMES)
def test_a_reset_row_forgets(name: str):
    rate = card(name)["rate"]
    pcm = voice(rate, 0.3)[None]
    run(name, np.clip(noise(rate, 1, 0.3, 0.7), -1, 1))
    np.testing.assert_array_equal(run(name, pcm)[0], run(name, pcm)[0])

"""The loss that hears: it orders sounds as PESQ does, and leaves out what PESQ leaves out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from models.evaluation import metrics

torch = pytest.importorskip("torch")
AUDIO = Path(__file__).parents[2] / "audio"
RATE = 8000


def points(output: np.ndarray, target: np.ndarray) -> float:
    from models.networks.perceptual import Disturbance

    with torch.no_grad():
        sounds = (torch.from_numpy(np.ascontiguousarray(x, np.float32))[None] for x in (output, target))
        return float(Disturbance(RATE).lost(*sounds)[0])


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return soundfile.read(AUDIO / "clean_8k.wav", dtype="float32")[0][: 8 * RATE]


@pytest.fixture(scope="module")
def noise(clean: np.ndarray) -> np.ndarray:
    return soundfile.read(AUDIO / "noisy_8k.wav", dtype="float32")[0][: len(clean)] - clean


def test_what_is_unchanged_loses_nothing(clean: np.ndarray):
    assert points(clean, clean) < 0.02


def test_a_gain_and_the_colour_of_a_line_cost_next_to_nothing(clean: np.ndarray, noise: np.ndarray):
    dull = signal.lfilter([0.6, 0.4], [1.0], clean)
    assert points(clean * 0.3, clean) < 0.05
    assert points(dull, clean) < 0.3 * points(clean + 0.1 * noise, clean)


def test_points_fall_and_rise_with_pesq(clean: np.ndarray, noise: np.ndarray):
    gate = np.repeat(np.random.default_rng(0).random(len(clean) // 160) < 0.9, 160)
    sounds = [clean + share * noise for share in (0.03, 0.1, 0.2, 0.4, 0.7, 1.0)]
    sounds += [signal.lfilter(*signal.butter(4, hz, fs=RATE), clean) + 0.1 * noise for hz in (800, 1500, 2500)]
    sounds += [np.where(gate, clean, 0.1 * clean), np.clip(clean, -0.05, 0.05), clean**3 / np.abs(clean).max() ** 2]
    heard = [points(sound, clean) for sound in sounds]
    pesq = [metrics.pesq_score(np.asarray(sound, np.float32), clean, RATE) for sound in sounds]
    assert np.corrcoef(heard, pesq)[0, 1] < -0.9


def test_it_can_be_learned_from(clean: np.ndarray, noise: np.ndarray):
    from models.networks.perceptual import Disturbance

    output = torch.from_numpy(np.stack([clean + noise, clean, np.zeros_like(clean)])).requires_grad_()
    Disturbance(RATE)(output, torch.from_numpy(np.stack([clean] * 3))).backward()
    assert torch.isfinite(output.grad).all()
    assert output.grad[0].abs().max() > 0


def test_silence_has_nothing_to_lose():
    from models.networks.perceptual import Disturbance

    nothing = torch.zeros(2, RATE)
    assert float(Disturbance(16000)(nothing, nothing)) == 0

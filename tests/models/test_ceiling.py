"""The ceiling of the design: gains that know the speech do as well as windows and release let them."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="models/requirements-train.txt is not installed")

from models import ceiling
from tests.models.conftest import voice

RATE = 8000


def error_db(output: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(np.square(output - clean).sum() / np.square(clean).sum()))


@pytest.fixture
def noisy_and_clean() -> tuple[np.ndarray, np.ndarray]:
    """Two seconds of a voice, and with white noise as loud as it is in all."""
    clean = voice(5, 2, 140)[: 2 * RATE][None].astype(np.float32) / 32768
    noise = np.random.default_rng(0).normal(0, clean.std(), clean.shape).astype(np.float32)
    return clean + noise, clean


def test_gains_that_know_the_speech_are_best_when_they_may_close_at_once(noisy_and_clean: tuple[np.ndarray, ...]):
    noisy, clean = noisy_and_clean
    slow, quick = (error_db(ceiling.perfect(RATE, noisy, clean, release), clean) for release in (0.2, 1.0))
    assert quick < slow - 1 < error_db(noisy, clean) - 5


def test_clean_speech_is_left_alone(noisy_and_clean: tuple[np.ndarray, ...]):
    clean = noisy_and_clean[1]
    assert error_db(ceiling.perfect(RATE, clean, clean, 0.5), clean) < -60

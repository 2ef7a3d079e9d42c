"""Figures of a recording: known levels in, known figures out."""

import numpy as np
import pytest

from gateway.measure import change_db, find_pauses, frame_levels_db

RATE_HZ = 8000


def noise(seconds: float, db: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10 ** (db / 20), round(seconds * RATE_HZ)).astype(np.float32)


def test_levels_are_relative_to_full_scale():
    square = np.ones(1600, np.float32)
    assert frame_levels_db(square, RATE_HZ) == pytest.approx([0.0] * 10)
    assert frame_levels_db(square / 10, RATE_HZ) == pytest.approx([-20.0] * 10)
    assert frame_levels_db(np.zeros(1700, np.float32), RATE_HZ) == pytest.approx([-100.0] * 10)


def test_pauses_are_found_between_words():
    pcm = np.concatenate([noise(1, -40), noise(1, -20), noise(1, -40, seed=1)])
    pauses = find_pauses(pcm, RATE_HZ)
    assert pauses[:44].all() and pauses[106:].all()
    assert not pauses[45:105].any()


def test_a_short_gap_between_words_is_no_pause():
    pcm = np.concatenate([noise(1, -40), noise(0.5, -20), noise(0.1, -40, seed=1), noise(0.5, -20)])
    assert not find_pauses(pcm, RATE_HZ)[50:].any()


def test_the_change_is_that_of_the_chosen_frames():
    before = np.concatenate([noise(1, -40), noise(1, -20)])
    after = before * np.repeat([0.1, 1.0], RATE_HZ).astype(np.float32)
    quiet = np.arange(100) < 50
    assert change_db(before, after, quiet, RATE_HZ) == pytest.approx(-20.0, abs=0.01)
    assert change_db(before, after, ~quiet, RATE_HZ) == pytest.approx(0.0, abs=0.01)


def test_without_frames_there_is_no_figure():
    assert np.isnan(change_db(noise(1, -40), noise(1, -40), np.zeros(50, bool), RATE_HZ))
    assert len(find_pauses(np.zeros(10, np.float32), RATE_HZ)) == 0

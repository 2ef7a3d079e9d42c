"""Figures of a recording: known levels in, known figures out."""

import numpy as np
import pytest

from gateway.measure import change_db, find_pauses, frame_levels_db, snr_db

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


def powers(*levels_db: float) -> list[float]:
    """Mean squares of frames of 10 ms: half a second of each level."""
    return [10 ** (db / 10) for db in levels_db for _ in range(50)]


def test_the_ratio_is_that_of_speech_and_pauses_before_and_after():
    before, after = snr_db(powers(-50, -20, -50), powers(-70, -20, -70), shift=0)
    share = 50 / 60  # five frames of each pause are too near to the speech to be told from it
    assert before == pytest.approx(10 * np.log10(share * (10**3 - 1)), abs=0.01)
    assert after == pytest.approx(10 * np.log10(share * (10**5 - 1)), abs=0.01)


@pytest.mark.parametrize("shift", [0, 1, 7])
def test_what_comes_back_late_is_compared_with_what_it_came_from(shift):
    before = powers(-50, -20, -50)
    late = (powers(-100) + before)[50 - shift :]
    first, second = snr_db(before, late, shift)
    assert first == pytest.approx(second)


def test_digital_silence_is_no_infinite_ratio():
    ratios = snr_db(powers(-200, -20, -200), powers(-200, -20, -200), shift=0)
    assert ratios == pytest.approx((79.2, 79.2), abs=0.1)


@pytest.mark.parametrize("levels", [(), (-50, -50), (-100,)], ids=["none", "only a pause", "silence"])
def test_without_speech_and_pauses_there_is_no_ratio(levels):
    assert snr_db(powers(*levels), powers(*levels), shift=0) is None


def test_what_is_shorter_than_the_delay_has_no_ratio():
    assert snr_db(powers(-50)[:3], powers(-50)[:3], shift=5) is None

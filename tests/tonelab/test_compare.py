"""The measures: on damage of known size they say that size."""

import numpy as np
import pytest

from tests.tonelab import compare, judges, signals

BEEPS = signals.around(signals.progress("425/200,0/200", 2.0))


def test_a_level_change_is_measured_where_the_signal_sounds():
    assert compare.change_db(BEEPS, BEEPS * 0.5, compare.inside(BEEPS)) == pytest.approx(-6.02, abs=0.01)


def test_a_level_change_under_noise_is_the_tones_own():
    noisy = signals.with_noise(BEEPS, 10)
    assert compare.tone_change_db(BEEPS, noisy, 0.5 * BEEPS) == pytest.approx(-6.02, abs=0.1)


def test_a_short_hole_is_found():
    holed = BEEPS.copy()
    holed[4800:4960] *= 0.1
    assert compare.worst_db(BEEPS, holed, compare.inside(BEEPS)) == pytest.approx(-20, abs=0.1)


@pytest.mark.parametrize("late", [0, 40, 160])
def test_edges_are_as_late_as_they_were_made(late):
    moved = compare.edges(BEEPS, BEEPS, np.roll(BEEPS, late))
    assert moved.onsets == pytest.approx(late / 8, abs=0.5)
    assert moved.ends == pytest.approx(late / 8, abs=0.5)


def test_a_clipped_onset_is_late_and_its_end_is_not():
    clipped = BEEPS.copy()
    clipped[4000:4080] = 0
    moved = compare.edges(BEEPS, BEEPS, clipped)
    assert moved.onsets[0] == pytest.approx(10, abs=1)
    assert np.abs(moved.ends).max() < 0.5


def test_a_tone_that_was_eaten_has_no_edges():
    assert (compare.edges(BEEPS, BEEPS, 0.01 * BEEPS).onsets == compare.NOWHERE_MS).all()


def test_identity_begins_after_the_last_difference_and_gaps_do_not_count():
    came = np.ones(100, np.bool_)
    other = bytearray(range(100))
    other[40] = 255
    assert compare.first_identical(bytes(range(100)), bytes(other), came) == 41
    came[40] = False
    assert compare.first_identical(bytes(range(100)), bytes(other), came) == 0


def test_music_that_is_quieter_for_a_while_is_within_a_decibel_for_the_rest():
    tune = np.random.default_rng(0).normal(0, 0.1, 80_000).astype(np.float32)
    dipped = tune.copy()
    dipped[40_000:48_000] *= 0.5
    found = compare.music(tune, dipped, 0, 8000)
    assert 0.75 < found.within < 0.95
    assert found.worst_before_db == pytest.approx(0, abs=0.01)
    assert compare.spectral_distance_db(tune, tune) == 0
    assert compare.spectral_distance_db(tune, dipped) > 0.2


def test_digits_that_are_kept_are_those_in_the_same_order():
    assert judges.kept("123A", "123A") == 4
    assert judges.kept("123A", "1x23") == 3
    assert judges.kept("123A", "") == 0

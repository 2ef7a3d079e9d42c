"""Figures of one clip, on signals whose figures are known."""

import numpy as np
import pytest

from models.evaluation import metrics, testset

RATE = 8000
RNG = np.random.default_rng(4)
SPEECH = (RNG.standard_normal(RATE * 2) * np.repeat([0.1, 0, 0.1, 0], RATE // 2)).astype(np.float32)
NOISE = (RNG.standard_normal(RATE * 2) * 0.01).astype(np.float32)
PAUSES = np.repeat([False, True, False, True], RATE // 2)


@pytest.mark.parametrize("delay", [-300, -1, 0, 7, 240, 480])
def test_alignment_takes_out_a_delay_of_up_to_sixty_milliseconds(delay):
    late = np.roll(SPEECH, delay)
    assert metrics.align(late, SPEECH, RATE)[500:-500] == pytest.approx(SPEECH[500:-500])


def test_alignment_leaves_a_longer_delay_for_the_figures_to_punish():
    assert metrics.si_sdr(metrics.align(np.roll(SPEECH, 900), SPEECH, RATE), SPEECH) < 0


def test_speech_that_is_turned_down_shows_in_its_level_whatever_noise_is_left():
    assert metrics.speech_gain(0.5 * SPEECH, SPEECH) == pytest.approx(-6.02, abs=0.01)
    assert metrics.speech_gain(0.5 * SPEECH + NOISE, SPEECH) == pytest.approx(-6.02, abs=0.15)


def test_noise_that_falls_in_pauses_counts_only_there():
    noisy = SPEECH + NOISE
    output = np.where(PAUSES, 0.1 * noisy, noisy)
    assert metrics.pause_reduction(output, noisy, PAUSES) == pytest.approx(20, abs=0.1)
    assert metrics.pause_reduction(np.where(PAUSES, noisy, 0), noisy, PAUSES) == pytest.approx(0, abs=1e-3)
    assert metrics.pause_reduction(noisy, noisy, np.zeros(len(noisy), bool)) == 0.0


def test_the_ratio_of_signal_to_distortion_ignores_the_level_and_counts_noise():
    noise = NOISE - SPEECH * (NOISE @ SPEECH) / (SPEECH @ SPEECH)
    expected = 10 * np.log10((SPEECH @ SPEECH) / (noise @ noise))
    assert metrics.si_sdr(SPEECH + noise, SPEECH) == pytest.approx(expected, abs=0.05)
    assert metrics.si_sdr(3 * (SPEECH + noise), SPEECH) == pytest.approx(expected, abs=0.05)


def test_a_level_change_is_in_decibels():
    assert metrics.level_change(0.1 * SPEECH, SPEECH) == pytest.approx(-20, abs=0.01)


def test_pauses_are_found_away_from_speech_and_after_the_first_half_second():
    spoken = np.concatenate([np.zeros(RATE), SPEECH[: RATE // 2], np.zeros(RATE)])
    quiet = testset.quiet(spoken, RATE)
    assert not quiet[: RATE // 2].any()
    assert quiet[int(0.55 * RATE) : int(0.75 * RATE)].all()
    assert not quiet[int(0.85 * RATE) : int(1.65 * RATE)].any()
    assert quiet[int(1.75 * RATE) : int(2.3 * RATE)].all()


def test_mel_triangles_peak_at_rising_frequencies_and_have_equal_area():
    filters = metrics.mel_filters(8000, 40)
    assert (np.diff(filters.argmax(axis=1)) > 0).all()
    assert filters.sum(axis=1) == pytest.approx(np.full(40, 0.5), rel=0.02)  # bins are 2 Hz wide


def test_a_tone_stands_out_in_its_own_band_of_the_opinion_networks_features():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    found = metrics.p808_features(tone)
    centre = metrics.mel_filters(320, 120)[:, 20].argmax()  # bin 20 is 1 kHz
    assert found.shape == (100, 120)
    assert found[50].argmax() == pytest.approx(centre, abs=1)
    assert found.max() == pytest.approx(1.0)
    assert found.min() >= -1.0

"""The screen and the fit: what they see of tones, and that nothing else looks like one."""

import numpy as np
import pytest

from gateway.detect.sines import HOP, Screen, fit
from tests.tonelab import signals


def test_the_screen_sees_a_digit_as_two_peaks_and_noise_as_none():
    rows = np.stack([signals.dtmf("5", 40, 0), signals.silence(40)])
    rows[1] = np.random.default_rng(0).normal(0, 0.1, rows.shape[1])
    sight = Screen().see(rows)
    assert sight.tonal[0] > 0.99 > 0.5 > sight.tonal[1]
    assert np.allclose(np.sort(sight.hz[0]), [770, 1336], atol=16)


@pytest.mark.parametrize(("low", "high"), [(697.0, 1209.0), (941.0, 1633.0), (770.0, 1477.0)])
def test_10_ms_give_both_frequencies_of_a_digit(low: float, high: float):
    pcm = signals.through_g711(signals.sine(low, 200.0, -13) + signals.sine(high, 200.0, -13))
    found = fit(np.lib.stride_tricks.sliding_window_view(pcm, HOP + 4)[::HOP])
    assert np.abs(np.median(found.hz / [low, high], axis=0) - 1).max() < 0.002
    assert np.allclose(found.hz / [low, high], 1.0, rtol=0, atol=0.02)
    assert np.allclose(found.dbm0, -13.0, atol=0.5) and np.median(found.rest) < 0.005


def test_a_single_tone_leaves_nothing_to_the_second_sine():
    pcm = signals.sine(1100.0, 200.0, -20)
    found = fit(np.lib.stride_tricks.sliding_window_view(pcm, HOP + 4)[::HOP])
    assert np.allclose(found.dbm0.max(axis=1), -20.0, atol=0.1) and found.rest.max() < 1e-3

"""Resampling in a stream: exact delay, flat speech band, rows apart."""

import numpy as np
import pytest

from gateway.denoise.resample import REACH, Downsampler, Upsampler

FACTORS = [2, 3, 6]


def there_and_back(pcm: np.ndarray, factor: int, chunk: int) -> np.ndarray:
    slots = np.arange(len(pcm))
    up, down = Upsampler(len(pcm), factor), Downsampler(len(pcm), factor)
    parts = np.split(pcm, range(chunk, pcm.shape[1], chunk), axis=1)
    return np.concatenate([down.run(slots, up.run(slots, part)) for part in parts], axis=1)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.85])
def test_a_tone_of_the_speech_band_comes_back_whole_and_exactly_late(factor, share):
    tone = np.sin(np.pi * share * np.arange(800)).astype(np.float32)[None]
    back = there_and_back(tone, factor, 80)
    error = back[0, 200:] - tone[0, 200 - 2 * REACH : -2 * REACH]
    assert 10 * np.log10(np.mean(error**2) / 0.5) < -38


@pytest.mark.parametrize("factor", FACTORS)
def test_the_higher_rate_holds_no_image_of_the_band(factor):
    tone = np.sin(np.pi * 0.8 * np.arange(2000)).astype(np.float32)[None]
    high = Upsampler(1, factor).run(np.arange(1), tone)[0, 200 * factor :]
    power = np.abs(np.fft.rfft(high * np.hanning(len(high)))) ** 2
    band = len(power) // factor
    assert 10 * np.log10(power[band:].sum() / power[:band].sum()) < -45


@pytest.mark.parametrize("factor", FACTORS)
def test_chunks_and_neighbours_change_no_bit(factor):
    pcm = np.random.default_rng(0).normal(0, 0.1, (5, 480)).astype(np.float32)
    whole = there_and_back(pcm, factor, 80)
    for row in range(5):
        np.testing.assert_array_equal(there_and_back(pcm[row : row + 1], factor, 80), whole[row : row + 1])


def test_a_reset_row_is_silent_before_its_next_sample():
    up, loud, quiet = Upsampler(2, 6), np.ones((2, 80), np.float32), np.zeros((2, 80), np.float32)
    up.run(np.arange(2), loud)
    up.reset(np.array([1]))
    after = up.run(np.arange(2), quiet)
    assert np.abs(after[0]).max() > 0.5 and not after[1].any()

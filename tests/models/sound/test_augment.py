"""Rooms, lines and networks of the training mixtures do what their names say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sound import augment, synthesis, tones

RATES = (8000, 16000)
seeds = st.integers(0, 2**32 - 1)


def noise(size: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def db(x: np.ndarray) -> float:
    return 20 * np.log10(augment.rms(x))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", synthesis.NOISES)
@settings(max_examples=8)
@given(seed=seeds)
def test_every_synthetic_noise_is_finite_and_near_level_one(name: str, rate: int, seed: int):
    x = synthesis.make(np.random.default_rng(seed), name, 2 * rate, rate)
    assert x.shape == (2 * rate,)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert 0.05 < augment.rms(x) < 1.01


@given(seed=seeds)
@settings(max_examples=20)
def test_a_siren_never_stands_still(seed: int):
    x = synthesis.siren(np.random.default_rng(seed), 8000, 8000)
    spectrum = np.abs(np.fft.rfft(x.reshape(10, 800) * np.hanning(800)))
    assert len(set(spectrum.argmax(axis=1))) > 1


@pytest.mark.parametrize("rate", RATES)
@given(seed=seeds)
@settings(max_examples=20)
def test_a_room_begins_with_the_direct_sound(rate: int, seed: int):
    whole, early = augment.room(np.random.default_rng(seed), rate)
    assert whole[0] == early[0] == 1
    assert not early[int(augment.EARLY_S * rate) :].any()
    assert 10 * np.log10(np.square(whole[1:]).sum() + 1e-9) < 0.1


def test_several_kernels_give_what_each_gives_alone():
    x, kernels = noise(4000), [noise(200, 1), noise(900, 2)]
    for kernel, together in zip(kernels, augment.convolve(x, *kernels), strict=True):
        np.testing.assert_allclose(together, np.convolve(x, kernel)[: len(x)], atol=1e-4)


@pytest.mark.parametrize("rate", RATES)
def test_a_telephone_band_cuts_both_ends(rate: int):
    gain = augment.telephone_band(np.random.default_rng(0), rate // 2 + 1, rate)
    assert gain[50] < 0.3
    assert gain[3900] < 0.3
    assert gain[1000] > 0.9


@pytest.mark.parametrize("device", augment.DEVICES_DB)
def test_a_device_without_deviation_has_its_own_response(device: str):
    gain = augment.random_response(np.random.default_rng(0), 8001, 16000, 0.0, device)
    np.testing.assert_allclose(20 * np.log10(gain[augment.KNOTS_HZ]), augment.DEVICES_DB[device], atol=0.01)


@pytest.mark.parametrize(("size", "wanted"), [(6400, 3200), (5250, 3200), (3000, 3200)])
def test_resizing_keeps_the_level_and_moves_the_pitch(size: int, wanted: int):
    tone = np.sin(2 * np.pi * 40 * np.arange(size) / size).astype(np.float32)
    out = augment.resize_and_filter(tone, wanted, None)
    assert np.argmax(np.abs(np.fft.rfft(out))) == 40
    np.testing.assert_allclose(augment.rms(out), 2**-0.5, rtol=1e-3)


@given(seed=seeds)
@settings(max_examples=30)
def test_concealment_leaves_what_arrived_alone(seed: int):
    x, rng = noise(8000, seed % 1000), np.random.default_rng(seed)
    missing, repeat = augment.lost_packets(rng, 8000, 8000)
    lags = augment.pitch_lags(x, missing, 8000)
    for out in (augment.conceal(x, missing, repeat, 8000), augment.repeat_pitch(x, lags, 8000)):
        np.testing.assert_array_equal(out[~missing], x[~missing])
        assert np.abs(out).max() <= np.abs(x).max()


def test_a_lost_packet_of_a_steady_voice_is_continued():
    t = np.arange(8000)
    x = sum(np.sin(2 * np.pi * k * t / 64) for k in (1, 2, 3)).astype(np.float32) / 3
    missing = np.zeros(8000, bool)
    missing[1600:1760] = True
    out = augment.repeat_pitch(x, augment.pitch_lags(x, missing, 8000), 8000)
    fade = np.linspace(1, 0.5, 160, dtype=np.float32)
    np.testing.assert_allclose(out[1600:1760], x[1600:1760] * fade, atol=1e-3)


def test_a_burst_of_losses_fades():
    x, missing = noise(8000), np.zeros(8000, bool)
    missing[1600:2400] = True
    out = augment.repeat_pitch(x, augment.pitch_lags(x, missing, 8000), 8000)
    assert db(out[2240:2400]) < db(out[1600:1760]) - 12


def test_speech_is_always_transmitted():
    rng = np.random.default_rng(0)
    for _ in range(20):
        speech = (np.repeat(rng.random(40), 10) > 0.6).astype(np.float32)
        sent = augment.transmitted(rng, speech, 8000)
        assert sent[np.repeat(speech > 0, 80)].all()
        assert not sent.all() or speech.mean() > 0.2


def test_comfort_noise_is_not_louder_than_the_noise_was():
    levels = [augment.rms(augment.comfort_noise(np.random.default_rng(s), 8000, 8000, 0.01)) for s in range(40)]
    assert max(levels) < 0.0101
    assert min(levels) < 1e-5


@pytest.mark.parametrize("rate", RATES)
def test_the_level_of_speech_does_not_count_its_pauses(rate: int):
    speech = noise(2 * rate)
    with_pauses = np.concatenate([speech, np.zeros(4 * rate, np.float32)])
    assert abs(20 * np.log10(augment.active_rms(with_pauses, rate) / augment.active_rms(speech, rate))) < 0.2


@given(seed=seeds)
@settings(max_examples=30)
def test_tones_stay_below_full_scale(seed: int):
    x = tones.tones(np.random.default_rng(seed), 16000, 8000)
    assert x.dtype == np.float32
    assert np.abs(x).max() < 0.7

"""Codec round trips keep sound in its place, in its range and recognisable."""

import numpy as np
import pytest

from models.sound import codecs
from models.sound.codecs import CODECS

NAMES = [(name, bit_rate) for name, codec in CODECS.items() for bit_rate in codec.bit_rates]


def speech_like(rate: int, seed: int = 0, seconds: float = 2.0) -> np.ndarray:
    """Pulses of a changing pitch through two resonances, in syllables: broad enough to find a delay exactly."""
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * rate)) / rate
    pitch = 140 + 60 * np.sin(2 * np.pi * 0.6 * t + seed)
    pulses = np.diff(np.floor(np.cumsum(pitch / rate)), prepend=0)
    ring = np.arange(rate // 50) / rate
    mouth = np.exp(-300 * ring) * (np.sin(2 * np.pi * 600 * ring) + 0.6 * np.sin(2 * np.pi * 1700 * ring))
    sound = np.convolve(pulses + 0.01 * rng.standard_normal(len(t)), mouth)[: len(t)] * np.sin(2 * np.pi * 1.5 * t) ** 2
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def lag(x: np.ndarray, y: np.ndarray) -> int:
    """By how many samples y comes after x. Differences, since codecs shift the phase of the lowest tones."""
    size = 4 * len(x)
    likeness = np.fft.irfft(np.fft.rfft(np.diff(y), size) * np.conj(np.fft.rfft(np.diff(x), size)), size)
    at = int(np.argmax(likeness))
    return at - size if at > size // 2 else at


@pytest.mark.parametrize(("name", "bit_rate"), NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_round_trip_stays_aligned(name: str, bit_rate: int, seed: int):
    x = speech_like(CODECS[name].rate, seed)
    y = codecs.round_trip(x, CODECS[name], bit_rate)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert abs(lag(x, y)) <= 1


@pytest.mark.parametrize("law", ["a", "mu"])
def test_g711_stays_aligned_and_close(law: str):
    x = speech_like(8000)
    y = codecs.g711(x, law)
    assert lag(x, y) == 0
    assert 10 * np.log10(np.square(x).sum() / np.square(x - y).sum()) > 30


def test_gsm_stays_aligned():
    for size in (16000, 15999, 12345):
        x = speech_like(8000)[:size]
        y = codecs.gsm(x)
        assert y.shape == x.shape
        assert abs(lag(x, y)) <= 1


@pytest.mark.parametrize("law", ["a", "mu"])
def test_g711_survives_what_is_too_loud(law: str):
    y = codecs.g711(np.array([-5, -1, 0, 1, 5], np.float32), law)
    assert np.abs(y).max() <= 1
    assert y[0] == y[1]
    assert y[3] == y[4]
    assert abs(y[2]) < 1e-3


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [8000, 7999, 641])
def test_any_length_comes_back_whole(name: str, size: int):
    x = speech_like(CODECS[name].rate)[:size]
    y = codecs.round_trip(x, CODECS[name], CODECS[name].bit_rates[0])
    assert len(y) == size
    assert np.isfinite(y).all()

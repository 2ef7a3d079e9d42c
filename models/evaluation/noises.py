"""Noise of test clips by class, from recordings that training never hears, and from generators of their own.

Nothing here comes from `augment.py`: a change of the training's sounds must never move the test. Every function takes
its random generator and gives float32 [samples] at 16 kHz; the level is set by the caller.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft, signal

from models.heldout import RATE, Recordings

Rng = np.random.Generator
Source = Callable[[Rng, Recordings, float], np.ndarray]
BABBLE_VOICES = (
    "asterisk/fr",
    "asterisk/it_IT_m",
    "asterisk/it_IT_f",
    "speech/nathalie",
    "english/two",
    "english/sense",
)


def recorded(name: str) -> Source:
    return lambda rng, recordings, seconds: recordings.stretch(f"noise/{name}.opus", rng, seconds)


def shaped(rng: Rng, size: int, points_hz: list[float], gains_db: list[float]) -> np.ndarray:
    """Gaussian noise with a spectrum given at some frequencies, straight lines between."""
    spectrum = fft.rfft(rng.standard_normal(size))
    gain = np.interp(np.linspace(0, RATE / 2, len(spectrum)), points_hz, gains_db)
    return fft.irfft(spectrum * np.power(10, gain / 20), size).astype(np.float32)


def room_fan(rng: Rng, recordings: Recordings, seconds: float) -> np.ndarray:
    """Air conditioning or line noise: a falling spectrum with random bumps."""
    points = [0.0, 120, 300, 700, 1500, 3000, 5000, 8000]
    slope = -rng.uniform(1, 5)
    gains = [slope * np.log2(max(p, 60) / 60) + rng.normal(0, 3) for p in points]
    return shaped(rng, int(seconds * RATE), points, gains)


def motor(rng: Rng, recordings: Recordings, seconds: float) -> np.ndarray:
    """A motor under changing load: harmonics that glide, in noise."""
    size = int(seconds * RATE)
    t = np.arange(size) / RATE
    base = rng.uniform(45, 110) * (1 + 0.06 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(base) / RATE
    harmonics = sum(rng.uniform(0.2, 1) * k**-0.7 * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 31))
    air = shaped(rng, size, [0, 200, 1000, 8000], [0.0, 0, -8, -25])
    return (harmonics / np.std(harmonics) + 0.7 * air / np.std(air)).astype(np.float32)


def wind(rng: Rng, recordings: Recordings, seconds: float) -> np.ndarray:
    """Wind on a microphone: rumble below some 300 Hz whose gusts also brighten it. No wind recording is held out."""
    size = int(seconds * RATE)
    corners = int(seconds * 2.5) + 2
    gust = np.interp(np.arange(size), np.linspace(0, size, corners), rng.uniform(0, 1, corners) ** 2)
    flutter = np.abs(signal.lfilter(*signal.butter(1, 12, fs=RATE), rng.standard_normal(size)))
    force = gust * (0.5 + flutter / flutter.mean())
    rumble = shaped(rng, size, [0, 20, 80, 300, 1000, 8000], [-20.0, 0, 0, -12, -32, -60])
    hiss = shaped(rng, size, [0, 100, 600, 2500, 8000], [-30.0, -12, -12, -25, -45])
    return (rumble * force + hiss * force**2).astype(np.float32)


def babble(rng: Rng, recordings: Recordings, seconds: float) -> np.ndarray:
    """Six talkers of held-out voices, each from a random place, loudness within 6 dB."""
    size, out = int(seconds * RATE), np.zeros(int(seconds * RATE), np.float32)
    for voice in BABBLE_VOICES:
        names = recordings.names(voice)
        talk = np.concatenate([recordings.stretch(names[i], rng, 3.5) for i in rng.integers(len(names), size=4)])
        talk = np.roll(np.resize(talk, size), int(rng.integers(size)))
        out += talk / np.float32(np.std(talk) + 1e-6) * np.float32(10 ** (rng.uniform(-6, 0) / 20))
    return out


def typing(rng: Rng, recordings: Recordings, seconds: float) -> np.ndarray:
    """Keystrokes of a recorded mechanical keyboard, pressed and released, in bursts of words."""
    size, keys = int(seconds * RATE), recordings.names("keys/")
    out, at = np.zeros(size + RATE, np.float32), rng.uniform(0, 0.3)
    while at < seconds:
        click = recordings.samples(keys[rng.integers(len(keys))])[:RATE]
        start = int(at * RATE)
        out[start : start + len(click)] += click * np.float32(rng.uniform(0.5, 1.0))
        at += rng.uniform(0.06, 0.2) if rng.random() < 0.85 else rng.uniform(0.4, 1.0)
    return out[:size]


def bangs(rng: Rng, recordings: Recordings, seconds: float) -> np.ndarray:
    """Doors, cups and knocks: a few short ringing blows a second, each with its own resonances."""
    size = int(seconds * RATE)
    out, at = np.zeros(size + RATE, np.float32), rng.uniform(0.1, 0.5)
    while at < seconds:
        t = np.arange(RATE // 2) / RATE
        blow = rng.standard_normal(len(t)) * np.exp(-t / rng.uniform(0.003, 0.02))
        for _ in range(4):
            hz, ring = rng.uniform(90, 3500), rng.uniform(0.02, 0.12)
            blow = blow + rng.uniform(0.2, 0.8) * np.sin(2 * np.pi * hz * t) * np.exp(-t / ring)
        start = int(at * RATE)
        out[start : start + len(t)] += (blow * rng.uniform(0.2, 1.0)).astype(np.float32)
        at += rng.exponential(0.35) + 0.05
    return out[:size]


CLASSES: dict[str, tuple[Source, ...]] = {
    "stationary": (recorded("ambient/heavy-rain"), room_fan, recorded("ambient/dryer"), room_fan,
                   recorded("ambientsounds/heavy-rain")),
    "street": (recorded("ambient/traffic"), recorded("ambient/train")),
    "café": (recorded("ambient/cafe"), recorded("noisekun/coffee"), recorded("blanket/coffee-shop")),
    "babble": (babble, recorded("noisekun/playground"), babble),
    "keyboard": (typing, recorded("ambient/typewriter")),
    "machines": (motor, recorded("blanket/train"), recorded("ambient/windshield-wipers"), recorded("noisekun/train")),
    "transients": (bangs, recorded("ambient/dog-barking")),
    "wind": (wind,),
}  # fmt: skip
"""Class -> its sources, which clips take in turn."""


def noise(kind: str, turn: int, rng: Rng, recordings: Recordings, seconds: float) -> np.ndarray:
    """Noise of a class, float32 [samples] at RATE, RMS one."""
    sources = CLASSES[kind]
    out = sources[turn % len(sources)](rng, recordings, seconds)
    return out / np.float32(np.sqrt(np.mean(np.square(out, dtype=np.float64))) + 1e-9)

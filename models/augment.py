"""Signal damage and synthetic sounds for training mixtures. Plain numpy; every function takes its random generator.

All signals are float32 in -1..1 at the rate in hertz that is named; lengths are in samples.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

Rng = np.random.Generator
DTMF_ROWS, DTMF_COLUMNS = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0, 1633.0)
"""Hertz; ITU-T Q.23."""
PROGRESS = (
    ((425.0,), (1.0, 4.0)), ((425.0,), (0.5, 0.5)), ((425.0,), (8.0, 0.0)), ((425.0,), (0.25, 0.25)),
    ((350.0, 440.0), (8.0, 0.0)), ((440.0, 480.0), (2.0, 4.0)), ((480.0, 620.0), (0.5, 0.5)),
    ((480.0, 620.0), (0.25, 0.25)), ((400.0, 450.0), (0.4, 0.2)), ((400.0,), (0.375, 0.375)),
    ((950.0,), (0.33, 0.0)), ((1400.0,), (0.33, 0.0)), ((1800.0,), (0.33, 0.0)), ((440.0,), (0.2, 3.0)),
    ((1100.0,), (0.5, 3.0)), ((1100.0,), (0.5, 0.5)), ((1100.0,), (4.0, 0.2)), ((1300.0,), (0.6, 0.6)),
    ((2100.0,), (3.0, 0.1)), ((2100.0,), (8.0, 0.0)), ((1000.0,), (1.0, 0.2)),
)  # fmt: skip
"""Dial, busy, ringing, special and fax tones: frequencies in hertz, seconds (on, off). ITU-T E.180, T.30, V.25."""


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)) + 1e-12))


def active_rms(x: np.ndarray, rate: int) -> float:
    """Level of the loud parts: RMS of the 20 ms frames within 25 dB of the 95th percentile's."""
    frame = rate // 50
    power = np.square(x[: len(x) // frame * frame], dtype=np.float64).reshape(-1, frame).mean(axis=1)
    top = np.quantile(power, 0.95)
    return float(np.sqrt(power[power >= top / 316].mean() + 1e-12))


def random_response(rng: Rng, size: int, rate: int, depth_db: float) -> np.ndarray:
    """Smooth random gain of a line or a handset on `size` equally spaced frequencies, 0..rate/2. float32."""
    knots = np.array([0, 100, 300, 800, 1600, 3000, 5000, 8000])
    gains = rng.normal(0, depth_db, len(knots))
    return np.power(10, np.interp(np.linspace(0, rate / 2, size), knots, gains) / 20).astype(np.float32)


def telephone_band(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Gain of a telephone channel: high-pass near 300 Hz, low-pass near 3400 Hz, both random. float32 [size]."""
    hz = np.linspace(0, rate / 2, size) + 1.0
    low, high, order = rng.uniform(120, 350), rng.uniform(3000, 3800), rng.uniform(2, 6)
    gain = 1 / np.sqrt(1 + (low / hz) ** (2 * order)) / np.sqrt(1 + (hz / high) ** 24)
    return gain.astype(np.float32)


def resize_and_filter(x: np.ndarray, size: int, response: np.ndarray | None) -> np.ndarray:
    """Stretches x to `size` samples, band-limited, and applies a gain given on size//2+1 bins."""
    spectrum = fft.rfft(x.astype(np.float32))
    bins = size // 2 + 1
    if len(spectrum) < bins:
        spectrum = np.concatenate([spectrum, np.zeros(bins - len(spectrum), spectrum.dtype)])
    spectrum = spectrum[:bins] * np.float32(size / len(x))
    return fft.irfft(spectrum if response is None else spectrum * response, size).astype(np.float32)


def room(rng: Rng, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """A room's impulse response, and its first 25 ms alone: the part that belongs to the wanted speech."""
    seconds = rng.uniform(0.12, 0.6)
    size = int(rate * min(0.4, seconds))
    t = np.arange(size) / rate
    tail = rng.standard_normal(size) * np.exp(-6.9 * t / seconds)
    tail *= np.power(10, rng.uniform(-18, 0) / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    early = tail.copy()
    early[int(0.025 * rate) :] = 0
    return tail.astype(np.float32), early.astype(np.float32)


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    size = fft.next_fast_len(len(x) + len(kernel), real=True)
    return fft.irfft(fft.rfft(x, size) * fft.rfft(kernel, size), size)[: len(x)].astype(np.float32)


def coloured_noise(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Noise with a random slope and a random spectrum on top."""
    spectrum = fft.rfft(rng.standard_normal(size).astype(np.float32))
    slope = (np.arange(len(spectrum)) + 20.0) ** -rng.uniform(-0.2, 1.2)
    shaped = spectrum * slope * random_response(rng, len(spectrum), rate, 8.0)
    return fft.irfft(shaped, size).astype(np.float32)


def modulation(rng: Rng, size: int, rate: int) -> np.ndarray:
    """A slow random envelope, 1 to 8 corners a second, up to 20 dB deep."""
    corners = max(2, int(size / rate * rng.uniform(1, 8)))
    gains = rng.uniform(-20, 0, corners + 1)
    curve = np.interp(np.arange(size), np.linspace(0, size, corners + 1), gains)
    return np.power(10, curve / 20).astype(np.float32)


def hum(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Mains or motor hum: harmonics of one frequency with random strengths."""
    base = rng.choice([50.0, 60.0, rng.uniform(40, 240)])
    count = int(rng.integers(3, 25))
    orders = np.arange(1, count + 1)[:, None] * base
    orders = orders[orders[:, 0] < rate / 2]
    strength = rng.exponential(1.0, len(orders))[:, None] * (orders / base) ** -rng.uniform(0.2, 1.2)
    t = np.arange(size) / rate
    waves = np.sin(2 * np.pi * orders * t + rng.uniform(0, 6.28, (len(orders), 1)))
    return (strength * waves).sum(axis=0).astype(np.float32)


def clicks(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Short decaying bursts: keyboards, cutlery, doors, line crackle."""
    out = np.zeros(size, np.float32)
    per_second = rng.uniform(1, 15)
    for start in rng.integers(0, size, max(1, int(size / rate * per_second))):
        length = min(int(rate * rng.uniform(0.002, 0.04)), size - start)
        burst = rng.standard_normal(length) * np.exp(-5 * np.arange(length) / max(length, 1))
        out[start : start + length] += (burst * rng.exponential(1.0)).astype(np.float32)
    return out


def tones(rng: Rng, size: int, rate: int) -> np.ndarray:
    """DTMF digits or one progress or fax tone, from a random moment on. Peak near 0.5."""
    return dtmf(rng, size, rate) if rng.random() < 0.5 else progress(rng, size, rate)


def dtmf(rng: Rng, size: int, rate: int) -> np.ndarray:
    out = np.zeros(size, np.float32)
    at, longest = int(rng.uniform(0, 0.5) * rate), rng.choice([0.3, 3.0])  # a digit may be held
    while at < size:
        length = min(int(rng.uniform(0.05, longest) * rate), size - at)
        t = np.arange(length) / rate
        low, high, twist = rng.choice(DTMF_ROWS), rng.choice(DTMF_COLUMNS), rng.uniform(0.5, 1.6)
        out[at : at + length] = 0.25 * (np.sin(2 * np.pi * low * t) + twist * np.sin(2 * np.pi * high * t))
        at += length + int(rng.uniform(0.04, 0.6) * rate)
    return out


def progress(rng: Rng, size: int, rate: int) -> np.ndarray:
    frequencies, (on, off) = PROGRESS[rng.integers(len(PROGRESS))]
    t = np.arange(size) / rate
    wave = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28)) for f in frequencies)
    gate = ((t + rng.uniform(0, on + off)) % (on + off)) < on
    return (0.25 * wave * gate).astype(np.float32)


def g711(x: np.ndarray, law: str) -> np.ndarray:
    """One G.711 round trip; the continuous curves of the standard, cut to eight bits. x, result: float32 -1..1."""
    if law == "mu":
        code = np.round(np.log1p(255 * np.abs(x)) / np.log(256) * 127) / 127
        return (np.sign(x) * (np.power(256.0, np.minimum(code, 1)) - 1) / 255).astype(np.float32)
    a, size = 87.6, np.minimum(np.abs(x), 1)
    scale = 1 + np.log(a)
    curve = np.where(size < 1 / a, a * size, 1 + np.log(np.maximum(a * size, 1))) / scale
    code = (np.floor(curve * 128) + 0.5) / 128
    back = np.where(code < 1 / scale, code * scale / a, np.exp(code * scale - 1) / a)
    return (np.where(x < 0, -back, back)).astype(np.float32)


def lost_packets(rng: Rng, size: int, rate: int) -> tuple[np.ndarray, bool]:
    """bool [size], True where a 20 ms packet is missing, and whether the receiver repeats the one before."""
    count = -(-size * 50 // rate)
    missing = rng.random(count) < rng.uniform(0.01, 0.12)
    missing[0] = False
    return np.repeat(missing, rate // 50)[:size], bool(rng.random() < 0.5)


def conceal(x: np.ndarray, missing: np.ndarray, repeat: bool, rate: int) -> np.ndarray:
    """x with missing packets blanked, or filled with the packet before at half level."""
    packet = rate // 50
    before = np.concatenate([np.zeros(packet, x.dtype), x[:-packet]])
    return np.where(missing, before * 0.5 if repeat else 0, x).astype(np.float32)

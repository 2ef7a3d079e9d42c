"""Tones of the telephone: DTMF digits, call progress, answering and fax tones. The network must let them pass."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator
DTMF_ROWS, DTMF_COLUMNS = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0, 1633.0)
"""Hertz; ITU-T Q.23."""
PROGRESS = (
    ((425.0,), (1.0, 4.0)), ((425.0,), (0.5, 0.5)), ((425.0,), (8.0, 0.0)), ((425.0,), (0.25, 0.25)),
    ((350.0, 440.0), (8.0, 0.0)), ((440.0, 480.0), (2.0, 4.0)), ((480.0, 620.0), (0.5, 0.5)),
    ((480.0, 620.0), (0.25, 0.25)), ((400.0, 450.0), (0.4, 0.2)), ((400.0,), (0.375, 0.375)),
    ((950.0,), (0.33, 0.0)), ((1400.0,), (0.33, 0.0)), ((1800.0,), (0.33, 0.0)), ((440.0,), (0.2, 3.0)),
    ((1100.0,), (0.5, 3.0)), ((1100.0,), (0.5, 0.5)), ((1100.0,), (4.0, 0.2)), ((1300.0,), (0.6, 0.6)),
    ((2100.0,), (3.0, 0.1)), ((2100.0,), (8.0, 0.0)), ((1000.0,), (1.0, 0.2)), ((1000.0,), (0.4, 9.0)),
)  # fmt: skip
"""Dial, busy, ringing, special and fax tones, beeps: frequencies in hertz, seconds (on, off). E.180, T.30, V.25."""


def tones(rng: Rng, size: int, rate: int) -> np.ndarray:
    """DTMF digits or one progress or fax tone, from a random moment on. float32 [size], peak near 0.5."""
    return dtmf(rng, size, rate) if rng.random() < 0.5 else progress(rng, size, rate)


def dtmf(rng: Rng, size: int, rate: int) -> np.ndarray:
    out = np.zeros(size, np.float32)
    at, longest = int(rng.uniform(0, 0.5) * rate), rng.choice([0.3, 3.0])  # a digit may be held
    while at < size:
        length = min(int(rng.uniform(0.05, longest) * rate), size - at)
        low, high, twist = rng.choice(DTMF_ROWS), rng.choice(DTMF_COLUMNS), np.float32(rng.uniform(0.5, 1.6))
        out[at : at + length] = 0.25 * (sine(length, low / rate) + twist * sine(length, high / rate))
        at += length + int(rng.uniform(0.04, 0.6) * rate)
    return out


def progress(rng: Rng, size: int, rate: int) -> np.ndarray:
    frequencies, (on, off) = PROGRESS[rng.integers(len(PROGRESS))]
    wave = sum(sine(size, f / rate, rng.random()) for f in frequencies)
    at = np.arange(size) / rate + rng.uniform(0, on + off)
    return np.where(at % (on + off) < on, np.float32(0.25) * wave, np.float32(0))


def sine(size: int, cycles: float, start: float = 0.0) -> np.ndarray:
    """float32 [size]; cycles: per sample, start: in cycles. The phase is wrapped before it loses precision."""
    return np.sin(np.float32(2 * np.pi) * ((np.arange(size) * cycles + start) % 1).astype(np.float32))

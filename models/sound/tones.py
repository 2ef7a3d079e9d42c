"""Tones of the telephone: DTMF digits, call progress, fax and modems. The network must let them pass."""

from __future__ import annotations

import numpy as np

from models.sound.augment import from_db

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


MODEMS = (
    (980.0, 1180.0, 300.0), (1650.0, 1850.0, 300.0), (1270.0, 1070.0, 300.0), (2225.0, 2025.0, 300.0),
    (1400.0, 1800.0, 45.45), (1400.0, 1800.0, 50.0), (980.0, 1180.0, 110.0), (1300.0, 1700.0, 600.0),
)  # fmt: skip
"""Shift keying: hertz of 1 and of 0, bits a second. V.21, Bell 103, V.18 annexes A and C, V.23."""
CARRIERS = ((2225.0,), (2250.0,), (2250.0, 1800.0), (2100.0,), (2250.0, 550.0), (1650.0,), (1270.0,))
"""Hertz of modems that answer: Bell 103 and 212A, V.22 alone and with guard tones, V.25; marks of V.21 and Bell."""


def tones(rng: Rng, size: int, rate: int) -> np.ndarray:
    """DTMF digits, one progress or fax tone, or a modem, from a random moment on. float32 [size], peak near 0.5."""
    chance = rng.random()
    return (
        dtmf(rng, size, rate)
        if chance < 0.4
        else progress(rng, size, rate)
        if chance < 0.75
        else modem(rng, size, rate)
    )


def modem(rng: Rng, size: int, rate: int) -> np.ndarray:
    """A carrier, then bits or flags (V.21 preamble), then nothing for a while; any of them may be missing."""
    hz = CARRIERS[rng.integers(len(CARRIERS))]
    one, zero, baud = MODEMS[rng.integers(len(MODEMS))]
    bits = np.resize([0, 1, 1, 1, 1, 1, 1, 0], 600) if rng.random() < 0.3 else rng.integers(0, 2, 600)
    lengths = rng.integers(1, int(rng.choice([2, 5])), len(bits))
    keyed = np.repeat(np.where(bits, one, zero), np.diff(np.round(np.cumsum([0, *lengths]) * rate / baud).astype(int)))
    keyed = keyed[: int(rng.uniform(0.3, 4.0) * rate)]
    steady = int(rng.choice([0.0, 0.2, 1.0, 3.5]) * rate)
    wave = np.concatenate([
        np.float32(0.5 / len(hz)) * sum(sine(steady, f / rate, rng.random()) for f in hz),
        0.5 * np.sin(2 * np.pi * np.cumsum(keyed) / rate),
        np.zeros(int(rng.uniform(0.05, 1.0) * rate)),
    ])  # fmt: skip
    return np.resize(np.roll(wave, rng.integers(len(wave))), size).astype(np.float32)


def dtmf(rng: Rng, size: int, rate: int) -> np.ndarray:
    out = np.zeros(size, np.float32)
    at, longest = int(rng.uniform(0, 0.5) * rate), rng.choice([0.3, 3.0])  # a digit may be held
    while at < size:
        length = min(int(rng.uniform(0.035, longest) * rate), size - at)
        low, high = rng.choice(DTMF_ROWS) * error(rng), rng.choice(DTMF_COLUMNS) * error(rng)
        twist = from_db(rng.uniform(-10, 8))
        out[at : at + length] = 0.5 / (1 + twist) * (sine(length, low / rate) + twist * sine(length, high / rate))
        at += length + int(rng.uniform(0.035, 0.6) * rate)
    return out


def error(rng: Rng) -> float:
    """How far a sender's frequency is off: Q.24 lets it be 1.5 %."""
    return 1 + rng.uniform(-0.018, 0.018) * (rng.random() < 0.7)


def progress(rng: Rng, size: int, rate: int) -> np.ndarray:
    frequencies, (on, off) = PROGRESS[rng.integers(len(PROGRESS))]
    wave = sum(sine(size, f / rate, rng.random()) for f in frequencies)
    at = np.arange(size) / rate + rng.uniform(0, on + off)
    return np.where(at % (on + off) < on, np.float32(0.25) * wave, np.float32(0))


def sine(size: int, cycles: float, start: float = 0.0) -> np.ndarray:
    """float32 [size]; cycles: per sample, start: in cycles. The phase is wrapped before it loses precision."""
    return np.sin(np.float32(2 * np.pi) * ((np.arange(size) * cycles + start) % 1).astype(np.float32))

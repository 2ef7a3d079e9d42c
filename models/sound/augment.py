"""What happens to sound on its way through rooms, devices, lines and networks. Plain numpy; every function takes its
random generator.

All signals are float32 in -1..1 at the rate in hertz that is named; lengths are in samples.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import fft

Rng = np.random.Generator
KNOTS_HZ = np.array([0, 100, 300, 800, 1600, 3000, 5000, 8000])
DEVICES_DB = {
    "flat": (0, 0, 0, 0, 0, 0, 0, 0),
    "handset": (-30, -18, -3, 0, 2, 6, -6, -20),
    "headset": (-20, -8, -1, 0, 1, 4, 3, -3),
    "speakerphone": (-35, -22, -8, 3, 0, -1, -4, -10),
    "mobile": (-25, -10, -2, 0, 0, 3, 0, -8),
}
"""Rough gains at the knots of what holds a microphone; random deviations come on top."""
ROOMS_S = ((0.03, 0.09), (0.12, 0.6), (0.6, 1.2))
"""Reverberation times of cars, of rooms and of halls."""
EARLY_S = 0.04
"""Reflections within this belong to the wanted speech; later ones blur it."""


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.dot(x, x) / len(x) + 1e-12))


def active_rms(x: np.ndarray, rate: int) -> float:
    """Level of the loud parts: RMS of the 20 ms frames within 25 dB of the 95th percentile's."""
    power = frame_power(x, rate // 50)
    top = np.partition(power, int(len(power) * 0.95))[int(len(power) * 0.95)]
    return float(np.sqrt(power[power >= top / 316].mean() + 1e-12))


def frame_power(x: np.ndarray, size: int) -> np.ndarray:
    """Mean square of each whole frame. float32 [frames]"""
    frames = x[: len(x) // size * size].reshape(-1, size)
    return np.einsum("ij,ij->i", frames, frames) / np.float32(size)


def from_db(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))


def spread(points: np.ndarray, size: int) -> np.ndarray:
    """float32 [size]: straight lines through equally spaced points."""
    step = -(-size // (len(points) - 1))
    ramp = np.arange(step, dtype=np.float32) / np.float32(step)
    points = points.astype(np.float32)
    return (points[:-1, None] + np.diff(points)[:, None] * ramp).reshape(-1)[:size]


@lru_cache
def knot_weights(size: int, rate: int) -> np.ndarray:
    """float32 [size, knots]: straight lines between the knots, on `size` frequencies 0..rate/2."""
    hz = np.linspace(0, rate / 2, size)
    return np.stack([np.interp(hz, KNOTS_HZ, row) for row in np.eye(len(KNOTS_HZ))], axis=1).astype(np.float32)


@lru_cache
def log_hz(size: int, rate: int) -> np.ndarray:
    """float32 [size]: natural logarithm of the frequencies 0..rate/2, each raised by 1 Hz."""
    return np.log(np.linspace(0, rate / 2, size) + 1.0).astype(np.float32)


def random_response(rng: Rng, size: int, rate: int, depth_db: float, device: str = "flat") -> np.ndarray:
    """Smooth random gain of a line or a device on `size` equally spaced frequencies, 0..rate/2. float32."""
    db = DEVICES_DB[device] + rng.normal(0, depth_db, len(KNOTS_HZ))
    return np.exp(knot_weights(size, rate) @ (db * (np.log(10) / 20)).astype(np.float32))


def telephone_band(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Gain of a telephone channel: high-pass near 300 Hz, low-pass near 3400 Hz, both random. float32 [size]."""
    low, high, order = rng.uniform(120, 350), rng.uniform(3000, 3800), rng.uniform(2, 6)
    hz = log_hz(size, rate)
    below = np.exp(np.float32(2 * order) * (np.float32(np.log(low)) - hz))
    above = np.exp(np.float32(24) * (hz - np.float32(np.log(high))))
    return 1 / np.sqrt((1 + below) * (1 + above))


def resize_and_filter(x: np.ndarray, size: int, response: np.ndarray | None) -> np.ndarray:
    """Stretches x to `size` samples, band-limited, and applies a gain given on size//2+1 bins."""
    spectrum = fft.rfft(x.astype(np.float32, copy=False))
    bins = size // 2 + 1
    if len(spectrum) < bins:
        spectrum = np.concatenate([spectrum, np.zeros(bins - len(spectrum), spectrum.dtype)])
    scale = np.float32(size / len(x))
    return fft.irfft(spectrum[:bins] * (scale if response is None else response * scale), size)


def room(rng: Rng, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """A room's impulse response, and its early part alone: the part that belongs to the wanted speech.

    One in five is a car's: very short and dense; one in ten a hall's.
    """
    seconds = rng.uniform(*ROOMS_S[rng.choice(3, p=[0.2, 0.7, 0.1])])
    size = int(rate * min(0.4, seconds))
    tail = rng.standard_normal(size, dtype=np.float32) * decay(size, seconds * rate)
    tail[: int(0.003 * rate)] = 0
    reflections = rng.integers(1, int(0.025 * rate), 8)
    tail[reflections] += rng.normal(0, 0.5, 8) * np.abs(tail).max()
    tail *= from_db(rng.uniform(-18, 0)) / np.float32(np.sqrt(np.dot(tail, tail)))
    tail[0] = 1.0
    early = tail.copy()
    early[int(EARLY_S * rate) :] = 0
    return tail, early


def decay(size: int, sixty: float) -> np.ndarray:
    """float32 [size]: exponential decay by 60 dB in `sixty` samples."""
    return np.exp(np.arange(size, dtype=np.float32) * np.float32(-6.9 / sixty))


def convolve(x: np.ndarray, *kernels: np.ndarray) -> np.ndarray | list[np.ndarray]:
    """x through one kernel, or through each of several; as long as x."""
    size = fft.next_fast_len(len(x) + max(map(len, kernels)), real=True)
    spectrum = fft.rfft(x, size)
    out = [fft.irfft(spectrum * fft.rfft(k, size), size)[: len(x)] for k in kernels]
    return out[0] if len(out) == 1 else out


def white(rng: Rng, size: int, gain: np.ndarray) -> np.ndarray:
    """Noise with the given gain on its size//2+1 frequencies. float32 [size]"""
    spectrum = rng.standard_normal(2 * (size // 2 + 1), dtype=np.float32).view(np.complex64)
    return fft.irfft(spectrum * (gain * np.float32(np.sqrt(size / 2))), size)


def coloured_noise(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Noise with a random slope and a random spectrum on top."""
    bins = size // 2 + 1
    slope = np.exp(np.float32(-rng.uniform(-0.2, 1.2)) * np.maximum(log_hz(bins, rate), np.float32(3)))
    return white(rng, size, slope * random_response(rng, bins, rate, 8.0))


def modulation(rng: Rng, size: int, rate: int) -> np.ndarray:
    """A slow random envelope, 1 to 8 corners a second, up to 20 dB deep."""
    corners = max(2, int(size / rate * rng.uniform(1, 8)))
    gains = rng.uniform(-20, 0, corners + 1)
    points = np.interp(np.linspace(0, corners, size // (rate // 100) + 1), np.arange(corners + 1), gains)
    return spread(np.power(10, points / 20), size)


def wander(rng: Rng, size: int, rate: int) -> np.ndarray:
    """Gain of a talker who moves, or of a slow automatic control: within about 6 dB. float32 [size]"""
    corners = max(2, int(size / rate * rng.uniform(0.2, 1.5)))
    return spread(np.power(10, rng.normal(0, 3, corners + 1).clip(-8, 8) / 20), size)


def lost_packets(rng: Rng, size: int, rate: int) -> tuple[np.ndarray, bool]:
    """bool [size], True where a 20 ms packet is missing, alone or in bursts; and whether the receiver repeats the one
    before."""
    count = -(-size * 50 // rate)
    begins = rng.random(count) < rng.uniform(0.01, 0.1)
    stays = rng.random(count) < rng.choice([0.0, 0.5])
    missing = begins | (np.roll(begins, 1) & stays) | (np.roll(begins, 2) & stays & np.roll(stays, 1))
    missing[0] = False
    return np.repeat(missing, rate // 50)[:size], bool(rng.random() < 0.5)


def conceal(x: np.ndarray, missing: np.ndarray, repeat: bool, rate: int) -> np.ndarray:
    """x with missing packets blanked, or filled with the packet before at half level."""
    packet = rate // 50
    before = np.concatenate([np.zeros(packet, x.dtype), x[:-packet]])
    return np.where(missing, before * np.float32(0.5) if repeat else np.float32(0), x)


def pitch_lags(x: np.ndarray, missing: np.ndarray, rate: int) -> dict[int, int]:
    """{start of a missing packet: the period, in samples, that the sound before it repeats with best}."""
    packet, shortest, longest = rate // 50, rate // 400, rate // 66
    lags: dict[int, int] = {}
    for at in range(packet, len(x), packet):
        if missing[at]:
            past, recent = x[max(0, at - packet - longest) : at], x[at - packet : at]
            likeness = np.correlate(past, recent)[::-1][shortest:]
            again = missing[at - packet] and at - packet in lags
            lags[at] = lags[at - packet] if again else shortest + int(likeness.argmax()) if len(likeness) else packet
    return lags


def repeat_pitch(x: np.ndarray, lags: dict[int, int], rate: int) -> np.ndarray:
    """x with missing packets filled by its last period, fading in a burst, as ITU-T G.711 Appendix I does."""
    out, packet = x.copy(), rate // 50
    fade = np.linspace(1, 0.5, packet, dtype=np.float32)
    for at, lag in lags.items():
        hole = out[at : at + packet]
        hole[:] = np.resize(out[at - lag : at], len(hole)) * fade[: len(hole)]
    return out


def transmitted(rng: Rng, speech: np.ndarray, rate: int) -> np.ndarray:
    """bool [samples]: when a sender with discontinuous transmission sends; whole 20 ms packets, with a hangover.

    speech: float32 [10 ms frames], 1 where somebody speaks.
    """
    hangover = int(rng.integers(2, 16))
    packets = speech[: len(speech) // 2 * 2].reshape(-1, 2).max(axis=1) > 0
    held = np.convolve(packets, np.ones(hangover))[: len(packets)] > 0
    held[:-1] |= held[1:]
    return np.repeat(held, rate // 50)


def comfort_noise(rng: Rng, size: int, rate: int, loudest: float) -> np.ndarray:
    """What the receiver plays while nothing is sent: digital silence, or stationary noise up to `loudest` (RMS)."""
    if rng.random() < 0.4:
        return np.zeros(size, np.float32)
    bins = size // 2 + 1
    noise = white(rng, size, random_response(rng, bins, rate, 4.0) * telephone_band(rng, bins, rate))
    level = max(loudest * from_db(rng.uniform(-15, 0)), from_db(rng.uniform(-78, -58)))
    return noise * np.float32(level / max(rms(noise), 1e-9))

"""What became of a signal: two recordings of the same length, without the constant delay, measured against each other.

All functions take float32 [samples] at 8 kHz, `before` as the gateway got it (coded and decoded) and `after` as the
far phone did; `clean` is the signal alone where noise was added to it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.tonelab.levels import FRAME, RATE_HZ, Floats, samples, sounding

Bools = npt.NDArray[np.bool_]
NOWHERE_MS = 99.0
"""An edge that is not there any more."""
_NEAR = samples(40)
"""How far an edge is looked for."""
_ENVELOPE = samples(4)
LOUDNESS, LOUDNESS_HOP = samples(400), samples(100)
"""Momentary loudness is that of 400 ms (ITU-R BS.1770)."""
AUDIBLE_DB = -50.0
"""Below the loudest window by more, nothing is heard and nothing is compared."""
SPECTRUM, SPECTRUM_HOP = 256, 128
SPECTRUM_FLOOR_DB = -50.0


def change_db(before: Floats, after: Floats, frames: Bools) -> float:
    """Level after over level before, in the chosen frames of 10 ms; NaN when there are none."""
    powers = [
        np.mean(np.square(_frames(pcm)[frames[: len(pcm) // FRAME]], dtype=np.float64)) for pcm in (before, after)
    ]
    if not frames.any() or not powers[0]:
        return float("nan")
    return float(10 * np.log10(max(powers[1], 1e-12) / powers[0]))


def tone_change_db(clean: Floats, before: Floats, after: Floats) -> float:
    """The same for what of `clean` is in both: noise around it does not count."""
    norm = np.dot(clean, clean)
    shares = [max(float(np.dot(pcm, clean) / norm), 1e-6) for pcm in (before, after)] if norm else [1.0, 1.0]
    return float(20 * np.log10(shares[1] / shares[0]))


def inside(clean: Floats, frames: int = 1) -> Bools:
    """bool [frames of 10 ms]: those that sound, and so do their neighbours on both sides."""
    mask = sounding(clean)
    for _ in range(frames):
        mask = mask & np.append(mask[1:], False) & np.insert(mask[:-1], 0, False)
    return mask


def worst_db(before: Floats, after: Floats, mask: Bools) -> float:
    """The lowest level change of 20 ms within the chosen frames."""
    pairs = mask[:-1] & mask[1:]
    if not pairs.any():
        return float("nan")
    powers = [np.mean(np.square(_frames(pcm), dtype=np.float64), axis=1) for pcm in (before, after)]
    first, then = ((power[:-1] + power[1:])[pairs] for power in powers)
    return float((10 * np.log10((then + 1e-12) / (first + 1e-12))).min())


class Edges(NamedTuple):
    """How far edges moved, ms, later is positive: float [onsets], float [ends]."""

    onsets: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]


def edges(clean: Floats, before: Floats, after: Floats) -> Edges:
    """Where the signal begins and ends after, against before. An edge that is gone counts `NOWHERE_MS`."""
    on = _sounds(clean)
    steps = np.diff(on.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
    envelopes = [_envelope(pcm) for pcm in (before, after)]
    return Edges(
        np.array([_moved(envelopes, at, min(end, at + _NEAR), 1) for at, end in zip(begins, ends, strict=True)]),
        np.array([_moved(envelopes, end, max(at, end - _NEAR), -1) for at, end in zip(begins, ends, strict=True)]),
    )


def _sounds(clean: Floats, bridge: int = samples(8)) -> Bools:
    """bool [samples]: sounds, zero crossings and beats included."""
    on = np.abs(clean) > 1e-4
    at = np.flatnonzero(on)
    for gap in np.flatnonzero((np.diff(at) > 1) & (np.diff(at) <= bridge)):
        on[at[gap] : at[gap + 1]] = True
    return on


def _envelope(pcm: Floats) -> npt.NDArray[np.float64]:
    power = np.convolve(np.square(pcm, dtype=np.float64), np.ones(_ENVELOPE) / _ENVELOPE, "same")
    return np.sqrt(power)


def _moved(envelopes: list[npt.NDArray[np.float64]], edge: int, inner: int, direction: int) -> float:
    """ms by which one edge moved: where the envelope passes half of what the input has beside it."""
    low, high = sorted((edge, inner))
    half = 0.5 * float(np.median(envelopes[0][low:high])) if high > low else 0.0
    places = []
    for envelope in envelopes:
        first, last = max(edge - _NEAR, 0), min(edge + _NEAR, len(envelope))
        above = np.flatnonzero(envelope[first:last] > half)
        if not len(above) or not half:
            return NOWHERE_MS
        places.append(first + (above[0] if direction > 0 else above[-1]))
    return (places[1] - places[0]) * 1000 / RATE_HZ


def reversals(pcm: Floats, hz: float = 2100.0) -> npt.NDArray[np.float64]:
    """Moments, ms, at which a tone's phase turns by half a circle."""
    half = samples(5)
    carrier = np.exp(-2j * np.pi * hz / RATE_HZ * np.arange(len(pcm)))
    base = np.convolve(pcm * carrier, np.ones(half) / half, "same")
    turned = np.real(base[2 * half :] * np.conj(base[: -2 * half]))
    strong = 0.25 * np.median(np.abs(base[np.abs(base) > 1e-4])) ** 2 if (np.abs(base) > 1e-4).any() else np.inf
    at = np.flatnonzero(turned < -strong)
    groups = np.split(at, np.flatnonzero(np.diff(at) > half) + 1) if len(at) else []
    return np.array([(group[0] + group[-1]) / 2 + half for group in groups]) * 1000 / RATE_HZ


def first_identical(before: bytes, after: bytes, came: Bools) -> int:
    """The sample from which on both payloads are the same to their end, where packets came; their length if never.

    before, after: payload bytes without the delay; came: bool [samples].
    """
    size = min(len(before), len(after))
    differ = np.frombuffer(before, np.uint8, size) != np.frombuffer(after, np.uint8, size)
    wrong = np.flatnonzero(differ & came[:size])
    return int(wrong[-1]) + 1 if len(wrong) else 0


class Music(NamedTuple):
    """What became of music."""

    loudness_db: float
    """Change of the loudness of the whole."""
    within: float
    """Share of the windows, from `settled` on, whose loudness is within 1 dB; NaN without windows."""
    worst_before_db: float
    """Lowest change before `settled`."""
    distance_db: float
    """Log-spectral distance, mean over time."""


def music(before: Floats, after: Floats, begins: int, settled: int) -> Music:
    """begins, settled: samples at which the music begins, and from which on it must be whole."""
    at = np.arange(begins, max(len(before) - LOUDNESS, begins) + 1, LOUDNESS_HOP)
    powers = [np.array([np.mean(np.square(pcm[i : i + LOUDNESS])) for i in at]) + 1e-12 for pcm in (before, after)]
    heard = powers[0] > powers[0].max() * 10 ** (AUDIBLE_DB / 10)
    change = 10 * np.log10(powers[1] / powers[0])
    late, early = heard & (at >= settled), heard & (at < settled)
    return Music(
        float(10 * np.log10(powers[1].sum() / powers[0].sum())),
        float(np.mean(np.abs(change[late]) <= 1.0)) if late.any() else float("nan"),
        float(change[early].min()) if early.any() else float("nan"),
        spectral_distance_db(before[settled:], after[settled:]),
    )


def spectral_distance_db(before: Floats, after: Floats) -> float:
    """Log-spectral distance: dB between the spectra, root of the mean square over frequency, mean over time.

    Both spectra have a floor 50 dB below the loudest bin of the frame before: what nobody hears does not count.
    Frames that are silent before are left out.
    """
    if len(before) < SPECTRUM:
        return float("nan")
    spectra = []
    for pcm in (before, after):
        frames = np.lib.stride_tricks.sliding_window_view(pcm, SPECTRUM)[::SPECTRUM_HOP]
        spectra.append(np.abs(np.fft.rfft(frames * np.hanning(SPECTRUM), axis=1)) ** 2)
    peak = spectra[0].max(axis=1, keepdims=True)
    heard = peak[:, 0] > peak.max() * 10 ** (AUDIBLE_DB / 10)
    floor = peak * 10 ** (SPECTRUM_FLOOR_DB / 10) + 1e-12
    apart = 10 * np.log10((spectra[1] + floor) / (spectra[0] + floor))
    return float(np.mean(np.sqrt(np.mean(np.square(apart), axis=1))[heard]))


def _frames(pcm: Floats) -> Floats:
    return pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)

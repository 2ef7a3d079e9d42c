"""Figures of a recording before and after: how much quieter the pauses, how much the speech's level moved.

Used by the `file` command, which must find the pauses itself, and by the demo, which knows them.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

FRAME_S = 0.02
FLOOR_DB = -100.0
"""Digital silence counts as this level, in dB relative to full scale."""
PAUSE_MARGIN_DB = 3.0
FLOOR_PERCENTILE = 10.0
AROUND_FRAMES = 5
"""A pause must be quiet for so many frames before and after, lest the gaps between words count."""


def frame_levels_db(pcm: Floats, rate_hz: int) -> npt.NDArray[np.float64]:
    """Level of each whole 20 ms frame in dB relative to full scale. pcm: float32 [samples], -1..1."""
    size = round(rate_hz * FRAME_S)
    frames = pcm[: len(pcm) // size * size].reshape(-1, size).astype(np.float64)
    return np.asarray(10 * np.log10(np.maximum(np.mean(frames**2, axis=1), 10 ** (FLOOR_DB / 10))))


def find_pauses(pcm: Floats, rate_hz: int) -> Bools:
    """Frames with nothing but the noise: they and those around are close to the tenth percentile of all levels.

    Returns bool [whole 20 ms frames].
    """
    return quiet_frames(frame_levels_db(pcm, rate_hz))


def quiet_frames(levels: npt.NDArray[np.float64]) -> Bools:
    """See `find_pauses`. levels: float64 [frames], in dB; returns bool [frames]."""
    if not len(levels):
        return np.zeros(0, np.bool_)
    quiet = levels <= np.percentile(levels, FLOOR_PERCENTILE) + PAUSE_MARGIN_DB
    around = np.lib.stride_tricks.sliding_window_view(np.pad(quiet, AROUND_FRAMES, mode="edge"), 2 * AROUND_FRAMES + 1)
    return np.asarray(around.all(axis=1))


def change_db(before: Floats, after: Floats, frames: Bools, rate_hz: int) -> float:
    """How much higher the power of these frames is afterwards, in dB; NaN without frames.

    before, after: float32 [samples], aligned; frames: bool [whole 20 ms frames].
    """
    if not frames.any():
        return float("nan")
    powers = [np.mean(10 ** (frame_levels_db(pcm, rate_hz)[: len(frames)][frames] / 10)) for pcm in (before, after)]
    return float(10 * np.log10(powers[1] / powers[0]))


def snr_db(before: Sequence[float], after: Sequence[float], shift: int) -> tuple[float, float] | None:
    """Signal-to-noise ratio before and after, estimated: noise is what pauses have, signal what the rest has more.

    before, after: mean squares of frames of 10 ms; `after` is `shift` frames behind. None without pauses or speech.
    """
    powers = [np.asarray(before[: len(after) - shift]), np.asarray(after[shift:])]
    length = min(map(len, powers))
    floor = 10 ** (FLOOR_DB / 10)
    first, second = (np.maximum(power[:length], floor) for power in powers)
    pauses = quiet_frames(10 * np.log10(first))
    if not pauses.any() or pauses.all():
        return None
    noises = [np.mean(power[pauses]) for power in (first, second)]
    signals = [
        max(np.mean(power[~pauses]) - noise, floor) for power, noise in zip((first, second), noises, strict=True)
    ]
    ratios = [float(10 * np.log10(signal / noise)) for signal, noise in zip(signals, noises, strict=True)]
    return ratios[0], ratios[1]

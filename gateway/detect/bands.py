"""Where the steady tones of faxes and modems lie, and what a frame says of one. Measures for `carriers`.

Each frame of 10 ms is mixed with the middle of its band in two halves: the turn of the phase between them is the
frequency, their power is the tone's, and what is missing to the frame's power is something else.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.detect.sines import HOP, RATE, Bools, Doubles, Ints, Sight, dbm0

NONE = -1
CNG, CALLING, ANSWER, BELL = range(4)


class Band(NamedTuple):
    """Where a tone may lie."""

    hz: float
    within_hz: float


BANDS = (Band(1100.0, 38.0), Band(1300.0, 15.0), Band(2100.0, 15.0), Band(2237.5, 22.5))
"""CNG (ITU-T T.30 section 4), calling tone (V.25), CED, ANS and ANSam (T.30, V.25, V.8), Bell 103 and V.22 answers."""
SLACK_HZ = 2.0
"""A tone this far out of its band is still taken: the error of the measurement."""
SCATTER_HZ = 15.0
"""A frame may lie this far out."""
BIN_HZ = 31.25
NARROW = 0.7
"""Share of the power that the screen's peak needs to be looked at."""
PURE = np.array([0.8, 0.8, 0.8, 0.65])
"""Share that the tone of each band must have of its frames; V.22 may send a guard tone with it, 6 dB below."""
BALANCE = 0.3
"""Power of a frame's weaker half over the stronger one; less is an edge."""
WEAKEST = 10 ** ((-48.0 - 6.18) / 10)
"""Mean square of -48 dBm0: T.30 and V.25 receivers hear to -43 dBm."""


def _band_of_bins() -> npt.NDArray[np.int64]:
    hz = np.arange(129) * BIN_HZ
    out = np.full(len(hz), NONE)
    for index, band in enumerate(BANDS):
        out[np.abs(hz - band.hz) < band.within_hz + BIN_HZ] = index
    return out


def _tables() -> Doubles:
    """float64 [bands, 80, 4]: cosine and sine of each half frame."""
    half, at = HOP // 2, np.arange(HOP)
    out = np.zeros((len(BANDS), HOP, 4))
    for index, band in enumerate(BANDS):
        phase = 2 * np.pi * band.hz * at / RATE
        for start in (0, half):
            part = slice(start, start + half)
            column = 2 * start // half
            out[index, part, column], out[index, part, column + 1] = np.cos(phase[part]), -np.sin(phase[part])
    return out


_BAND_OF_BIN, _TABLES = _band_of_bins(), _tables()
BAND_HZ, WITHIN_HZ = (np.array(column) for column in zip(*BANDS, strict=True))


def bands_of(sight: Sight) -> Ints:
    """int64 [m]: the band in which each row may have a tone, or `NONE`."""
    band = _BAND_OF_BIN[(sight.hz[:, 0] / np.float32(BIN_HZ)).astype(np.int64)]
    band[(sight.peaks[:, 0] < NARROW) | (sight.power < WEAKEST)] = NONE
    return band


class Frames(NamedTuple):
    """What is measured in each frame of the rows, [m, frames] each."""

    good: Bools
    offset_hz: Doubles
    phase: Doubles
    power: Doubles
    """Of all of the frame."""
    level: Doubles
    """Of the tone, dBm0."""


def measure(sound: Doubles, band: Ints) -> Frames:
    """sound: float64 [m, frames, 80]; band: int64 [m]."""
    seen = sound @ _TABLES[band]
    halves = seen[..., ::2] + 1j * seen[..., 1::2]
    powers = np.abs(halves) ** 2
    turn = np.angle(halves[..., 1] * halves[..., 0].conj())
    offset = turn * (RATE / (np.pi * HOP))
    tone = powers.sum(axis=2) / (HOP // 2) ** 2 / np.sinc(offset * (HOP / 2 / RATE)) ** 2
    power = np.einsum("mfi,mfi->mf", sound, sound) / HOP
    good = (
        (tone > PURE[band, None] * power)
        & (power > WEAKEST)
        & (np.abs(offset) < (WITHIN_HZ[band] + SCATTER_HZ)[:, None])
        & (powers.min(axis=2) > BALANCE * powers.max(axis=2))
    )
    return Frames(good, offset, np.angle(halves[..., 0]) + turn / 2, power, dbm0(tone).astype(np.float64))

"""Is this a tone? What every detector of tones stands on.

Two looks at the sound, because one is cheap and the other exact. `Screen` takes the short spectrum of every stream
and says how much of its power one or two narrow peaks hold; speech and noise end here. `fit` measures the frames of
the few streams that are left: two frequencies, their levels, and what two sines cannot explain, from 10 ms alone.
Everything is at 8 kHz.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RATE = 8000
HOP = 80
"""Samples of a 10 ms frame."""
WINDOW = 256
"""Samples that the screen looks at: 32 ms, so that its bins lie 31.25 Hz apart."""
CHUNK = 2 * HOP
"""Samples that a stream is heard in at a time."""
PAST = WINDOW - HOP
"""Samples before a chunk that detectors get to hear again."""
FIRST_BIN, LAST_BIN = 3, 80
"""94 to 2500 Hz: below is hum, above is no tone of a telephone."""
PEAK_BINS = 2
"""Bins to each side of its peak over which a Hann window spreads a steady sine."""
CONTEXT = 4
"""Samples before a frame that `fit` needs, times its lag."""
FULL_SCALE_DBM0 = 3.17
"""Level of a sine of amplitude 1 (ITU-T G.711, mu-law)."""
SILENCE = 1e-12
FSK_BANDS_HZ = ((900, 1260), (1570, 1930), (1320, 1880), (990, 1350), (1945, 2305))
"""Where the shift keying of V.21's two channels, of text telephones (TTY) and of Bell 103's two keeps its power."""


class Sight(NamedTuple):
    """What the screen saw of the last 32 ms of each row; [n] each, shares 0..1 of the power from 94 to 3500 Hz."""

    power: Floats
    """Mean square of the newest 20 ms."""
    peaks: Floats
    """float32 [n, 2]: shares of the two strongest narrow peaks."""
    hz: Floats
    """float32 [n, 2]: where they are, to within a bin (31.25 Hz)."""
    keyed: Floats
    """float32 [n, 5]: share of each of `FSK_BANDS_HZ`."""

    @property
    def tonal(self) -> Floats:
        """float32 [n]: share of both peaks together."""
        tonal: Floats = self.peaks[:, 0] + self.peaks[:, 1]
        return tonal

    def take(self, rows: Ints | Bools) -> "Sight":
        """The chosen rows."""
        return Sight._make(column[rows] for column in self)


class Sines(NamedTuple):
    """Frames as the sum of two sines, and a rest; [m] or [m, 2] each, frequencies rising.

    A single sine is there twice, or once beside a peak of the rest: its level tells which.
    """

    hz: Floats
    dbm0: Floats
    """Level of each sine."""
    total_dbm0: Floats
    """Level of the frame."""
    rest: Floats
    """Share of the frame's power that the two do not explain, 0..1."""


class Screen:
    """Sees which streams may be carrying a tone.

    About the middle of a window, cosines and the Hann window are even and sines are odd: the left half plus the
    mirrored right half has the cosines, and less it the sines. So a product is half as long, and the window is in it.
    """

    def __init__(self) -> None:
        bins, half = np.arange(FIRST_BIN - PEAK_BINS, LAST_BIN + 1 + PEAK_BINS), WINDOW // 2
        seen = (bins >= FIRST_BIN) & (bins <= LAST_BIN)
        phase = 2 * np.pi / WINDOW * (np.arange(half) + 0.5 - half)[:, None]
        hann = np.cos(phase / 2) ** 2 * seen
        self._cosines = (hann * np.cos(phase * bins)).astype(np.float32)
        self._sines = (hann * np.sin(phase * bins)).astype(np.float32)
        """float32 [128, bins] each; nothing of bins that are not looked at."""
        peaks = np.clip(bins, FIRST_BIN, LAST_BIN)
        self._around = peaks[:, None] + np.arange(-PEAK_BINS, PEAK_BINS + 1) - bins[0]
        """int64 [bins, 5]: the bins about each."""
        self._hz = (peaks * (RATE / WINDOW)).astype(np.float32)
        low, high = (np.array(FSK_BANDS_HZ) * WINDOW / RATE).T
        keyed = (bins[:, None] >= np.floor(low)) & (bins[:, None] <= np.ceil(high))
        self._shares = np.column_stack([seen, keyed]).astype(np.float32)
        """What sums the power of all bins, and of each band."""

    def see(self, stream: Floats) -> Sight:
        """What is to be seen at the end of each row. stream: float32 [n, >= 256], -1..1, at 8 kHz."""
        sound = stream[:, -WINDOW:]
        newest = sound[:, WINDOW - CHUNK :]
        power = self._power(sound)
        shares = power @ self._shares
        total = shares[:, :1] + np.float32(SILENCE)
        peaks, hz = np.empty((2, len(sound)), np.float32), np.empty((2, len(sound)), np.float32)
        rows = np.arange(0, power.size, power.shape[1])[:, None]
        for number in range(2):
            hz[number], peaks[number] = self._take_peak(power, rows)
        return Sight(np.vecdot(newest, newest) / np.float32(CHUNK), peaks.T / total, hz.T, shares[:, 1:] / total)

    def _power(self, sound: Floats) -> Floats:
        """float32 [n, 256] -> [n, bins]."""
        left, right = sound[:, : WINDOW // 2], sound[:, : WINDOW // 2 - 1 : -1]
        power: Floats = (left + right) @ self._cosines
        imaginary = (left - right) @ self._sines
        np.square(power, out=power)
        np.square(imaginary, out=imaginary)
        power += imaginary
        return power

    def _take_peak(self, power: Floats, rows: Ints) -> tuple[Floats, Floats]:
        """Where the strongest bin is, and the power about it, which is taken away. rows: of the first bin of each."""
        peak, flat = power.argmax(axis=1), power.reshape(-1)
        around = self._around[peak] + rows
        taken = flat[around]
        flat[around] = 0.0
        return self._hz[peak], taken @ _FIVE


_FIVE = np.ones(2 * PEAK_BINS + 1, np.float32)


def fit(sound: Floats, lag: int = 1) -> Sines:
    """Two sines in each row.

    sound: float32 [m, lag * CONTEXT + samples], -1..1, at 8 kHz. With a lag of 1, 80 samples give 697 and 1209 Hz to
    within 0.5 % in the noise of G.711; low tones close together (350 and 440 Hz) want a lag of 4 and 320 samples, and
    then all lie below 1000 Hz. Total least squares on the recurrence that any two sines obey: with x the samples,
    x[t] + x[t-4] + a (x[t-1] + x[t-3]) + b x[t-2] = 0 (in steps of the lag), whose solutions are the cosines of the
    two frequencies (Pisarenko, 1973, with the symmetry of undamped sines); then their amplitudes by least squares.
    """
    x = sound.astype(np.float64)
    cosines = np.clip(_cosines(x, lag), -0.999999, 0.999999)
    angles = np.sort(np.arccos(cosines), axis=1) / lag
    frame = x[:, lag * CONTEXT :]
    power, rest = _levels(frame, angles)
    total = np.einsum("ij,ij->i", frame, frame) / frame.shape[1]
    return Sines(
        (angles * (RATE / (2 * np.pi))).astype(np.float32),
        dbm0(power),
        dbm0(total),
        (rest / (total + SILENCE)).astype(np.float32),
    )


def dbm0(power: Doubles | Floats) -> Floats:
    """Mean square of samples in -1..1 -> level in dBm0."""
    level: Floats = (10 * np.log10(power + SILENCE) + 10 * np.log10(2) + FULL_SCALE_DBM0).astype(np.float32)
    return level


def _cosines(x: Doubles, lag: int) -> Doubles:
    """float64 [m, 2]: cosines of both frequencies, in radians a step."""
    root, size = np.sqrt(0.5), x.shape[1] - CONTEXT * lag
    at = [x[:, step * lag : step * lag + size] for step in range(CONTEXT + 1)]
    columns = np.stack([(at[4] + at[0]) * root, (at[3] + at[1]) * root, at[2]], axis=1)
    moments = columns @ columns.transpose(0, 2, 1)
    _, vectors = np.linalg.eigh(moments + np.eye(3) * SILENCE)
    outer, inner, middle = vectors[:, 0, 0] * root, vectors[:, 1, 0] * root, vectors[:, 2, 0]
    outer = np.where(np.abs(outer) < 1e-9, 1e-9, outer)
    sum_of_cosines, product = -inner / outer, (middle / outer - 2) / 4
    middle_of = sum_of_cosines / 4
    apart = np.sqrt(np.maximum(middle_of**2 - product, 0))
    return np.stack([middle_of - apart, middle_of + apart], axis=1)


def _levels(x: Doubles, angles: Doubles) -> tuple[Doubles, Doubles]:
    """Power of each sine [m, 2], and of what is left [m]."""
    phase = np.arange(x.shape[1]) * angles[..., None]
    basis = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
    gram = basis @ basis.transpose(0, 2, 1) + np.eye(4) * (1e-6 * x.shape[1])
    seen = np.einsum("mij,mj->mi", basis, x)
    weights = np.linalg.solve(gram, seen[..., None])[..., 0]
    rest = x - np.einsum("mi,mij->mj", weights, basis)
    power = (weights[:, :2] ** 2 + weights[:, 2:] ** 2) / 2
    return power, np.einsum("ij,ij->i", rest, rest) / x.shape[1]

"""DTMF digits in the audio itself (ITU-T Q.23, Q.24), over all slots at once.

Only rows that show a peak in each of the two groups are measured, frame by frame of 10 ms: two sines at a digit's
frequencies and next to nothing beside them. A digit is three such frames that agree in frequency and level; any 40 ms
of tone hold three whole frames, and 23 ms hold two at most. Three frames without it end it, which any 40 ms of pause
hold; a dropout of less than 10 ms spoils two at most and is bridged, and so is a lost packet of 20 ms.
"""

from typing import NamedTuple

import numpy as np

from gateway.detect.detection import Detection
from gateway.detect.sines import HOP, RATE, SILENCE, Bools, Floats, Ints, Sight, dbm0

LOW_HZ, HIGH_HZ = np.array([697.0, 770.0, 852.0, 941.0]), np.array([1209.0, 1336.0, 1477.0, 1633.0])
DIGITS = "123A456B789C*0#D"
FRAME_TOLERANCE = 0.032
"""Of each frame's frequencies; 10 ms measure them to 0.3 % in G.711 alone and to 1 % at 15 dB over noise."""
TOLERANCE = 0.025
"""Of the mean over a digit: midway between what Q.24 has accepted (1.5 %) and rejected (3.5 %)."""
FAINTEST = 10 ** ((-45.0 - 6.18) / 10)
"""Mean square of -45 dBm0, for either tone; Q.24's administrations want -25 to -29 dBm, this project -36 dBm0."""
TWIST = (10**-1.2, 10**1.0)
"""Power of the high tone over the low tone's, -12 to +10 dB; Q.24 has -8 to +4 dB at the widest."""
REST = 0.12
"""Share of a frame's power that may be anything else."""
MEAN_REST = 0.08
RAMP = 0.3
"""Steady frames change by less; frames that a tone fills by less than about nine tenths, by more."""
SPREAD = 2.0
"""Power of the loudest over the faintest frame of either tone when the digit is confirmed: 3 dB."""
TONAL = 0.8
"""Share of the power that the screen has to see in the two peaks."""
GLIDE = 0.012
"""Frequencies of a digit's frames lie within this of each other, relative: those of a tone 12 dB over noise do (99 %),
those of a voice seldom."""
CONFIRMED, ENDED = 3, 3
"""Frames with the digit, and without, that decide."""
LOOK_BACK = 2
"""Whole frames before the chunk that the stream still holds: the screen sees a tone up to 32 ms late."""


class Dtmf:
    """Hears digits and reports each once, when it is over. One row of state a slot."""

    def __init__(self, slots: int) -> None:
        self.active: Bools = np.zeros(slots, np.bool_)
        self.holds: Bools = np.zeros(slots, np.bool_)
        self._digit = np.full(slots, -1, np.int64)
        self._heard = np.zeros(slots, np.int64)
        self._missed = np.zeros(slots, np.int64)
        self._begin = np.zeros(slots, np.int64)
        self._end = np.zeros(slots, np.int64)
        self._next = np.zeros(slots, np.int64)
        self._sums = np.zeros((slots, 5))
        """Over the frames heard: power of both tones, error of both frequencies, rest."""
        self._least, self._most = np.zeros((slots, 4)), np.zeros((slots, 4))
        """Over them too, of powers and errors."""

    def reset(self, slots: Ints) -> None:
        """Forget what these slots have heard."""
        self._forget(slots)

    def hear(self, slots: Ints, stream: Floats, sight: Sight, begin: Ints) -> list[Detection]:
        """Take a chunk of each slot and report the digits that ended in it.

        slots: int64 [m], unique; stream: float32 [m, 176 + samples], whole frames; sight: of these rows;
        begin: int64 [m], sample number of the chunk's first sample. A chunk that is missing counts as a pause.
        """
        live = self.active[slots]
        rows = np.flatnonzero(live | plausible(sight))
        if not len(rows):
            return []
        slots, begin, fresh = slots[rows], begin[rows], ~live[rows]
        found = self._skip(slots[~fresh], begin[~fresh])
        frames = _Frames(stream[rows], fresh)
        for number in range(frames.count):
            use = np.flatnonzero(frames.used[:, number])
            if len(use):
                found += self._step(slots[use], begin[use] + HOP * (number - LOOK_BACK), frames, use, number)
        self._next[slots] = begin + HOP * (frames.count - LOOK_BACK)
        return found

    def _skip(self, slots: Ints, begin: Ints) -> list[Detection]:
        """Frames that never came are frames without the digit."""
        gap = np.maximum((begin - self._next[slots]) // HOP, 0)
        if not gap.any():
            return []
        self._missed[slots] += gap
        return self._finish(slots[self._missed[slots] >= ENDED])

    def _step(self, slots: Ints, at: Ints, frames: "_Frames", rows: Ints, number: int) -> list[Detection]:
        """One frame of each of these slots."""
        digit = frames.digit[rows, number]
        same = (digit == self._digit[slots]) & (digit >= 0)
        other = (digit >= 0) & ~same
        self._missed[slots] = np.where(same, 0, self._missed[slots] + 1)
        over = (self._digit[slots] >= 0) & (other | (self._missed[slots] >= ENDED))
        found = self._finish(slots[over]) if over.any() else []
        if other.any():
            self._start(slots[other], digit[other], at[other])
        heard = digit >= 0
        if heard.any():
            self._count(slots[heard], at[heard], frames, rows[heard], number)
        return found

    def _start(self, slots: Ints, digit: Ints, at: Ints) -> None:
        self._digit[slots], self._begin[slots] = digit, at
        self._heard[slots] = self._missed[slots] = 0
        self._sums[slots] = 0.0
        self._least[slots], self._most[slots] = np.inf, -np.inf
        self.active[slots] = True

    def _count(self, slots: Ints, at: Ints, frames: "_Frames", rows: Ints, number: int) -> None:
        measures = frames.measures[rows, number]
        self._heard[slots] += 1
        self._end[slots] = at + HOP
        self._sums[slots] += measures
        least = self._least[slots] = np.minimum(self._least[slots], measures[:, :4])
        most = self._most[slots] = np.maximum(self._most[slots], measures[:, :4])
        mean = self._sums[slots] / self._heard[slots, None]
        sure = (self._heard[slots] >= CONFIRMED) & (most[:, :2] < least[:, :2] * SPREAD).all(axis=1)
        sure &= (most[:, 2:] - least[:, 2:] < GLIDE).all(axis=1)
        sure &= (np.abs(mean[:, 2:4]) < TOLERANCE).all(axis=1) & (mean[:, 4] < MEAN_REST)
        self.holds[slots] |= sure

    def _finish(self, slots: Ints) -> list[Detection]:
        """Report the digits that were confirmed, and forget them all."""
        found = [self._report(int(slot)) for slot in slots[self.holds[slots]]]
        self._forget(slots)
        return found

    def _report(self, slot: int) -> Detection:
        low, high = self._sums[slot, :2] / self._heard[slot]
        return Detection(
            slot,
            "dtmf",
            DIGITS[self._digit[slot]],
            int(self._begin[slot]),
            int(self._end[slot]),
            float(dbm0(np.array(low + high))),
            float(10 * np.log10(high / low)),
        )

    def _forget(self, slots: Ints) -> None:
        self._digit[slots] = -1
        self._heard[slots] = self._missed[slots] = 0
        self.active[slots] = self.holds[slots] = False


class _Frames:
    """Every frame of some rows, measured: which digit it could be, and how well."""

    def __init__(self, stream: Floats, fresh: Bools) -> None:
        """stream: float32 [r, 176 + samples]; fresh: bool [r], rows whose past frames have not been looked at."""
        first = stream.shape[1] % HOP
        self.count = stream.shape[1] // HOP
        frames = stream[:, first:].reshape(len(stream), self.count, HOP)
        self.used: Bools = (np.arange(self.count) >= LOOK_BACK) | fresh[:, None]
        pairs = measure(frames[self.used])
        good = (np.abs(pairs.errors) < FRAME_TOLERANCE).all(axis=1) & (pairs.rest < REST) & (pairs.ramp < RAMP)
        good &= (pairs.power > FAINTEST).all(axis=1)
        good &= (pairs.power[:, 1] > pairs.power[:, 0] * TWIST[0]) & (pairs.power[:, 1] < pairs.power[:, 0] * TWIST[1])
        self.digit: Ints = np.full(self.used.shape, -1)
        self.digit[self.used] = np.where(good, pairs.digit, -1)
        self.measures = np.zeros((*self.used.shape, 5))
        self.measures[self.used] = np.concatenate([pairs.power, pairs.errors, pairs.rest[:, None]], axis=1)


class Pairs(NamedTuple):
    """Frames as one tone of each group, whatever the frames hold; [m] or [m, 2], low tone first."""

    digit: Ints
    power: Floats
    """Mean square of each tone."""
    errors: Floats
    """Of the frequencies, relative to the digit's."""
    ramp: Floats
    """How much the amplitude of either tone changes in half a frame, relative; 1 where a tone begins or ends."""
    rest: Floats
    """Share of the frame's power that is neither."""


def measure(frames: Floats) -> Pairs:
    """The best pair of each frame. frames: float32 [m, 80].

    First the strongest of a grid of frequencies in each group, then least squares of both tones with amplitude and
    phase linear in time about the frame's middle, which gives what the grid is off by (one Gauss-Newton step).
    """
    seen = np.square(frames @ _GRID)
    low, high = (seen[:, :_FREQUENCIES] + seen[:, _FREQUENCIES:]).reshape(len(frames), 2, -1).argmax(axis=2).T
    parts = np.einsum("mij,mj->mi", _INVERSE[low, high], frames).reshape(len(frames), 2, 4)
    total = np.einsum("mi,mi->m", frames, frames) / np.float32(HOP) + np.float32(SILENCE)
    known = np.square(np.einsum("mij,mj->mi", _SPACE[low, high], frames)).sum(axis=1) / np.float32(HOP)
    cosine, sine, cosine_turn, sine_turn = np.moveaxis(parts, 2, 0)
    square = cosine**2 + sine**2 + np.float32(SILENCE)
    ramp = (np.abs(cosine * cosine_turn + sine * sine_turn) / square).max(axis=1)
    turn = (cosine * sine_turn - sine * cosine_turn) / square  # radians a frame half
    hz = np.stack([_HZ[0].ravel()[low], _HZ[1].ravel()[high]], axis=1) - turn / (np.pi * HOP / RATE)
    digit = low // len(_STEPS) * 4 + high // len(_STEPS)
    nominal = np.stack([LOW_HZ[digit // 4], HIGH_HZ[digit % 4]], axis=1)
    return Pairs(digit, square / 2, (hz / nominal - 1).astype(np.float32), ramp, 1 - known / total)


def plausible(sight: Sight) -> Bools:
    """bool [n]: one strong narrow peak in each of the two groups of frequencies, with the screen's bin to spare."""
    low, high = sight.hz.min(axis=1), sight.hz.max(axis=1)
    found: Bools = (low > 640) & (low < 1010) & (high > 1140) & (high < 1720) & (sight.tonal > TONAL)
    return found


_STEPS = np.array([-0.03, -0.015, 0.0, 0.015, 0.03])
_HZ = np.stack([np.outer(group, 1 + _STEPS) for group in (LOW_HZ, HIGH_HZ)])
"""float64 [2, 4, 5]: the grid of both groups."""
_FREQUENCIES = _HZ.size


def _grid() -> Floats:
    """float32 [80, 80]: cosines, then sines of the grid, under a Hann window that keeps the groups apart."""
    time = np.arange(HOP) + 0.5 - HOP / 2
    phase = 2 * np.pi / RATE * time[:, None] * _HZ.ravel()
    hann = np.cos(np.pi * time / HOP)[:, None] ** 2
    grid: Floats = (hann * np.concatenate([np.cos(phase), np.sin(phase)], axis=1)).astype(np.float32)
    return grid


def _spaces() -> tuple[Floats, Floats]:
    """For every pair, float32 [20, 20, 8, 80]: what takes the eight weights from a frame, and the space they span."""
    time = (np.arange(HOP) + 0.5) / (HOP / 2) - 1
    phase = np.pi * HOP / RATE * time * _HZ.reshape(2, -1, 1)
    tones = np.stack([np.cos(phase), np.sin(phase), time * np.cos(phase), time * np.sin(phase)], axis=2)
    low, high = tones[0][:, None], tones[1][None]
    shape = np.broadcast_shapes(low.shape, high.shape)
    basis = np.concatenate([np.broadcast_to(low, shape), np.broadcast_to(high, shape)], axis=2)
    space = np.linalg.qr(np.swapaxes(basis, 2, 3))[0]
    return np.linalg.pinv(np.swapaxes(basis, 2, 3)).astype(np.float32), np.swapaxes(space, 2, 3).astype(np.float32)


_GRID = _grid()
_INVERSE, _SPACE = _spaces()

"""Steady tones of faxes and modems: CNG, V.25 calling tone, CED, ANS, ANSam, and the answers at 2225 and 2250 Hz.

One tone a slot is followed, frame by frame, through what two half frames say of its frequency and phase. The first
40 ms say that it may be one; that it is one, and no beep or flute, only its rhythm, its length or its modulation
says. Part of `fax`.
"""

from typing import NamedTuple

import numpy as np

from gateway.detect.bands import (
    ANSWER,
    BAND_HZ,
    BANDS,
    BELL,
    CALLING,
    CNG,
    NONE,
    SLACK_HZ,
    WITHIN_HZ,
    Frames,
    measure,
)
from gateway.detect.detection import Detection
from gateway.detect.sines import HOP, RATE, Bools, Doubles, Floats, Ints

JUMP_DB = 4.0
"""A frame whose level differs so much is no part of the tone."""
BRIDGE = 4 * HOP
"""A longer gap ends the tone: two lost packets are bridged."""
LOOK_BACK = 2
"""Frames before the chunk in which a tone's beginning is looked for."""
SURE_FRAMES = 4
"""Frames until the tone is held to be one, and stays dry."""


class Pulses(NamedTuple):
    """Shortest and longest sound and pause, in samples, 20 ms wider than the standard's."""

    on: tuple[int, int]
    off: tuple[int, int]


PULSES = {CNG: Pulses((3240, 4760), (20240, 27760)), CALLING: Pulses((3840, 5760), (11840, 16160))}
"""CNG: 0.5 s ± 15 % and 3 s ± 15 % (T.30 section 4); V.25: 0.5 to 0.7 s and 1.5 to 2 s."""
SHORTEST_PULSE = 800
"""What is left of a pulse that began before the call was connected."""
PULSE_SPREAD_HZ, PULSE_SPREAD_DB = 5.0, 1.2

STEADY = 12000
"""1.5 s without any modulation: CED is at least 2.6 s long, no beep longer than 1.2 s."""
SPREAD_HZ, SPREAD_DB, WHOLENESS = np.array([3.0, 3.0, 3.0, 5.0]), 0.6, 0.85
"""Standard deviations of the frames of a steady tone, and the share of its frames that must be good."""
DIPS_APART = 4000
"""It may be interrupted for a lost packet, but less than every 0.5 s in the mean, as beeps are."""
REVERSAL, REVERSAL_SLACK = 3600, 360
"""Phase reversals are 450 ± 25 ms apart (V.25, V.8), or twice that when one is lost; a frame of slack each end."""
HALF_TURN = np.radians(150)
"""Jumps of the phase beyond this are reversals: 180 ± 10 degrees are sent (V.25), 180 ± 25 heard (G.168)."""
REVERSALS = 2
"""So many in time: a note struck again may turn once."""
SWING_FRAMES = 40
"""400 ms hold six periods of ANSam's 15 Hz exactly."""
SWING = (0.14, 0.26)
"""Depth of ANSam's modulation, 0.2 ± 0.01 (V.8)."""
ROUGHNESS = 0.06
"""What else the envelope may do."""
ANSWERS = {
    (False, False): "ced",
    (False, True): "ans-reversed",
    (True, False): "ansam",
    (True, True): "ansam-reversed",
}
"""By modulation and reversals."""
_SWING = np.exp(-2j * np.pi * 15 * np.arange(SWING_FRAMES) * HOP / RATE)


class Carriers:
    """The tone that each slot hears."""

    def __init__(self, slots: int) -> None:
        self.band = np.full(slots, NONE, np.int64)
        """Of the tone that sounds, an index of `BANDS`."""
        self.frames = np.zeros(slots, np.int64)
        """Good ones of this tone."""
        self._since, self._until, self._seen = (np.zeros(slots, np.int64) for _ in range(3))
        self._sums = np.zeros((slots, 4))
        """Of frequency offset, level, and their squares."""
        self._phase = np.zeros(slots)
        self._dip = np.zeros(slots)
        """Weakest frame since the last good one."""
        self._dips = np.zeros(slots, np.int64)
        """How often it has been weak for a moment."""
        self._whole = np.zeros(slots, np.bool_)
        """Nothing was lost since then."""
        self._turned = np.zeros(slots, np.int64)
        """When the phase last turned, or the tone began."""
        self._timely = np.zeros(slots, np.int64)
        """How often it turned in time."""
        self._envelope = np.zeros((slots, SWING_FRAMES))
        """Amplitudes of the last frames, each at its place in 400 ms; 0 is unknown."""
        self._swings = np.zeros(slots, np.bool_)
        self._reported = np.zeros(slots, np.bool_)
        """This tone was reported."""
        self._told = np.zeros((slots, len(BANDS)), np.bool_)
        """Tones of this kind were reported: nothing new in another."""
        self._pulse_band = np.full(slots, NONE, np.int64)
        self._pulse = np.zeros((slots, 2), np.int64)
        """Beginning and end of the tone before."""

    def reset(self, slots: Ints) -> None:
        """Forget these slots."""
        self.band[slots] = self._pulse_band[slots] = NONE
        self.frames[slots] = 0
        self._told[slots] = self._reported[slots] = False

    def hear(self, slots: Ints, stream: Floats, band: Ints, begin: Ints) -> list[Detection]:
        """See `fax.Fax.hear`; band: int64 [m], what `bands_of` says of these rows."""
        seems = band != NONE
        rows = np.flatnonzero(seems | (self.band[slots] != NONE))
        if not len(rows):
            return []
        slots, begin, seems = slots[rows], begin[rows], seems[rows]
        late = (self.band[slots] != NONE) & (begin - self._until[slots] > BRIDGE)
        found = self._close(slots[late]) if late.any() else []
        fresh = seems & (self.band[slots] == NONE)
        self._open(slots[fresh], band[rows[fresh]])
        kept = np.flatnonzero(self.band[slots] != NONE)
        if not len(kept):
            return found
        self._follow(slots[kept], stream[rows[kept]], begin[kept], fresh[kept])
        return found + self._judge(slots[kept]) + self._end(slots[kept])

    def _open(self, slots: Ints, band: Ints) -> None:
        self.band[slots] = band
        for column in (self.frames, self._sums, self._envelope, self._timely, self._dips, self._swings, self._reported):
            column[slots] = 0
        self._dip[slots] = np.inf

    def _follow(self, slots: Ints, stream: Floats, begin: Ints, fresh: Bools) -> None:
        chunk = (stream.shape[1] - 2 * HOP) // HOP
        sound = stream[:, stream.shape[1] - (chunk + LOOK_BACK) * HOP :].astype(np.float64)
        sound = np.clip(np.nan_to_num(sound), -8, 8).reshape(len(slots), chunk + LOOK_BACK, HOP)
        measured = measure(sound, self.band[slots])
        self._whole[slots] &= self._seen[slots] == begin
        for index in range(chunk + LOOK_BACK):
            start = begin + (index - LOOK_BACK) * HOP
            rows = np.arange(len(slots)) if index >= LOOK_BACK else np.flatnonzero(fresh)
            if len(rows):
                self._step(slots[rows], start[rows], Frames._make(column[rows, index] for column in measured))
        self._seen[slots] = begin + chunk * HOP

    def _step(self, slots: Ints, start: Ints, frame: Frames) -> None:
        """One frame of each row; columns of `frame` are [m]."""
        count = self.frames[slots]
        mean = self._sums[slots] / np.maximum(count, 1)[:, None]
        good = frame.good & ((count < SURE_FRAMES) | (np.abs(frame.level - mean[:, 1]) < JUMP_DB))
        odd, first = slots[~good], slots[good & (count == 0)]
        self._dip[odd] = np.minimum(self._dip[odd], frame.power[~good])
        self._since[first] = self._turned[first] = start[good & (count == 0)]
        self._note_turns(slots, start, frame, mean[:, 0], good & (count > 0))
        self._envelope[slots, start // HOP % SWING_FRAMES] = np.where(good, 10 ** (frame.level / 20), 0.0)
        slots, level, offset = slots[good], frame.level[good], frame.offset_hz[good]
        self._sums[slots] += np.stack([offset, level, offset**2, level**2], axis=1)
        self.frames[slots] += 1
        self._until[slots], self._phase[slots] = start[good] + HOP, frame.phase[good]
        self._dips[slots] += self._dip[slots] < frame.power[good] / 2
        self._dip[slots], self._whole[slots] = np.inf, True

    def _note_turns(self, slots: Ints, start: Ints, frame: Frames, offset: Doubles, rows: Bools) -> None:
        """Reversals between the last good frame and this one: nothing lost, no dip, half a turn."""
        before = self._until[slots] - HOP
        hz = BAND_HZ[self.band[slots]] + offset
        jump = np.angle(np.exp(1j * (frame.phase - self._phase[slots] - 2 * np.pi * hz * (start - before) / RATE)))
        rows = rows & (np.abs(jump) > HALF_TURN) & self._whole[slots] & (start - before <= 3 * HOP)
        rows = rows & (self._dip[slots] > frame.power / 2)
        if rows.any():
            slots, when = slots[rows], (start[rows] + before[rows] + HOP) // 2
            gap = when - self._turned[slots]
            periods = np.clip(np.rint(gap / REVERSAL), 1, 2)
            self._timely[slots] += np.abs(gap - periods * REVERSAL) <= REVERSAL_SLACK
            self._turned[slots] = when

    def _judge(self, slots: Ints) -> list[Detection]:
        """What is certain before it is over: answers."""
        slots = slots[(self.frames[slots] >= SWING_FRAMES - 4) & (self.band[slots] >= ANSWER)]
        if not len(slots):
            return []
        offset, _, offset_spread, level_spread = self._spread(slots)
        length = self._until[slots] - self._since[slots]
        band = self.band[slots]
        own = np.abs(offset) < WITHIN_HZ[band] + SLACK_HZ
        calm = own & (offset_spread < SPREAD_HZ[band]) & (self.frames[slots] * HOP > WHOLENESS * length)
        swinging = slots[calm & (band == ANSWER) & ~self._swings[slots]]
        self._swings[swinging] = self._is_swinging(swinging)
        steady = (
            calm & (length >= STEADY) & (level_spread < SPREAD_DB) & ((self._dips[slots] + 1) * DIPS_APART <= length)
        )
        marked = calm & (band == ANSWER) & ((self._timely[slots] >= REVERSALS) | self._swings[slots])
        fresh = (steady | marked) & ~self._reported[slots] & ~self._told[slots, band]
        return [self._report(int(slot)) for slot in slots[fresh]]

    def _spread(self, slots: Ints) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """Means and standard deviations of offset and level."""
        means = self._sums[slots] / np.maximum(self.frames[slots], 1)[:, None]
        offset, level, offset_square, level_square = means.T
        spreads = np.sqrt(np.maximum(offset_square - offset**2, 0)), np.sqrt(np.maximum(level_square - level**2, 0))
        return offset, level, *spreads

    def _is_swinging(self, slots: Ints) -> Bools:
        """The last 400 ms move by ANSam's 20 % at 15 Hz and by nothing else."""
        envelope = self._envelope[slots]
        known = envelope > 0
        count = np.maximum(known.sum(axis=1), 1)
        mean = np.maximum(envelope.sum(axis=1) / count, 1e-9)
        moves = np.where(known, envelope / mean[:, None] - 1, 0.0)
        depth = 2 * np.abs((moves * _SWING).sum(axis=1)) / count
        rest = np.maximum((moves**2).sum(axis=1) / count - depth**2 / 2, 0)
        out: Bools = (count >= SWING_FRAMES - 4) & (depth > SWING[0]) & (depth < SWING[1]) & (rest < ROUGHNESS**2)
        return out

    def _name(self, slot: int) -> str:
        band = int(self.band[slot])
        if band == ANSWER:
            return ANSWERS[bool(self._swings[slot]), bool(self._timely[slot] >= REVERSALS)]
        if band == BELL:
            return "bell-answer" if self._sums[slot, 0] < 0 else "v22"
        return "cng" if band == CNG else "v25-calling"

    def _report(self, slot: int, begin: int = -1, end: int = -1) -> Detection:
        self._reported[slot] = self._told[slot, self.band[slot]] = True
        level = float(self._sums[slot, 1] / max(self.frames[slot], 1))
        begin = begin if begin >= 0 else int(self._since[slot])
        return Detection(slot, "fax", self._name(slot), begin, end, level)

    def _end(self, slots: Ints) -> list[Detection]:
        """Close what has not been heard for too long, or never."""
        over = (self._seen[slots] - self._until[slots] > BRIDGE) | (self.frames[slots] == 0)
        return self._close(slots[over]) if over.any() else []

    def _close(self, slots: Ints) -> list[Detection]:
        found: list[Detection] = []
        for slot in slots[self.frames[slots] > 0].tolist():
            if self._reported[slot]:
                found.append(self._report(slot, end=int(self._until[slot])))
            elif int(self.band[slot]) in PULSES:
                found += self._close_pulse(slot)
        self.band[slots], self.frames[slots] = NONE, 0
        return found

    def _close_pulse(self, slot: int) -> list[Detection]:
        """A pulse of the right length after one that was the right time ago."""
        band = int(self.band[slot])
        pulses, begin, end = PULSES[band], int(self._since[slot]), int(self._until[slot])
        offset, _, offset_spread, level_spread = (float(value[0]) for value in self._spread(np.array([slot])))
        steady = offset_spread < PULSE_SPREAD_HZ and level_spread < PULSE_SPREAD_DB
        if not steady or abs(offset) > WITHIN_HZ[band] + SLACK_HZ or not SHORTEST_PULSE <= end - begin <= pulses.on[1]:
            self._pulse_band[slot] = NONE
            return []
        before, ended = self._pulse[slot].tolist()
        follows = self._pulse_band[slot] == band and pulses.off[0] <= begin - ended <= pulses.off[1]
        self._pulse_band[slot], self._pulse[slot] = band, (begin, end)
        if not follows or end - begin < pulses.on[0] or self._told[slot, band]:
            return []
        return [self._report(slot, before, end)]

"""Call progress: dial, ringback, busy, congestion, call-waiting and special information tones, and other steady tones.

A row that shows almost nothing but narrow peaks is measured once. Lines of a plan are believed at once, lines that
beat slowly after 100 ms, any other steady tone after 200 ms. From then on a row costs little: a filter with its zeros
on the lines says of each 10 ms whether the tone goes on, rests, or something else is heard. What that means for the
cadence, and for the name of the tone, is in `cadence`.
"""

from typing import NamedTuple

import numpy as np

from gateway.detect import plans
from gateway.detect.cadence import FOREVER, Episode
from gateway.detect.detection import Detection
from gateway.detect.dtmf import plausible as like_dtmf
from gateway.detect.lines import LOOK, LOW_HZ, LOW_LAG, SLOW_SAMPLES, Notch, Slow, pair, single
from gateway.detect.sines import CHUNK, HOP, PAST, SILENCE, Bools, Doubles, Floats, Ints, Sight

TONAL, PURE = 0.97, 0.985
"""Share of the power in narrow peaks from which a row is looked at, and that lines have which leave at most `REST`."""
FAINTEST = 10 ** ((-48.0 - 6.18) / 10)
"""Mean square of -48 dBm0."""
QUIET = 10 ** ((-55.0 - 6.18) / 10)
"""Mean square of -55 dBm0: a pause, whatever the tone's level."""
ABSURD = np.float32(4.0)
"""Mean square that no sound in -1..1 has."""
STEADY = 1.4
"""Power of the strongest over the weakest 8 ms of a single line: noise 20 dB below makes 1.2, a beating tone 2."""
BEATING = 1.6
"""The same of a tone that beats, at least: 1.95 of 425 and 480 Hz, 3.6 and more of all that are modulated."""
REST, REST_OTHER = 0.012, 0.003
"""Share of the power that lines of a plan, and of another tone, do not explain when it begins."""
REST_ON, REST_SLOW = 0.03, 0.1
"""The same for each frame while the tone goes on, and while one does that beats and has faint frames of its own."""
TWIST = 6.3
"""Power of the stronger line of a pair over the weaker one's: 8 dB."""
PROVEN = 20
"""Frames that a tone of no plan takes to be believed."""
DRIFT = 1.26
"""A tone of no plan keeps its power within 1 dB until then."""
LOST = 6 * HOP
"""A longer hole ends what was heard."""
FLOOR_FRAMES = 5
"""At the beginning of a pause, in which the noise of the line is learned."""
SLOW_HZ = (330.0, 500.0)
"""Where plans have lines that beat."""
SIT_GAP = 10 * HOP
"""Between two tones of special information: 30 ms in E.180, and the time to measure the next one."""
WEAK = 0.02
"""A peak with less of the power is none."""
APART_HZ, MATCHED = 90.0, 14.0
"""Lines at least so far apart leave two peaks, and if they are alike the first is at most so much stronger."""
ONE_PEAK, NARROW = 0.8, 0.9
"""Share of the power in one peak of the screen, under which lines lie that beat, and in two, while they last."""
CLOSE_HZ = 100.0
"""Two lines closer than this are left to the longer look."""
LOWEST_HZ = 300.0
"""No tone is looked for below: there is hum, and the pitch of voices."""
BIN_HZ = 20.0
"""As far as the screen's peaks may be off."""
HARMONIC = 0.04
"""Two lines whose ratio is that of small numbers to within this are harmonics of one voice."""
TUNED = 0.005
"""A tone of no plan is the same one within this."""
PAUSE = 0.03
"""Share of the tone's power that a pause may have: 15 dB below."""
IDLE, SLOW, PROBE, ON, OFF, GAP = range(6)


class Heard(NamedTuple):
    """Lines of a sound."""

    hz: tuple[float, ...]
    power: float
    """Mean square."""
    rest: float
    """Share of the power that the lines are not."""


class Progress:
    """Hears tones and holds them through their pauses. One row of state a slot."""

    def __init__(self, slots: int) -> None:
        self.active: Bools = np.zeros(slots, np.bool_)
        self.holds: Bools = np.zeros(slots, np.bool_)
        self._mode = np.zeros(slots, np.int64)
        self._notch, self._slow = Notch(slots), Slow()
        self._power = np.zeros(slots, np.float32)
        """Mean square of the tone."""
        self._floor = np.zeros(slots, np.float32)
        """Of the pause."""
        self._lowest, self._highest = np.zeros(slots, np.float32), np.zeros(slots, np.float32)
        """Power of a frame of the tone, at least and at most."""
        self._rest = np.full(slots, REST_ON, np.float32)
        self._patience = np.ones(slots, np.int64)
        """Quiet frames that make a pause: a beating tone has some of its own."""
        self._sounding, self._quiet, self._strange = (np.zeros(slots, np.int64) for _ in range(3))
        """Frames in a row."""
        self._edge = np.zeros(slots, np.int64)
        """Sample at which the tone was last seen to end, or in a pause seems to begin."""
        self._deadline = np.zeros(slots, np.int64)
        """Sample by which the cadence has to go on."""
        self._since = np.zeros(slots, np.int64)
        """Sample at which something began."""
        self._next = np.zeros(slots, np.int64)
        self._tonal_until = np.full(slots, -1, np.int64)
        """Sample up to which nothing but narrow peaks was seen."""
        self._before = np.zeros((slots, CHUNK), np.float32)
        """What lay before the stream of the next chunk: a tone may have begun in it."""
        self._past = np.zeros((slots, SLOW_SAMPLES), np.float32)
        """Of slots in mode SLOW."""
        self._episodes: dict[int, Episode] = {}

    def reset(self, slots: Ints) -> None:
        """Forget what these slots have heard."""
        self._mode[slots] = IDLE
        self.active[slots] = self.holds[slots] = False
        for slot in slots.tolist():
            self._episodes.pop(slot, None)

    def proves(self, slots: Ints) -> Bools:
        """Slots with a tone of no plan that has been steady so far, bool [n]."""
        proves: Bools = self._mode[slots] == PROBE
        return proves

    def hear(self, slots: Ints, stream: Floats, sight: Sight, begin: Ints) -> list[Detection]:
        """Take a chunk of each slot and report the tones that got a name, or ended without one.

        slots: int64 [m], unique; stream: float32 [m, 176 + 160], the chunk after what came before it; sight: of these
        rows; begin: int64 [m], sample number of the chunk's first sample.
        """
        found: list[Detection] = []
        mode, tonal = self._mode[slots], sight.tonal
        for advance, some in ((self._follow, mode > SLOW), (self._prove_slow, mode == SLOW)):
            rows = np.flatnonzero(some)
            if len(rows):
                advance(slots[rows], stream[rows], tonal[rows], begin[rows], found)
        rows = np.flatnonzero(tonal > TONAL)
        if len(rows):
            self._meet(slots[rows], stream[rows], sight.take(rows), begin[rows], found)
        return found

    def _meet(self, slots: Ints, stream: Floats, sight: Sight, begin: Ints, found: list[Detection]) -> None:
        """Nothing but narrow peaks; those that had nothing else in the chunk before are measured."""
        mode = self._mode[slots]
        new = (
            (self._tonal_until[slots] == begin)
            & ((mode < ON) | (mode == GAP))
            & (sight.power > FAINTEST)
            & (sight.power < ABSURD)
            & (sight.hz[:, 0] > LOWEST_HZ - BIN_HZ)
            & ~like_dtmf(sight)
        )
        rows = np.flatnonzero(new)
        if len(rows):
            long = np.concatenate([self._before[slots[rows]], stream[rows]], axis=1)
            self._measure(slots[rows], long, sight.take(rows), begin[rows] + CHUNK, found)
        self._tonal_until[slots] = begin + CHUNK
        self._before[slots] = stream[:, :CHUNK]

    def _follow(self, slots: Ints, stream: Floats, _: Floats, begin: Ints, found: list[Detection]) -> None:
        """Frames of slots in which a tone was heard."""
        hole = begin - self._next[slots]
        for slot in slots[hole > LOST].tolist():
            self._end(slot, int(self._next[slot]), found)
        frames = CHUNK // HOP
        powers = np.square(stream[:, PAST:]).reshape(len(slots), frames, HOP).mean(axis=2)
        powers = np.where(powers < ABSURD, powers, ABSURD)  # catches NaN
        for number in range(frames):
            self._frame(slots, stream, powers[:, number], begin + HOP * number, frames - number, found)
        self._next[slots] = begin + CHUNK

    def _frame(self, slots: Ints, stream: Floats, power: Floats, at: Ints, number: int, found: list[Detection]) -> None:
        """One frame of each slot: the tone, a pause, or something strange."""
        mode, level = self._mode[slots], self._power[slots]
        rest = self._notch.rest(slots, stream, number, power)
        tone = (
            (rest < self._rest[slots]) & (power > level * self._lowest[slots]) & (power < level * self._highest[slots])
        )
        floor, rested = self._floor[slots], self._quiet[slots]
        ceiling = level * np.float32(PAUSE)
        limit = np.where(rested < FLOOR_FRAMES, ceiling, np.minimum(4 * floor, ceiling))
        quiet = ~tone & (power < np.maximum(limit, np.float32(QUIET)))
        strange, resting = ~tone & ~quiet, mode == OFF
        self._floor[slots] = np.where(quiet & (rested < FLOOR_FRAMES), np.maximum(floor, power), floor)
        self._sounding[slots] = np.where(tone, self._sounding[slots] + 1, 0)
        self._quiet[slots] = np.where(quiet, rested + 1, np.where(resting & ~tone, rested, 0))
        self._strange[slots] = np.where(strange, self._strange[slots] + 1, 0)
        self._move_edges(slots, at, power / (level + np.float32(SILENCE)), tone, strange, resting)
        event = strange & (self._strange[slots] > self._patience[slots]) | (at >= self._deadline[slots])
        event |= np.where(resting, tone, self._quiet[slots] >= self._patience[slots])
        event &= mode != GAP
        event |= (mode == PROBE) & (~tone | (self._sounding[slots] >= PROVEN)) | (mode == GAP) & (
            at >= self._deadline[slots]
        )
        for row in np.flatnonzero(event & (mode != IDLE)).tolist():
            self._happen(int(slots[row]), int(at[row]), bool(tone[row]), bool(quiet[row]), found)

    def _move_edges(self, slots: Ints, at: Ints, share: Floats, tone: Bools, strange: Bools, resting: Bools) -> None:
        """A frame that is no tone counts as much towards its end, or its beginning, as it has of the tone's power."""
        edge = self._edge[slots]
        part = (HOP * np.clip(share, 0, 1)).astype(np.int64)
        ending = np.where(tone, at + HOP, np.where(strange, edge + part, edge))
        beginning = np.where(tone, np.where(edge > at - HOP, edge, at), np.where(strange, at + HOP - part, at + HOP))
        self._edge[slots] = np.where(resting, beginning, ending)

    def _happen(self, slot: int, at: int, tone: bool, quiet: bool, found: list[Detection]) -> None:
        """Something changed in this slot."""
        mode, episode = self._mode[slot], self._episodes.get(slot)
        if episode is None or mode == GAP:
            self._end(slot, at, found)
        elif mode == PROBE:
            if tone:
                self._believe(slot)
            else:
                self._end(slot, at, found)
        elif mode == OFF:
            if not tone:
                self._end(slot, at, found)
                return
            self._mode[slot] = ON
            self._deadline[slot] = episode.resumes(int(self._edge[slot]), found)
            self._edge[slot] = at + HOP
        elif tone:
            self._deadline[slot] = episode.lasts(found)
        elif episode.is_part(int(self._edge[slot])):
            self._mode[slot], self._deadline[slot] = GAP, at + SIT_GAP
        elif quiet:
            self._pause(slot, at, episode, found)
        else:
            self._end(slot, at, found)

    def _pause(self, slot: int, at: int, episode: Episode, found: list[Detection]) -> None:
        self._deadline[slot] = deadline = episode.pauses(int(self._edge[slot]))
        self._mode[slot] = OFF
        self._floor[slot], self._quiet[slot] = 0.0, 0
        if deadline <= at:
            self._end(slot, at, found)

    def _believe(self, slot: int) -> None:
        self._mode[slot] = ON
        self._deadline[slot] = self._episodes[slot].deadline
        self._lowest[slot], self._highest[slot] = min(self._lowest[slot], 0.25), 4.0
        self.holds[slot] = True

    def _end(self, slot: int, at: int, found: list[Detection]) -> None:
        """Nothing is heard any more, at this sample; a tone that was going on ended at its edge."""
        episode = self._episodes.pop(slot, None)
        if episode is not None and self.holds[slot]:
            episode.ends(at if self._mode[slot] == OFF else int(self._edge[slot]), found)
        self._mode[slot] = IDLE
        self.active[slot] = self.holds[slot] = False

    def _measure(self, slots: Ints, stream: Floats, sight: Sight, end: Ints, found: list[Detection]) -> None:
        """Rows that are not known to be a tone yet. end: int64 [m], sample after the stream's last."""
        sound = stream[:, -LOOK:]
        parts = np.einsum("ijk,ijk->ij", *[sound.reshape(len(slots), 4, -1)] * 2)
        swing = parts.max(axis=1) / (parts.min(axis=1) + np.float32(SILENCE))
        first, second = sight.hz[:, 0], sight.hz[:, 1]
        main, other = sight.peaks[:, 0], sight.peaks[:, 1]
        low, steady = first < LOW_HZ, (swing < STEADY) & (main > PURE)
        for lag, rows in ((LOW_LAG, np.flatnonzero(steady & low)), (1, np.flatnonzero(steady & ~low))):
            if len(rows):
                line = single(sound[rows], lag)
                for at in np.flatnonzero((line.rest < REST) & (line.hz > LOWEST_HZ)).tolist():
                    heard = Heard((float(line.hz[at]),), float(line.power[at]), float(line.rest[at]))
                    self._begin(int(slots[rows[at]]), heard, stream[rows[at]], int(end[rows[at]]), found)
        # Both lines of a pair lie above the lowest: a peak below it is a voice's.
        low &= ((second > LOWEST_HZ - BIN_HZ) & (second < LOW_HZ)) | (other < WEAK)
        alike = (np.abs(second - first) < APART_HZ) | (main < MATCHED * other)
        rows = np.flatnonzero(low & (main + other > PURE) & alike & (self._mode[slots] <= SLOW))
        if len(rows):
            both = pair(sound[rows], LOW_LAG, REST)
            for at in np.flatnonzero((both.rest < REST) & (both.hz[:, 0] > LOWEST_HZ) & _alike(both.power)).tolist():
                low_hz, high_hz = both.hz[at].tolist()
                heard = Heard((low_hz, high_hz), float(both.power[at].sum()), float(both.rest[at]))
                self._begin(int(slots[rows[at]]), heard, stream[rows[at]], int(end[rows[at]]), found)
        slow = low & (swing > BEATING) & (main > ONE_PEAK) & (first > SLOW_HZ[0]) & (first < SLOW_HZ[1])
        for row in np.flatnonzero(slow & (self._mode[slots] == IDLE)).tolist():
            self._begin_slow(int(slots[row]), float(sight.power[row]), stream[row], int(end[row]))

    def _begin(self, slot: int, heard: Heard, stream: Floats, end: int, found: list[Detection]) -> None:
        """Lines: of a plan, or of another tone that has to prove itself."""
        mode, episode = self._mode[slot], self._episodes.get(slot)
        sounds, part = plans.sounds_at(heard.hz), plans.sit_part(heard.hz)
        onset = _onset(stream, heard.power, end)
        since = onset if mode in (IDLE, GAP) else min(int(self._since[slot]), onset)
        if mode == GAP and episode is not None:
            if part == episode.part + 1:
                self._track(slot, heard, (0.25, 4.0), since, end)
                episode.goes_on(heard.hz, onset, found)
                self._mode[slot] = ON
                return
            if not sounds and part != 0:
                return
            self._end(slot, end, found)
        sure = bool(sounds) or part == 0
        if not sure and (heard.rest > REST_OTHER or not self._is_other(slot, heard)):
            return
        spread = (0.25, 4.0) if len(heard.hz) == 1 else (0.02, 4.0)
        self._track(slot, heard, spread if sure or len(heard.hz) > 1 else (1 / DRIFT, DRIFT), since, end)
        self._episodes[slot] = Episode(slot, heard.hz, sounds, since, heard.power, part if part == 0 else -1)
        self._mode[slot] = PROBE
        if sure:
            self._believe(slot)

    def _is_other(self, slot: int, heard: Heard) -> bool:
        """Is this a tone of no plan that is not being followed yet?"""
        if _of_one_voice(heard.hz):
            return False
        episode = self._episodes.get(slot)
        return episode is None or len(episode.hz) != len(heard.hz) or abs(heard.hz[0] / episode.hz[0] - 1) > TUNED

    def _track(self, slot: int, heard: Heard, spread: tuple[float, float], since: int, end: int) -> None:
        self._notch.tune(slot, heard.hz)
        self._power[slot] = heard.power
        self._lowest[slot], self._highest[slot] = spread
        self._floor[slot] = 0.0
        self._sounding[slot] = self._quiet[slot] = self._strange[slot] = 0
        self._patience[slot], self._rest[slot] = 1, REST_ON
        self._since[slot], self._edge[slot], self._next[slot] = since, end, end
        self._deadline[slot] = FOREVER
        self.active[slot] = True

    def _begin_slow(self, slot: int, power: float, stream: Floats, end: int) -> None:
        """Something narrow that beats, maybe."""
        self._since[slot], self._next[slot] = _onset(stream, power, end), end
        self._mode[slot], self.active[slot] = SLOW, True
        self._past[slot] = 0.0
        self._past[slot, -len(stream) :] = stream

    def _prove_slow(self, slots: Ints, stream: Floats, tonal: Floats, begin: Ints, found: list[Detection]) -> None:
        """100 ms of something narrow: the lines of a plan, or nothing."""
        lasts = (begin == self._next[slots]) & (tonal > NARROW)
        self._mode[slots[~lasts]] = IDLE
        self.active[slots[~lasts]] = False
        slots, stream, end = slots[lasts], stream[lasts], begin[lasts] + CHUNK
        self._next[slots] = end
        self._past[slots] = np.concatenate([self._past[slots, CHUNK:], stream[:, PAST:]], axis=1)
        ready = end - self._since[slots] >= SLOW_SAMPLES
        for slot, at in zip(slots[ready].tolist(), end[ready].tolist(), strict=True):
            sound = self._slow.match(self._past[slot])
            if sound is None:
                self._end(slot, at, found)
                continue
            power = float(np.square(self._past[slot]).mean())
            since = int(self._since[slot])
            self._track(slot, Heard(sound.hz, power, 0.0), (0.002 if sound.modulated else 0.02, 8.0), since, at)
            self._patience[slot], self._rest[slot] = 3, REST_SLOW
            self._episodes[slot] = Episode(slot, sound.hz, (sound,), since, power)
            self._believe(slot)


def _alike(power: Doubles) -> Bools:
    alike: Bools = (power[:, 0] < power[:, 1] * TWIST) & (power[:, 1] < power[:, 0] * TWIST)
    return alike


def _of_one_voice(hz: tuple[float, ...]) -> bool:
    """Two lines that may be neighbouring harmonics, or lie too close to be told apart."""
    if len(hz) == 1:
        return False
    ratios = (2.0, 1.5, 4 / 3, 3.0)
    return hz[1] - hz[0] < CLOSE_HZ or any(abs(hz[1] / hz[0] / ratio - 1) < HARMONIC for ratio in ratios)


def _onset(sound: Floats, power: float, end: int) -> int:
    """Sample at which a tone began that fills the end of a sound; part of a frame counts by its share of the power."""
    whole = sound[len(sound) % HOP :].reshape(-1, HOP)
    frames = (np.vecdot(whole, whole) / (HOP * power)).tolist()
    first = max((at for at, share in enumerate(frames) if share < 0.25), default=-1)
    head = sum(min(share, 1.0) for share in frames[first : first + 2]) if first >= 0 else 1.0
    return int(end - HOP * (len(frames) - first - 2) - HOP * head)

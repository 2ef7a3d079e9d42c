"""All detectors of a worker: what comes in on each leg is heard here, and a reason to leave it alone comes out.

Audio is taken as it comes and heard later, many legs at once, in chunks of 20 ms at 8 kHz: that halves what hearing
costs and keeps it off the packet's way. What a chunk says counts from the leg's next packet on, whenever it was heard:
a leg's own next audio makes all that waits be heard first. The screen sees every chunk; only rows with a tone in them,
and those in which a detector waits for something, cost more.
"""

import time

import numpy as np

from gateway.detect.detection import Detection
from gateway.detect.dtmf import Dtmf
from gateway.detect.fax import Fax
from gateway.detect.music import Music
from gateway.detect.policy import Bools, Codes, Ints, Policy
from gateway.detect.progress import Progress
from gateway.detect.sines import CHUNK, HOP, PAST, RATE, WINDOW, Floats, Screen, Sight
from gateway.detect.sound import FRAMES, Sound
from gateway.messages import Reason

QUIET_POWER = 10 ** ((-48.0 - 6.18) / 10)
"""Mean square of -48 dBm0: weaker sounds are no signal to a telephone network."""
CANDIDATE, KEYED = 0.9, 0.9
"""Shares of the power from which on a detector looks closer."""
TONEISH = 0.99
"""Share of the power that makes a trial: speech reaches it only where there is no noise to be taken out."""
REPORTS_PER_SECOND = 20
"""Of one leg; more is counted, not told."""


class Ear:
    """Everything that is heard on every slot."""

    def __init__(self, slots: int) -> None:
        self.policy = Policy(slots)
        self.found: list[Detection] = []
        """For the caller to take."""
        self.latches: list[int] = []
        """Slots that have been latched, likewise."""
        self.unreported = 0
        """Detections that came faster than anybody wants to read."""
        self.fault = ""
        """What went wrong in a detector the last time, if it did."""
        self.waiting = 0
        """Rows that wait to be heard."""
        self.seconds = 0.0
        """Spent hearing."""
        self.heard = np.zeros(slots, np.int64)
        """Samples at 8 kHz since the leg began, lost ones and those that wait counted in."""
        self._verdict = np.zeros(slots, np.uint8)
        self._sound = Sound(slots)
        self._waits = np.zeros(slots, np.bool_)
        """A full chunk was not heard yet."""
        self._ready: list[Ints] = []
        """These slots."""
        self._keep_music = np.zeros(slots, np.bool_)
        self._screen = Screen()
        self._dtmf, self._progress, self._fax, self._music = Dtmf(slots), Progress(slots), Fax(slots), Music(slots)
        self._music_since = np.full(slots, -1, np.int64)
        self._before = np.zeros(slots, np.float32)
        """The last sample at 16 kHz."""
        self._second = np.zeros(slots, np.int64)
        self._reports = np.zeros(slots, np.int64)

    def open_leg(self, slot: int) -> None:
        """A new leg: nothing was heard."""
        slots = np.array([slot])
        self._hear_before(slots)
        self.policy.open_leg(slot)
        for column in (self.heard, self._second, self._reports):
            column[slot] = 0
        self.forget(slots)

    def forget(self, slots: Ints) -> None:
        """Another source, or silence: what was heard does not go on. A latch stays."""
        self._hear_before(slots)
        for part in (self._sound, self._dtmf, self._progress, self._fax, self._music):
            part.reset(slots)
        self._verdict[slots] = np.where(self.policy.latched[slots], Reason.FAX, Reason.NONE)
        self._music_since[slots] = -1
        self._before[slots] = 0.0

    def skip(self, slots: Ints, frames: Ints) -> None:
        """So many frames of 10 ms were not sent, or were lost. frames: int64 [n]"""
        self._hear_before(slots)
        self.heard[slots] += frames * HOP
        self._sound.interrupt(slots)

    def verdicts(self, slots: Ints) -> Codes:
        """The `Reason` to leave the next packet of each slot alone, uint8 [n], by all that was taken before."""
        self._hear_before(slots)
        return self._verdict[slots]

    def take(self, slots: Ints, frames: Floats, rate: int, keep_music: Bools) -> None:
        """Audio to be heard.

        slots: int64 [n], unique; frames: float32 [n, k, rate / 100], -1..1; rate: 8000 or 16000 Hz; keep_music:
        bool [n].
        """
        pcm = frames.reshape(len(slots), -1)
        pcm = pcm if rate == RATE else self._narrowed(slots, pcm)
        self._keep_music[slots] = keep_music
        step = HOP if pcm.shape[1] % CHUNK or (self._sound.frames[slots] % FRAMES).any() else CHUNK
        for at in range(0, pcm.shape[1], step):
            self._fill(slots, pcm[:, at : at + step])

    def _fill(self, slots: Ints, pcm: Floats) -> None:
        """A chunk of each slot, or half of one."""
        self._hear_before(slots)
        full = self._sound.add(slots, pcm)
        self.heard[slots] += pcm.shape[1]
        slots = slots if full.all() else slots[full]
        self._waits[slots] = True
        self.waiting += len(slots)
        self._ready.append(slots)

    def _hear_before(self, slots: Ints) -> None:
        """What these slots have waiting comes before anything else of theirs."""
        if self.waiting and self._waits[slots].any():
            self.listen()

    def listen(self) -> None:
        """Hear all that waits. A fault in a detector makes these legs hear nothing, and is kept in `fault`."""
        if not self.waiting:
            return
        began = time.perf_counter()
        slots, self._ready, self.waiting = np.concatenate(self._ready), [], 0
        self._waits[slots] = False
        try:
            self._verdict[slots] = self._hear(slots)
            self.fault = ""
        except Exception as error:  # a mistake of ours, whatever it is: calls go on as if nothing was heard
            self.fault = f"{type(error).__name__}: {error}"
            self.forget(slots)
        self.seconds += time.perf_counter() - began

    def _narrowed(self, slots: Ints, pcm: Floats) -> Floats:
        """16 to 8 kHz through (1, 2, 1) / 4: enough for sounds below 2.5 kHz."""
        before = np.concatenate([self._before[slots, None], pcm[:, 1:-1:2]], axis=1)
        self._before[slots] = pcm[:, -1]
        narrowed: Floats = (before + pcm[:, 1::2]) * np.float32(0.25) + pcm[:, ::2] * np.float32(0.5)
        return narrowed

    def _hear(self, slots: Ints) -> Codes:
        """The chunk of each slot."""
        sound, begin = self._sound, self.heard[slots] - CHUNK
        keep = self._keep_music[slots]
        music = self._music.hear(slots, sound) & keep
        told = self._music_since[slots] >= 0
        self._note_music(slots, music & (told | ~self._progress.holds[slots]))
        active = self._dtmf.active[slots] | self._progress.active[slots] | self._fax.active[slots]
        loud = sound.energy(slots) > QUIET_POWER * CHUNK
        toneish = np.zeros(len(slots), np.bool_)
        seen = np.flatnonzero(loud | active)
        if len(seen):
            sight = self._screen.see(sound.stream(slots[seen], WINDOW))
            toneish[seen] = loud[seen] & (sight.tonal > TONEISH)
            candidate = loud[seen] & ((sight.tonal > CANDIDATE) | (sight.keyed.max(axis=1) > KEYED))
            closer = np.flatnonzero(candidate | active[seen])
            rows = seen[closer]
            if len(rows):
                self._look_closer(slots[rows], sound.stream(slots[rows], PAST + CHUNK), sight.take(closer), begin[rows])
        return self.policy.decide(
            slots,
            FRAMES,
            toneish,
            self._progress.proves(slots),
            self._music.maybe[slots] & keep & loud,
            music=music,
            progress=self._progress.holds[slots],
            dtmf=self._dtmf.holds[slots],
            fax=self._fax.holds[slots],
        )

    def _look_closer(self, slots: Ints, stream: Floats, sight: Sight, begin: Ints) -> None:
        for detector in (self._dtmf, self._progress, self._fax):
            for detection in detector.hear(slots, stream, sight, begin):
                self.report(detection)
        self.latch(slots[self._fax.latched[slots]])

    def _note_music(self, slots: Ints, music: Bools) -> None:
        """Music is reported when it begins, and again when it is over; a tone that has a name does not begin it."""
        changed = music != (self._music_since[slots] >= 0)
        if not changed.any():
            return
        for slot, on in zip(slots[changed].tolist(), music[changed].tolist(), strict=True):
            now, since = int(self.heard[slot]), int(self._music_since[slot])
            self.report(Detection(slot, "music", "", now) if on else Detection(slot, "music", "", since, now))
            self._music_since[slot] = now if on else -1

    def report(self, detection: Detection) -> None:
        """Keep it for the caller, unless the leg has said too much this second."""
        slot, second = detection.slot, int(self.heard[detection.slot]) // RATE
        if self._second[slot] != second:
            self._second[slot], self._reports[slot] = second, 0
        self._reports[slot] += 1
        if self._reports[slot] <= REPORTS_PER_SECOND:
            self.found.append(detection)
        else:
            self.unreported += 1

    def latch(self, slots: Ints) -> None:
        """These legs pass untouched from now on: the other end of their call is a machine."""
        fresh = slots[~self.policy.latched[slots]]
        self.policy.latched[fresh] = True
        self._verdict[fresh] = Reason.FAX
        self.latches += fresh.tolist()

"""All detectors of a worker: what comes in on each leg is heard here, and a reason to leave it alone comes out.

Stands between decode and mix. Streams of both rates are heard at 8 kHz, in chunks of at most 20 ms. The screen sees
every chunk; only rows with a tone in them, and those in which a detector waits for something, cost more.
"""

import numpy as np

from gateway.detect.detection import Detection
from gateway.detect.dtmf import Dtmf
from gateway.detect.fax import Fax
from gateway.detect.music import Music
from gateway.detect.policy import Bools, Codes, Ints, Policy
from gateway.detect.progress import Progress
from gateway.detect.sines import HOP, RATE, Floats, Screen, Sight

CHUNK = 2 * HOP
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
        self.heard = np.zeros(slots, np.int64)
        """Samples at 8 kHz since the leg began, lost ones counted in."""
        self._screen = Screen(slots)
        self._dtmf, self._progress, self._fax, self._music = Dtmf(slots), Progress(slots), Fax(slots), Music(slots)
        self._music_since = np.full(slots, -1, np.int64)
        self._before = np.zeros(slots, np.float32)
        """The last sample at 16 kHz."""
        self._second = np.zeros(slots, np.int64)
        self._reports = np.zeros(slots, np.int64)

    def open_leg(self, slot: int) -> None:
        """A new leg: nothing was heard."""
        self.policy.open_leg(slot)
        for column in (self.heard, self._second, self._reports):
            column[slot] = 0
        self.forget(np.array([slot]))

    def forget(self, slots: Ints) -> None:
        """Another source, or silence: what was heard does not go on. A latch stays."""
        for part in (self._screen, self._dtmf, self._progress, self._fax, self._music):
            part.reset(slots)
        self._music_since[slots] = -1
        self._before[slots] = 0.0

    def skip(self, slots: Ints, frames: Ints) -> None:
        """So many frames of 10 ms were not sent, or were lost. frames: int64 [n]"""
        self.heard[slots] += frames * HOP
        self._screen.reset(slots)

    def hear(self, slots: Ints, frames: Floats, rate: int, probabilities: Floats | None, keep_music: Bools) -> Codes:
        """The `Reason` of each frame, uint8 [n, k].

        slots: int64 [n], unique; frames: float32 [n, k, rate / 100], -1..1; rate: 8000 or 16000 Hz; probabilities:
        float32 [n, k, 4] of the network, or None; keep_music: bool [n].
        """
        narrow = frames.reshape(len(slots), -1)
        narrow = narrow if rate == RATE else self._narrowed(slots, narrow)
        codes = np.empty((len(slots), narrow.shape[1] // HOP), np.uint8)
        music = self._music.hear(slots, narrow.reshape(len(slots), -1, HOP), probabilities) & keep_music[:, None]
        for at in range(0, narrow.shape[1], CHUNK):
            chunk = narrow[:, at : at + CHUNK]
            end = (at + chunk.shape[1]) // HOP
            codes[:, at // HOP : end] = self._chunk(slots, chunk, music[:, end - 1])[:, None]
        self._note_music(slots, music[:, -1])
        return codes

    def _narrowed(self, slots: Ints, pcm: Floats) -> Floats:
        """16 to 8 kHz through (1, 2, 1) / 4: enough for sounds below 2.5 kHz."""
        before = np.concatenate([self._before[slots, None], pcm[:, 1:-1:2]], axis=1)
        self._before[slots] = pcm[:, -1]
        narrowed: Floats = (before + pcm[:, 1::2]) * np.float32(0.25) + pcm[:, ::2] * np.float32(0.5)
        return narrowed

    def _chunk(self, slots: Ints, pcm: Floats, music: Bools) -> Codes:
        begin = self.heard[slots]
        self.heard[slots] = begin + pcm.shape[1]
        sight, stream = self._screen.look(slots, pcm)
        loud, tonal = sight.power > QUIET_POWER, sight.tonal
        rows = np.flatnonzero(
            loud & ((tonal > CANDIDATE) | (sight.keyed.max(axis=1) > KEYED))
            | self._dtmf.active[slots] | self._progress.active[slots] | self._fax.active[slots]
        )  # fmt: skip
        if len(rows):
            self._look_closer(slots[rows], stream[rows], sight.take(rows), begin[rows])
        return self.policy.decide(
            slots,
            pcm.shape[1] // HOP,
            loud & (tonal > TONEISH),
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
        """Music is reported when it begins, and again when it is over."""
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
        self.latches += fresh.tolist()

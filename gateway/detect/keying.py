"""Frequency shift keying: V.21 of faxes and of V.8, Bell 103, and text telephones.

Two correlators a channel, one bit or half a bit long, say which of its two frequencies sounds; the times at which
that changes are all that is looked at further. They lie on the grid of the bits (modems), or on that of a character
that began with its start bit (text telephones). Part of `fax`.
"""

import numpy as np

from gateway.detect.detection import Detection
from gateway.detect.fsk import CHANNELS, Keyed, Line, demodulate
from gateway.detect.sines import HOP, WINDOW, Bools, Floats, Ints, dbm0
from gateway.detect.teletype import Change, Typist

SEEMS = 0.9
"""Share of the power in the channel's band from which on it is looked at."""
MOVED_HZ = 47.0
"""A tone that was listened to in vain counts as another from here on."""


class Keying:
    """All channels of every slot."""

    def __init__(self, slots: int) -> None:
        shape = (slots, len(CHANNELS))
        self._open, self._likely = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        self._told = np.zeros(slots, np.bool_)
        """Keying was reported: the slot is latched, and nothing new can come."""
        self._idle_hz = np.zeros(shape, np.float32)
        """Where the tone lies that nobody listens to, or 0."""
        self._lines: dict[tuple[int, int], Line] = {}
        self._typists: dict[tuple[int, int], list[Typist]] = {}

    def is_active(self, slots: Ints) -> Bools:
        """bool [n]: waits for the next chunk."""
        return np.asarray(self._open[slots].any(axis=1))

    def is_likely(self, slots: Ints) -> Bools:
        """bool [n]: hears something that may be keying."""
        return np.asarray(self._likely[slots].any(axis=1))

    def reset(self, slots: Ints) -> None:
        """Forget these slots."""
        for column in (self._open, self._likely, self._told):
            column[slots] = False
        self._idle_hz[slots] = 0.0
        for key in [(slot, index) for slot in slots.tolist() for index in range(len(CHANNELS))]:
            self._lines.pop(key, None)
            self._typists.pop(key, None)

    def hear(self, slots: Ints, stream: Floats, seems: Bools, hz: Floats, begin: Ints) -> list[Detection]:
        """See `fax.Fax.hear`; seems: bool [m, 5], rows with their power in a channel's band; hz: of its peak."""
        moved = np.abs(hz[:, None] - self._idle_hz[slots]) > MOVED_HZ
        seems = (seems & moved) | self._open[slots]
        found: list[Detection] = []
        for index in np.flatnonzero(seems.any(axis=0)).tolist():
            rows = np.flatnonzero(seems[:, index] & ~self._told[slots])
            found += self._listen(index, slots[rows], stream[rows], hz[rows], begin[rows])
        return found

    def _listen(self, index: int, slots: Ints, stream: Floats, hz: Floats, begin: Ints) -> list[Detection]:
        channel = CHANNELS[index]
        sound = np.clip(np.nan_to_num(stream[:, WINDOW - HOP - channel.window :].astype(np.float64)), -8, 8)
        keyed = demodulate(channel, sound)
        found: list[Detection] = []
        for row, slot in enumerate(slots.tolist()):
            key, start = (slot, index), int(begin[row])
            line = self._line(key, start)
            until = start + stream.shape[1] - (WINDOW - HOP)
            if not line.goes_on(until, Keyed._make(column[row] for column in keyed)):
                self._drop(key)
                continue
            name = self._write(key, line, line.changes(keyed.lead[row], start - channel.window / 2))
            if name:
                found.append(self._report(key, line, name))
            elif line.is_idle():
                self._drop(key)
                self._idle_hz[key] = hz[row]
            else:
                self._likely[key] = line.is_likely()
        return found

    def _line(self, key: tuple[int, int], begin: int) -> Line:
        """What goes on here, or begins."""
        line = self._lines.get(key)
        if line is None or line.until != begin:
            self._drop(key)
            line = self._lines[key] = Line(CHANNELS[key[1]], begin)
        self._open[key], self._idle_hz[key] = True, 0.0
        return line

    def _drop(self, key: tuple[int, int]) -> None:
        self._lines.pop(key, None)
        self._open[key] = self._likely[key] = False
        for typist in self._typists.get(key, ()):
            typist.lose()

    def _write(self, key: tuple[int, int], line: Line, changes: list[Change]) -> str:
        """The name of what has become certain, or nothing."""
        channel = CHANNELS[key[1]]
        typists = self._typists.get(key, [])
        if changes and not typists and channel.typists:
            typists = self._typists[key] = [Typist(*manner) for manner in channel.typists]
        for change in changes:
            line.take(change)
            for typist in typists:
                typist.take(change)
        if not line.is_tuned():
            return ""
        now = line.until - channel.window / 2
        written = [typist.name for typist in typists if typist.is_certain(now)]
        return written[0] if written else line.sync_name() if line.is_sync() else ""

    def _report(self, key: tuple[int, int], line: Line, name: str) -> Detection:
        level = float(dbm0(np.array(line.power)))
        typists = self._typists.pop(key, [])
        begin = min([line.begin, *(typist.begin for typist in typists if typist.name == name)])
        self._told[key[0]] = True
        for index in range(len(CHANNELS)):
            self._drop((key[0], index))
        return Detection(key[0], "fax", name, begin, -1, level)

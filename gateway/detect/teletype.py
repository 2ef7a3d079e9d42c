"""Characters of text telephones: a start bit, data, a pause, each at a time of its own. Part of `keying`."""

from collections import deque
from typing import NamedTuple

from gateway.detect.sines import RATE

GRID = 0.15
"""How far from the edge of a bit a change may lie, in bits."""
ENOUGH = 3
"""Characters without a bad one between them, not all the same: a warble makes many, but one kind."""
CHANGES = 6
"""Changes inside these characters."""
LONGEST_PAUSE = 5 * RATE
"""Between two characters that count together."""


class Change(NamedTuple):
    """One frequency gives way to the other."""

    at: float
    """Sample."""
    one: bool
    """To the frequency of 1."""


class Typist:
    """Reads characters of one speed, as long as they are good."""

    def __init__(self, name: str, baud: float, data_bits: int) -> None:
        self.name = name
        self.begin = 0
        """Sample at which the first good character began."""
        self._bit, self._data_bits = RATE / baud, data_bits
        self._start: float | None = None
        """Of the character that is being sent."""
        self._inside: list[Change] = []
        self._codes: deque[int] = deque(maxlen=ENOUGH + 1)
        self._changes = 0
        self._ended = 0.0

    def take(self, change: Change) -> None:
        """The next change."""
        self._finish(change.at)
        if self._start is not None:
            self._inside.append(change)
        elif not change.one:
            self._start, self._inside = change.at, []

    def lose(self) -> None:
        """Something was not heard: so is the character in it not; those before it stand."""
        self._start = None

    def is_certain(self, now: float) -> bool:
        """Whether this is text; now: all changes before it were taken."""
        self._finish(now - self._bit / 2)
        return len(self._codes) >= ENOUGH and len(set(self._codes)) > 1 and self._changes >= CHANGES

    def _finish(self, now: float) -> None:
        """Read the character once the middle of its stop bit has passed."""
        start = self._start
        if start is None or now - start < (self._data_bits + 1.5) * self._bit:
            return
        code = self._read(start)
        self._start = None
        if code is None or start - self._ended > LONGEST_PAUSE:
            self._codes.clear()
            self._changes = 0
        if code is None:
            return
        self.begin = self.begin if self._codes else int(start)
        self._codes.append(code)
        self._changes += len(self._inside)
        self._ended = now

    def _read(self, start: float) -> int | None:
        """The character's bits, lowest first; None if an edge lies off its place or the stop bit is missing."""
        edges = [((change.at - start) / self._bit, change.one) for change in self._inside]
        if not edges or not edges[-1][1] or any(abs(at - round(at)) > GRID or round(at) < 1 for at, _ in edges):
            return None
        code = 0
        for bit in range(self._data_bits):
            passed = [one for at, one in edges if at < bit + 1.5]
            code |= (passed[-1] if passed else False) << bit
        return code

"""How fast a stream may go: live audio at once, everything faster on credits.

Work that is not real time (files, uploads) shares a few packets in flight in each media process, so that every batch
has room for it and no live call waits. Sans-IO; time is an argument.
"""

from collections import deque
from collections.abc import Callable

CREDITS = 8
"""Packets in flight in a media process for all work that is not live: a fraction of a millisecond in a batch."""
BUSY_CREDITS = 2
BUSY = 0.85
"""Busy share of a media process above which it gets only BUSY_CREDITS."""
LIVE_RATE = 1.25
"""Seconds of audio a second that still count as live: who has fallen behind catches up."""
LIVE_FIRST_S = 0.3
"""How far a new stream may run ahead of the clock: an upload shows as one after that."""
LIVE_BURST_S = 1.0
"""What a live stream may catch up at once, after a pause of its network or its machine."""


class Pace:
    """A bucket of seconds of audio that fills by itself."""

    def __init__(self, rate: float, burst_s: float, first_s: float | None = None) -> None:
        """rate: seconds of audio a second; 0 is no limit. burst_s: what a full bucket has, in seconds of the clock;
        first_s: what it has at first, when that is less."""
        self._per_s, self._burst_s = 1 / rate if rate else 0.0, burst_s
        self._first_s = burst_s if first_s is None else first_s
        self._due_s = float("-inf")

    def permits(self, now: float) -> bool:
        """Whether there is something in it."""
        return self._due_s <= now

    def take(self, seconds: float, now: float) -> None:
        """Take out what was sent; an empty bucket may be overdrawn, and permits nothing until it is made up."""
        if self._due_s == float("-inf"):
            self._due_s = now - self._first_s
        self._due_s = max(self._due_s, now - self._burst_s) + seconds * self._per_s


class Credits:
    """The packets that one media process may have in flight for work that is not live."""

    def __init__(self, busy: Callable[[], float]) -> None:
        """busy: the process's present busy share, 0..1."""
        self._busy = busy
        self._used = 0
        self._waiting: deque[Callable[[float], None]] = deque()

    def _free(self) -> int:
        return (BUSY_CREDITS if self._busy() > BUSY else CREDITS) - self._used

    def take(self) -> bool:
        """A credit, if there is one."""
        if self._free() <= 0:
            return False
        self._used += 1
        return True

    def wait(self, go_on: Callable[[float], None]) -> None:
        """Call this once, in its turn, when there is a credit again."""
        self._waiting.append(go_on)

    def give_back(self, now: float) -> None:
        """A packet has come back, or is given up; those who wait longest go on."""
        self._used -= 1
        self.wake(now)

    def wake(self, now: float) -> None:
        """Let as many go on as there are credits; who needs none any more leaves it to the next."""
        for _ in range(len(self._waiting)):
            if self._free() <= 0:
                return
            self._waiting.popleft()(now)

"""How fast a stream may go: live audio at once, everything faster on credits.

Work that is not real time (files, uploads) goes in pulses: all of it together into one batch of a media process, and
the batches in between are for live calls alone. Sans-IO; time is an argument.
"""

import heapq
import itertools
from collections.abc import Callable

PULSE_S = 0.010
"""Between pulses in a process that is BUSY_ENOUGH; down to a quarter where it is less so."""
BUSY_ENOUGH = 0.4
PULSE_FRAMES = 20
"""Of all work that is not live, in a pulse: half a millisecond of the network. Pulses of twice as many, half as often,
cost half the process's time and moved the 99th percentile of live calls by twice as much."""
BUSY_FRAMES = 8
BUSY = 0.85
"""Busy share of a media process above which a pulse has only BUSY_FRAMES."""
PACKET_FRAMES = (2, 4)
"""Least and most of a packet on credits: its frames are a step of the network each, its neighbours share the steps."""
QUIET_PACKETS = 8
"""In flight in a media process that has no live legs."""
LIVE_RATE = 1.25
"""Seconds of audio a second that still count as live: who has fallen behind catches up."""
FLOOR_RATE = 1.0
"""What an upload always gets: it might be a live stream that catches up."""
LIVE_FIRST_S = 0.3
"""How far a new stream may run ahead of the clock: an upload shows as one after that."""
LIVE_BURST_S = 1.0
"""What a live stream may catch up at once, after a pause of its network or its machine."""


class Pace:
    """A bucket of seconds of audio that fills by itself."""

    def __init__(self, rate: float, burst_s: float, first_s: float | None = None) -> None:
        """rate: seconds of audio a second; 0 is no limit. burst_s: what a full bucket has, in seconds of the clock;
        first_s: what it has at first, when that is less."""
        self.change(rate, burst_s)
        self._first_s = burst_s if first_s is None else first_s
        self._due_s = float("-inf")

    def change(self, rate: float, burst_s: float) -> None:
        """Another rate and burst, from now on; what was taken stays taken."""
        self._per_s, self._burst_s = 1 / rate if rate else 0.0, burst_s

    def permits(self, now: float) -> bool:
        """Whether there is something in it."""
        return self._due_s <= now

    def take(self, seconds: float, now: float) -> None:
        """Take out what was sent; an empty bucket may be overdrawn, and permits nothing until it is made up."""
        if self._due_s == float("-inf"):
            self._due_s = now - self._first_s
        self._due_s = max(self._due_s, now - self._burst_s) + seconds * self._per_s


class Credits:
    """What one media process may have in flight for work that is not live."""

    def __init__(
        self,
        busy: Callable[[], float],
        legs: Callable[[], int],
        later: Callable[[float, Callable[[float], None]], object],
    ) -> None:
        """busy: the process's present busy share, 0..1; legs: all that it has; later: have something called with the
        time, after so many seconds."""
        self._busy, self._legs, self._later = busy, legs, later
        self._used = self._left = 0
        self._waiting: list[tuple[int, int, Callable[[float], None]]] = []
        """A heap: who has waited longest since the last turn comes first."""
        self._order = itertools.count()
        self._pulse_s = float("-inf")
        self._awaited = False
        """A pulse."""
        self.ahead = 0
        """Legs of streams that are not live."""
        self.turn = 0
        """Number of the last packet that went; who waits tells that of its own last."""

    @property
    def quiet(self) -> bool:
        """There is nobody to be held up."""
        return self._legs() <= self.ahead

    def take(self) -> int:
        """How many frames a packet on a credit may have; 0 is to `wait`."""
        if self.quiet:
            frames = PACKET_FRAMES[1] if self._used < QUIET_PACKETS else 0
        else:
            frames = min(max(PULSE_FRAMES // max(self.ahead, 1), PACKET_FRAMES[0]), PACKET_FRAMES[1], self._left)
            self._left -= frames
        self._used += frames > 0
        self.turn += frames > 0
        return frames

    def wait(self, go_on: Callable[[float], None], turn: int, now: float) -> None:
        """Call this once, when there is a credit again. turn: what `turn` was after its last packet, 0 at first."""
        heapq.heappush(self._waiting, (turn, next(self._order), go_on))
        self._await_pulse(now)

    def _await_pulse(self, now: float) -> None:
        if self._waiting and not self._awaited:
            self._awaited = True
            period_s = PULSE_S * min(max(self._busy() / BUSY_ENOUGH, 0.25), 1.0)
            self._later(max(0.0, self._pulse_s + period_s - now), self._pulse)

    def _pulse(self, now: float) -> None:
        """A process that has not answered the last pulse gets less."""
        self._awaited, self._pulse_s = False, now
        self._left = max(0, (BUSY_FRAMES if self._busy() > BUSY else PULSE_FRAMES) - PACKET_FRAMES[0] * self._used)
        self._wake(now)
        self._left = 0
        self._await_pulse(now)

    def give_back(self, now: float) -> None:
        """A packet has come back, or is given up; where all is quiet, those who wait longest go on at once."""
        self._used -= 1
        if self.quiet:
            self._wake(now)

    def _wake(self, now: float) -> None:
        """Let as many go on as there are credits; who needs none any more leaves it to the next."""
        for _ in range(len(self._waiting)):
            if (self._used >= QUIET_PACKETS) if self.quiet else (self._left <= 0):
                return
            heapq.heappop(self._waiting)[2](now)

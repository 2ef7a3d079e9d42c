"""Which worker takes a call, and which row of its arrays each leg gets.

All legs of a call live in one worker, the least loaded when the call begins. Slots are leases: the lowest free row
first, under a generation that no other lease ever had. Sans-IO; the supervisor says who is ready and how busy.
"""

import heapq
from dataclasses import dataclass, field

from gateway.errors import CallerError
from gateway.messages import Lease

SMOOTHING = 0.3
"""Weight of the newest measurement."""


class LoadLimitError(CallerError):
    """No worker may take another call now: the proxy should ask another gateway."""


class OutOfSlotsError(CallerError):
    """The call's worker has no free row left."""


@dataclass(slots=True)
class Position:
    """One worker's place: it outlives the processes that fill it."""

    free: list[int]
    ready: bool = False
    busy: float = 0.0
    """Share of the last seconds that the worker was busy, 0..1."""
    legs: int = 0
    since_report: int = 0
    """Legs taken since `busy` was measured: their work does not show in it yet."""

    def load(self, slots: int) -> float:
        """Busy share, 0..1 and more, with what the newest legs will probably cost."""
        return self.busy + self.since_report / slots


@dataclass(slots=True)
class Leases:
    """The rows of all workers."""

    workers: int
    slots: int
    load_limit: float = 0.95
    """Busy share above which a worker gets no new call."""
    positions: list[Position] = field(init=False)
    _generation: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.positions = [Position(list(range(self.slots))) for _ in range(self.workers)]

    def choose(self, legs: int) -> int:
        """The least loaded worker with room for `legs`; raises LoadLimitError."""
        ready = [index for index, position in enumerate(self.positions) if position.ready]
        if not ready:
            raise LoadLimitError("No media worker is ready")
        roomy = [index for index in ready if len(self.positions[index].free) >= legs]
        if not roomy:
            raise LoadLimitError("Every media worker is full: raise media.slots or media.workers")
        best = min(roomy, key=lambda index: (self.positions[index].load(self.slots), self.positions[index].legs))
        if self.positions[best].busy > self.load_limit:
            raise LoadLimitError("Load limit exceeded")
        return best

    def take(self, worker: int) -> Lease:
        """The lowest free row of a worker; raises OutOfSlotsError."""
        position = self.positions[worker]
        if not position.free:
            raise OutOfSlotsError("The call's media worker is full: raise media.slots")
        self._generation += 1
        position.legs += 1
        position.since_report += 1
        return Lease(heapq.heappop(position.free), self._generation)

    def give_back(self, worker: int, lease: Lease) -> None:
        """End a lease."""
        position = self.positions[worker]
        position.legs -= 1
        heapq.heappush(position.free, lease.slot)

    def set_ready(self, worker: int, ready: bool) -> None:
        """A worker takes calls, or is gone for the moment."""
        self.positions[worker].ready = ready
        self.positions[worker].busy = 0.0

    def measured(self, worker: int, busy: float) -> None:
        """busy: share of the last second, 0..1. One bad second is no load: it counts for SMOOTHING."""
        position = self.positions[worker]
        position.busy += SMOOTHING * (busy - position.busy)
        position.since_report = 0

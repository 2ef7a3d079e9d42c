"""Call set-ups at a steady rate over NG while media runs: how long an offer and an answer take."""

import heapq
import time
from dataclasses import dataclass, field

import numpy as np

from loadtest.calls import Call
from loadtest.ng import NgClient, Reply

LIVES_S = 1.0
"""How long each call lives before it is deleted."""
PATIENCE_S = 5.0
SILENT_PARTY = (0, ("127.0.0.2", 9))
"""These calls carry no media."""


@dataclass(slots=True)
class SetUps:
    """What became of the calls."""

    asked: int
    latencies_s: list[float] = field(default_factory=list)
    """Of each call: its offer's and its answer's time to the reply, summed."""
    refused: int = 0

    def percentile_ms(self, at: float) -> float:
        """Of the set-ups that were answered."""
        return float(np.percentile(self.latencies_s, at)) * 1e3 if self.latencies_s else float("inf")

    @property
    def unanswered(self) -> int:
        return self.asked - len(self.latencies_s) - self.refused


class _Callers:
    """Offers on time; an answer for each offer's reply; a delete a second later."""

    def __init__(self, ng: NgClient, count: int) -> None:
        self._ng = ng
        self.result = SetUps(count)
        self._offers: dict[str, Call] = {}
        self._answers: dict[str, tuple[Call, float]] = {}
        self._ends: list[tuple[float, str, Call]] = []

    def begin(self) -> None:
        call = Call.between(SILENT_PARTY, SILENT_PARTY)
        self._offers[self._ng.send(call.offer())] = call

    def heard(self, reply: Reply) -> None:
        if reply.body.get("result") != "ok":
            self.result.refused += reply.cookie in self._offers or reply.cookie in self._answers
        elif call := self._offers.pop(reply.cookie, None):
            self._answers[self._ng.send(call.answer())] = (call, reply.latency_s)
        elif answered := self._answers.pop(reply.cookie, None):
            call, offer_s = answered
            self.result.latencies_s.append(offer_s + reply.latency_s)
            heapq.heappush(self._ends, (time.monotonic() + LIVES_S, call.call_id, call))

    def end_due(self) -> None:
        while self._ends and self._ends[0][0] <= time.monotonic():
            self._ng.send(heapq.heappop(self._ends)[2].delete())

    @property
    def busy(self) -> bool:
        return bool(self._ends) or self._ng.waiting > 0


def run(ng: NgClient, per_second: int, seconds: float) -> SetUps:
    """Set up and delete calls at an even rate; returns when all are gone, at most some seconds late."""
    count = int(per_second * seconds)
    callers = _Callers(ng, count)
    start, begun = time.monotonic(), 0
    while begun < count or (callers.busy and time.monotonic() < start + seconds + PATIENCE_S):
        if begun < count and time.monotonic() >= start + begun / per_second:
            callers.begin()
            begun += 1
        callers.end_due()
        wait_s = start + begun / per_second - time.monotonic() if begun < count else 0.02
        for reply in ng.replies(max(wait_s, 0.0)):
            callers.heard(reply)
    return callers.result

"""The engine contract over Triton: one request a batch, one sequence a worker, the state on the server.

*Late* and *failed* are different things. A late batch leaves dry and its answer is discarded; the server has applied
it, so the rows stay as they are. After a failure, or with a server that has begun anew, all rows are lost: `epoch`
grows, and the media plane lets every row hear its stream for a while before it is heard again.
"""

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import numpy as np

from gateway.denoise.engine import Floats, Ints, Result, Ticket
from gateway.denoise.triton import WIRE, wire
from gateway.denoise.triton.link import Link, refusal
from gateway.errors import EngineError

LATE_LIMIT = 3
"""So many late batches on end, and the server is taken for gone."""
SPOILT_LIMIT, SPOILT_LEAK = 10, 0.2
"""So many batches on end with rows that are no numbers, and the server is left; a good batch makes up for a fifth of
one, so that every sixth may have such rows."""
GRACE_S = 1.0
"""How much later than its deadline an answer is still of use to know that the batch was applied."""
KEEP_S = 20.0
"""A sequence without a batch for so long gets one without rows: the server would end it after `IDLE_MICROSECONDS`."""
RETURN_S = 5.0
"""How long a preferred server must have been well before a worker moves back."""
TEND_S = 0.02


class SlowError(EngineError):
    """A right answer that came too late to be of use."""


@dataclass(slots=True)
class Flight:
    """A batch on its way."""

    batch_id: int
    batch: wire.Batch
    tickets: list[int]
    home: tuple[int, int]
    """Epochs of the engine and of the server when it was sent: what becomes of it says nothing of later rows."""
    counted_s: float
    """Up to when its time is counted; at first, when it was sent."""
    due_s: float
    future: Any = None
    came_s: float | None = None
    """When its request ended; written on gRPC's thread."""
    results: dict[int, Result] = field(default_factory=dict)
    late: bool = False
    error: str = ""


log = logging.getLogger(__name__)


class TritonEngine:
    """A model at one rate on one of several servers."""

    substitute = ""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        model: tuple[str, str],
        rate: int,
        slots: int,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """endpoints: `host:port`, the best first; model: name and version; deadline_s: from flush to answer."""
        self.rate = rate
        self.hop = self.delay = rate // 100
        self.epoch = 0
        self.counters = dict.fromkeys(("batches", "late", "failed", "bad_answers", "connects", "microseconds"), 0)
        self._deadline_s, self._clock, self._model = deadline_s, clock, model
        wanted = wire.Wanted(WIRE, rate, self.hop, self.delay)
        self._links = [Link(endpoint, model, wanted) for endpoint in endpoints]
        self._link: Link | None = None
        """The server whose rows are ours."""
        self._opening: tuple[Link, int, Flight] | None = None
        self._worker = secrets.randbits(62) + 1, slots
        """Our number; who starts with it again gives up the rows it had."""
        self._sequence = 0
        self._server_epoch = 0
        self._reset = np.zeros(slots, np.bool_)
        """Rows whose next frame is the first of a stream."""
        self._parts: list[wire.Part] = []
        self._tickets: list[int] = []
        self._ids = self._missed = 0
        self._rows = 1
        """Of the last batch, or of what would have been one: an opening tries as many."""
        self._flight: Flight | None = None
        self._overdue: list[Flight] = []
        self._late_on_end, self._spoilt = 0, 0.0
        self._sent_s = self._tended_s = -np.inf
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def ready(self) -> bool:
        """A server holds our rows."""
        return self._link is not None

    @property
    def fault(self) -> str:
        """Why no server does; see `RemoteEngine`."""
        if self._link is not None:
            return ""
        return "; ".join(f"Triton at {link.endpoint}: {link.fault or 'connecting'}" for link in self._links)

    @property
    def endpoint_faults(self) -> dict[str, str]:
        """See `RemoteEngine.endpoint_faults`."""
        return {link.endpoint: link.fault for link in self._links if link.fault} if len(self._links) > 1 else {}

    # --- connections

    def tend(self, now: float) -> None:
        """See `RemoteEngine.tend`."""
        if now - self._tended_s < TEND_S:
            return
        self._tended_s = now
        opening = self._opening[0] if self._opening is not None else None
        for each in self._links:
            each.tend(now, serving=each is self._link or each is opening)
        self._review(now)
        if self._opening is not None:
            self._finish_opening(now)
        elif self._link is None:
            link = next((link for link in self._links if link.ready), None)
            if link is not None:
                self._open(link, now)
        else:
            self._look_back(self._link, now)

    def _review(self, now: float) -> None:
        """Of late batches only their time and whether they were applied are of interest. When one without rows fails,
        it may be that only the sequence has ended, which no stream notices: begin another, and if the server is gone,
        that fails."""
        overdue, self._overdue = self._overdue, []
        for flight in overdue:
            if not flight.future.done():
                self._overdue.append(flight)
                continue
            self._count_time(flight, now)
            reason = refusal(flight.future)
            if not reason or self._link is None or not self._holds(flight):
                continue
            if flight.tickets:
                self._fail(reason, now)
            elif self._opening is None:
                self._open(self._link, now)

    def _holds(self, flight: Flight) -> bool:
        """Its rows are still those that our server has."""
        return flight.home[0] == self.epoch

    def _look_back(self, link: Link, now: float) -> None:
        """Return to the preferred server when it has been well for a while; keep a quiet sequence alive."""
        better = next((each for each in self._links if each.ready), link)
        if better is not link:
            if now - better.ready_since >= RETURN_S:
                self._open(better, now)
        elif now - self._sent_s >= KEEP_S:
            self._overdue.append(self._send_silence(link, (self._sequence, False), 0, now))
            self._sent_s = now

    def _open(self, link: Link, now: float) -> None:
        """Start our sequence there, with a batch as large as the last: a server that is too slow for it would only be
        left again. What runs meanwhile goes on elsewhere."""
        sequence = secrets.randbits(62) + 1  # never one that the server may still be ending
        self._opening = (
            link,
            sequence,
            self._send_silence(link, (sequence, True), min(self._rows, self._worker[1]), now),
        )

    def _send_silence(self, link: Link, sequence: tuple[int, bool], rows: int, now: float) -> Flight:
        silence = wire.merge([wire.Part(*silent(self.hop, rows))])
        self._ids += 1
        message = wire.request(self._model, sequence, self._ids, self._worker, silence, np.zeros(rows, np.bool_))
        flight = Flight(self._ids, silence, [], (self.epoch, self._server_epoch), now, now + GRACE_S)
        flight.future = link.send(message, GRACE_S, partial(self._arrived, flight))
        return flight

    def _finish_opening(self, now: float) -> None:
        assert self._opening is not None
        link, sequence, flight = self._opening
        if flight.came_s is None:
            return
        self._opening = None
        try:
            answer = self._read(flight)
            took_ms, deadline_ms = (flight.came_s - flight.counted_s) * 1000, self._deadline_s * 1000
            if took_ms > deadline_ms:
                rows = len(flight.batch.slots)
                raise SlowError(f"it answers {rows} rows in {took_ms:.0f} ms, the deadline is {deadline_ms:g} ms")
        except EngineError as error:
            kind = {"bad": isinstance(error, wire.BadAnswerError), "slow": isinstance(error, SlowError)}
            if link is self._link:
                self._fail(str(error), now, **kind)
            else:
                link.failed(str(error), now, **kind)
            return
        link.opened()
        self._link, self._sequence, self._server_epoch = link, sequence, answer.epoch
        self._sent_s = now
        self._late_on_end, self._spoilt = 0, 0.0
        self.counters["connects"] += 1
        self._lose_rows()

    def _fail(self, reason: str, now: float, bad: bool = False, slow: bool = False) -> None:
        """The server is of no use at present, and what it knew of our rows is lost; see `Link.failed`."""
        if self._link is not None:
            self._link.failed(reason, now, bad, slow)
            if self._opening is not None and self._opening[0] is self._link:
                self._opening = None  # its connection ends when the server is asked again
        self._link = None
        self.counters["failed"] += 1
        self._lose_rows()

    def _lose_rows(self) -> None:
        self.epoch += 1
        self._reset[:] = True  # also of a new sequence: its opening has run on some

    # --- batches

    def reset(self, slots: Ints) -> None:
        """The next frame of these is the first of a stream; told with it."""
        self._reset[slots] = True

    def submit(self, slots: Ints, frames: Floats, counts: Ints, control: Floats) -> Ticket:
        """Join the batch that `flush` sends. Raises EngineError when no server is there."""
        if self._link is None:
            self.miss(len(slots))
            raise EngineError(self.fault)
        self._ids += 1
        self._parts.append(wire.Part(slots, frames, counts, control))
        self._tickets.append(self._ids)
        return Ticket(self._ids)

    def miss(self, rows: int) -> None:
        """So many rows would have been in the batch, had a server been there."""
        self._missed += rows

    def flush(self) -> None:
        """See `RemoteEngine.flush`."""
        if not self._parts:
            self._rows, self._missed = self._missed or self._rows, 0
            return
        parts, self._parts = self._parts, []
        tickets, self._tickets = self._tickets, []
        self._ids += 1
        batch = wire.merge(parts)
        self._rows, self._missed = len(batch.slots), 0
        now = self._clock()
        flight = Flight(self._ids, batch, tickets, (self.epoch, self._server_epoch), now, now + self._deadline_s)
        self._flight = flight
        if self._link is None:
            flight.error = self.fault
            return
        reset = self._reset[batch.slots]
        self._reset[batch.slots] = False
        message = wire.request(self._model, (self._sequence, False), self._ids, self._worker, batch, reset)
        flight.future = self._link.send(message, self._deadline_s + GRACE_S, partial(self._arrived, flight))
        self._sent_s = now
        self.counters["batches"] += 1

    def due_s(self) -> float | None:
        """See `RemoteEngine.due_s`."""
        flight = self._flight
        waits = flight is not None and flight.future is not None and not flight.late and not flight.future.done()
        return flight.due_s if flight is not None and waits else None

    def collect(self, ticket: Ticket, deadline: float) -> Result | None:
        """A part's result; None when it is late. Raises EngineError when the batch failed."""
        if ticket.batch_id in self._tickets:
            self.flush()
        flight = self._flight
        if flight is None or ticket.batch_id not in flight.tickets:
            raise EngineError("the batch was given up")
        if not flight.results and not flight.late and not flight.error:
            self._settle(flight, min(deadline, flight.due_s))
        if flight.error:
            raise EngineError(flight.error)
        return flight.results.get(ticket.batch_id)

    def _settle(self, flight: Flight, deadline: float) -> None:
        """Wait for the answer as long as it is of use, and check it."""
        try:
            flight.future.exception(timeout=max(deadline - self._clock(), 0.0))
        except grpc.FutureTimeoutError:
            self._late(flight)
            return
        except grpc.FutureCancelledError:
            log.debug("a batch was cancelled")  # _read says so
        now = self._clock()
        self._count_time(flight, now)
        try:
            answer = self._read(flight)
            if answer.epoch != flight.home[1]:
                raise EngineError("it has begun anew")
        except EngineError as error:
            flight.error = f"Triton: {error}"
            if self._holds(flight):
                self._fail(str(error), now, bad=isinstance(error, wire.BadAnswerError))
            return
        flight.results = dict(zip(flight.tickets, answer.results, strict=True))
        if self._holds(flight):
            self._late_on_end = 0
            self._count_spoilt(answer, now)

    def _count_time(self, flight: Flight, now: float) -> None:
        """Of a late batch: its wait at once, and the rest when its answer has come or nobody waits for one any more."""
        until = now if flight.came_s is None else flight.came_s
        if flight.tickets and until > flight.counted_s:
            self.counters["microseconds"] += round((until - flight.counted_s) * 1e6)
            flight.counted_s = until

    def _count_spoilt(self, answer: wire.Answer, now: float) -> None:
        """Single rows are for the media plane; a model that goes on like this is not to be used."""
        self._spoilt = self._spoilt + 1 if answer.spoilt else max(self._spoilt - SPOILT_LEAK, 0.0)
        if self._spoilt >= SPOILT_LIMIT:
            self._fail("its network gave no numbers again and again", now, bad=True)

    def _late(self, flight: Flight) -> None:
        """One for which nobody waited as long as it may take says nothing of its server."""
        now = self._clock()
        flight.late = True
        self._overdue.append(flight)
        self._count_time(flight, now)
        self.counters["late"] += 1
        self._late_on_end += self._holds(flight) and now >= flight.due_s
        if self._late_on_end >= LATE_LIMIT:
            self._late_on_end = 0
            deadline_ms = self._deadline_s * 1000
            self._fail(f"{LATE_LIMIT} batches on end took longer than {deadline_ms:g} ms", now, slow=True)

    def _read(self, flight: Flight) -> wire.Answer:
        """A finished request's checked answer. Raises EngineError."""
        reason = refusal(flight.future)
        if reason:
            raise EngineError(reason)
        try:
            return wire.answer(flight.future.result(), flight.batch_id, flight.batch)
        except wire.BadAnswerError:
            self.counters["bad_answers"] += 1
            raise

    # --- the loop

    def fileno(self) -> int:
        """See `RemoteEngine.fileno`."""
        return self._event

    def acknowledge(self) -> None:
        """See `RemoteEngine.acknowledge`."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def _arrived(self, flight: Flight, _: Any) -> None:
        """Called on gRPC's thread."""
        flight.came_s = self._clock()
        os.eventfd_write(self._event, 1)

    def close(self) -> None:
        """Let go of all servers; for tests and measurements, a worker's process just ends."""
        for link in self._links:
            link.close()
        self._link = None


def silent(hop: int, rows: int) -> tuple[Ints, Floats, Ints, Floats]:
    """What `submit` takes, for a frame of silence of the first `rows` slots."""
    frames, control = np.zeros((rows, 1, hop), np.float32), np.ones((rows, 2), np.float32)
    return np.arange(rows), frames, np.ones(rows, np.int64), control

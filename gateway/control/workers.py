"""Supervision of the media processes: one for each position, and one in reserve with everything loaded.

When a worker dies, the reserve takes its position at once and gets all its legs with the same sockets; then a new
reserve is started. Which process fills a position is nobody else's business: calls know positions only.
"""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from gateway.calls import Calls
from gateway.config import Config
from gateway.control.worker_link import WorkerLink
from gateway.errors import EngineError
from gateway.leases import Leases
from gateway.leg_table import Order
from gateway.messages import (
    DETECTORS,
    CallLatched,
    Detected,
    EngineFault,
    Event,
    Latched,
    Lease,
    LegStats,
    OpenLeg,
    ReadLegs,
    Ready,
    Stop,
    UpdateLeg,
    WorkerStats,
)
from gateway.metrics import Metrics

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.2
SILENCE_S = 10.0
"""A worker reports every second; one that has not for so long hangs."""
WATCH_S = 1.0
STOP_PATIENCE_S = 2.0
CALM_S = 60.0
"""Deaths longer ago do not count any more."""
FREE_DEATHS = 2
"""So many deaths within CALM_S are replaced at once."""
MAX_BACKOFF_S = 10.0


class Backoff:
    """How long to wait before the next process is started, so that a crash loop does not take the machine."""

    def __init__(self) -> None:
        self._deaths: list[float] = []

    def died(self, now: float) -> float:
        """Note a death; returns the seconds to wait."""
        self._deaths = [*[then for then in self._deaths if now - then < CALM_S][-16:], now]
        excess = len(self._deaths) - FREE_DEATHS
        return 0.0 if excess <= 0 else float(min(0.25 * 2**excess, MAX_BACKOFF_S))


@dataclass(slots=True, eq=False)
class Place:
    """A worker's position."""

    index: int
    link: WorkerLink | None = None
    heard_s: float = 0.0
    busy_s: float = 0.0
    idle_s: float = 0.0
    faults: dict[tuple[int, str], str] = field(default_factory=dict)
    """Reason by sampling rate and server (none: the engine itself), while it fails."""


class Workers:
    """All media processes."""

    def __init__(self, config: Config, leases: Leases, metrics: Metrics, clock: Callable[[], float] = time.monotonic):
        self._config, self._leases, self._metrics, self._clock = config, leases, metrics, clock
        self.places = [Place(index) for index in range(worker_count(config))]
        self.reserve: WorkerLink | None = None
        self.delays: dict[int, int] = {}
        """Engine delay in samples, by rate in Hz."""
        self._calls: Calls | None = None
        self._starting: set[WorkerLink] = set()
        self._requests = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._backoff = Backoff()
        self._looked_s = 0.0
        self._all_ready = asyncio.Event()
        self._failed_start: asyncio.Future[None] | None = None
        self._stopping = False

    # --- life

    def start(self, calls: Calls) -> None:
        """Start a process for each position and one in reserve; `calls` gets what they report."""
        self._calls = calls
        for _ in self.places:
            self._spawn()
        self._background(self._start_reserve())
        self._background(self._watch())

    async def _start_reserve(self) -> None:
        """The reserve starts when the others are there: it must not slow them down."""
        await self._all_ready.wait()
        await self._spawn_later(0.0)

    async def wait_ready(self) -> None:
        """Returns when every position is filled; raises EngineError when a process ends before that."""
        self._failed_start = asyncio.get_running_loop().create_future()
        ready = asyncio.ensure_future(self._all_ready.wait())
        try:
            await asyncio.wait((ready, self._failed_start), return_when=asyncio.FIRST_COMPLETED)
            if self._failed_start.done():
                self._failed_start.result()
        finally:
            ready.cancel()
            self._failed_start = None

    def missing(self) -> list[str]:
        """What is not there, for `/readyz`."""
        return [f"worker {place.index} is not ready" for place in self.places if place.link is None]

    def degraded(self) -> list[str]:
        """Engines and detectors that fail, so that calls go on without them; then servers whose calls another has (the
        reason of an engine names its own)."""
        return [
            f"worker {place.index}: {failing(rate, endpoint)} fails: {reason}"
            for place in self.places
            for (rate, endpoint), reason in sorted(place.faults.items(), key=lambda fault: bool(fault[0][1]))
            if not endpoint or (rate, "") not in place.faults
        ]

    def failing(self, servers: bool) -> int:
        """How many engines and detectors fail in all workers; servers: how many of the engines' servers instead."""
        return sum(bool(endpoint) is servers for place in self.places for _, endpoint in place.faults)

    async def stop(self) -> None:
        """End all processes."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        links = [place.link for place in self.places if place.link] + list(self._starting)
        links += [self.reserve] if self.reserve else []
        for link in links:
            link.send(Stop())
            link.close()
        await asyncio.gather(*(link.reap(STOP_PATIENCE_S) for link in links))

    def _spawn(self) -> None:
        if not self._stopping:
            self._starting.add(WorkerLink(self._config, self._heard, self._lost))

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        self._looked_s = self._clock()
        while True:
            await asyncio.sleep(WATCH_S)
            self._look(self._clock())

    def _look(self, now: float) -> None:
        """A worker that hangs is killed: its reserve serves the calls better.

        A look that comes late says that we hung ourselves: timers run before sockets are read, so the reports of all
        workers may still wait there. The next look counts again.
        """
        late = now - self._looked_s > 2 * WATCH_S
        self._looked_s = now
        if late:
            return
        for place in self.places:
            if place.link is not None and now - place.heard_s > SILENCE_S:
                log.error("media worker hangs", extra={"worker": place.index, "pid": place.link.pid})
                place.link.process.kill()

    def _fill(self, place: Place, link: WorkerLink) -> None:
        """Give a loaded process a position and all legs of it."""
        assert self._calls is not None
        place.link = link
        place.heard_s, place.busy_s, place.idle_s = self._clock(), 0.0, 0.0
        place.faults.clear()
        self._metrics.worker_began(place.index)
        orders = self._calls.legs.reopen(place.index)
        self.send(orders)
        self._leases.set_ready(place.index, True)
        log.info("media worker ready", extra={"worker": place.index, "pid": link.pid, "legs": len(orders)})
        if not self.missing():
            self._all_ready.set()

    def _lost(self, link: WorkerLink, reason: str) -> None:
        """A process is gone: fill its position from the reserve, and start another."""
        link.process.kill()
        self._background(self._bury(link))
        self._starting.discard(link)
        if self._failed_start is not None and not self._failed_start.done():
            self._failed_start.set_exception(EngineError(f"A media worker cannot start ({reason}): see its message"))
        place = next((place for place in self.places if place.link is link), None)
        if place is not None:
            place.link = None
            self._leases.set_ready(place.index, False)
            self._metrics.worker_died(place.index)
        name = place.index if place is not None else "reserve"
        log.error("media worker lost", extra={"worker": name, "pid": link.pid, "reason": reason})
        self._background(self._spawn_later(self._backoff.died(self._clock())))
        if self.reserve is link:
            self.reserve = None
        if place is not None and self.reserve is not None:
            reserve, self.reserve = self.reserve, None
            self._fill(place, reserve)

    async def _spawn_later(self, delay_s: float) -> None:
        """Start a process after a while; one that cannot be started counts as dead, and is tried again."""
        while True:
            await asyncio.sleep(delay_s)
            try:
                self._spawn()
                return
            except OSError as error:
                delay_s = self._backoff.died(self._clock())
                log.error("media worker cannot be started", extra={"reason": str(error), "again_in_s": delay_s})

    async def _bury(self, link: WorkerLink) -> None:
        status = await link.reap(STOP_PATIENCE_S)
        log.info("media worker ended", extra={"pid": link.pid, "status": status})

    # --- down

    def send(self, orders: list[Order]) -> None:
        """Send commands; those for an empty position are moot, whoever fills it gets all its legs."""
        for order in orders:
            link = self.places[order.worker].link
            if link is None:
                continue
            try:
                link.send(order.command, order.leg.pair.sockets if order.leg is not None else ())
            except Exception:  # the orders behind it are of other legs
                self._metrics.orders_lost.inc()
                call_id = order.command.spec.call_id if isinstance(order.command, OpenLeg | UpdateLeg) else None
                log.exception("a leg's order cannot be sent", extra={"worker": order.worker, "call_id": call_id})

    async def read(self, worker: int, slots: tuple[int, ...]) -> None:
        """Have the statistics of these slots reported now; gives up quietly after READ_TIMEOUT_S."""
        link = self.places[worker].link
        if link is None or not slots:
            return
        request_id = next(self._requests)
        waiting = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        link.send(ReadLegs(request_id, slots))
        try:
            await asyncio.wait_for(waiting, READ_TIMEOUT_S)
        except TimeoutError:
            self._metrics.read_timeouts.inc()
        finally:
            del self._waiting[request_id]

    # --- up

    def _heard(self, link: WorkerLink, event: Event) -> None:
        if isinstance(event, Ready):
            self._ready(link, event)
            return
        place = next((place for place in self.places if place.link is link), None)
        if place is None or self._calls is None:
            return
        place.heard_s = self._clock()
        match event:
            case LegStats(rows, request_id):
                self._calls.legs.reported(place.index, rows)
                waiting = self._waiting.get(request_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)
            case Latched():
                call_id = self._calls.legs.latched(place.index, event)
                log.debug("leg latched", extra={"call_id": call_id, "rtp": event.rtp, "rtcp": event.rtcp})
            case Detected():
                self._detected(place, event)
            case CallLatched(lease):
                self._latched(place, lease)
            case WorkerStats():
                self._measured(place, event)
            case EngineFault():
                self._fault(place, event)

    def _ready(self, link: WorkerLink, event: Ready) -> None:
        self._starting.discard(link)
        self.delays = dict(event.delays)
        empty = next((place for place in self.places if place.link is None), None)
        if empty is not None:
            self._fill(empty, link)
        elif self.reserve is None:
            self.reserve = link
            log.info("media worker in reserve", extra={"pid": link.pid})
        else:
            link.send(Stop())
            link.close()
            self._background(self._bury(link))

    def _measured(self, place: Place, stats: WorkerStats) -> None:
        busy_s, idle_s = stats.seconds.get("busy", 0.0), stats.seconds.get("idle", 0.0)
        spent_s = busy_s - place.busy_s + idle_s - place.idle_s
        if spent_s > 0:
            self._leases.measured(place.index, (busy_s - place.busy_s) / spent_s)
        place.busy_s, place.idle_s = busy_s, idle_s
        self._metrics.worker_reported(place.index, stats)

    def _detected(self, place: Place, event: Detected) -> None:
        assert self._calls is not None
        call_id = self._calls.legs.detected(place.index, event)
        if call_id is None:
            return
        self._metrics.detected(event)
        extra = {"call_id": call_id, "kind": event.kind, "value": event.value, "begin_ms": round(event.begin_ms)}
        if event.lasting_ms is not None:
            extra["lasting_ms"] = round(event.lasting_ms)
        log.info("signal detected", extra=extra)

    def _latched(self, place: Place, lease: Lease) -> None:
        assert self._calls is not None
        call_id = self._calls.legs.call_latched(place.index, lease)
        if call_id is not None:
            log.info("fax or modem: the call passes untouched to its end", extra={"call_id": call_id})
            self.send(self._calls.legs.take_orders())

    def _fault(self, place: Place, event: EngineFault) -> None:
        rate, reason, key = event.rate, event.reason, (event.rate, event.endpoint)
        what, extra = failing(*key), {"worker": place.index, "rate_hz": rate, "reason": reason}
        if not reason:
            place.faults.pop(key, None)
            log.warning("%s works again", what, extra=extra)
            return
        known = key in place.faults
        substitute = "" if event.endpoint else event.substitute
        place.faults[key] = reason + (f"; calls run on {substitute}" if substitute else "")
        if known:
            return
        if event.endpoint:
            log.warning("%s failed", what, extra=extra)
            return
        lacking = "detection of signals" if rate == DETECTORS else "denoising"
        onward = f"on {substitute}" if substitute else f"without {lacking}"
        log.error("%s failed: calls go on %s", what, onward, extra=extra)


def failing(rate: int, endpoint: str) -> str:
    """What an `EngineFault` is about."""
    if rate == DETECTORS:
        return "the detection of signals"
    return f"server {endpoint} of the {rate} Hz engine" if endpoint else f"the {rate} Hz engine"


def worker_count(config: Config) -> int:
    """Positions: as configured, or one a core."""
    return config.media.workers or len(os.sched_getaffinity(0))

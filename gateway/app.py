"""The composition root: the one place that knows every part of the control plane, and how it starts and ends.

SIGTERM (or SIGINT) drains: no new calls, the present ones run to their end or to `calls.drain_timeout_s`. A second
signal stops at once. Media processes end with this one, however it ends: they see their control socket close.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop
from aiohttp import web

from gateway.calls import Calls
from gateway.config import Config
from gateway.control import admin, ng_server
from gateway.control.grpc_processes import GrpcProcesses
from gateway.control.rest import Rest
from gateway.control.sockets import SocketPool, resolve
from gateway.control.stream_account import Accounts
from gateway.control.stream_legs import StreamLegs
from gateway.control.stream_rows import StreamRows
from gateway.control.stream_session import Desk
from gateway.control.workers import Workers, worker_count
from gateway.errors import ConfigError, EngineError, GatewayError
from gateway.leases import Leases
from gateway.legs import Interface
from gateway.metrics import Metrics

if TYPE_CHECKING:
    from gateway.control.grpc_server import GrpcServer

log = logging.getLogger(__name__)

EXPIRE_S = 0.5
DRAIN_LOOK_S = 0.1
UNSPAWNED = "a process cannot be started: {}; look at ulimit -u and -n, the cgroup's pids.max, and memory"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a running gateway is found."""

    ng: tuple[str, ...]
    """UDP `host:port`."""
    admin: str
    """TCP `host:port`."""
    interfaces: dict[str, Interface]
    workers: int
    grpc: str | None = None
    """TCP `host:port`, where it is on."""


class Gateway:
    """A running control plane with its media processes."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.interfaces = resolve(config.interfaces)
        count = worker_count(config)
        leases = Leases(count, config.media.slots, config.calls.load_limit_percent / 100)
        self.metrics = Metrics()
        self.ports = SocketPool(config.media)
        unix_offset_s = time.time() - time.monotonic()
        self.calls = Calls(config, self.interfaces, self.ports, leases, unix_offset_s)
        self.workers = Workers(config, leases, self.metrics)
        self._stream_rows = StreamRows(self.calls.legs, self.workers)
        self.stream_legs = StreamLegs(self._stream_rows)
        self.desk = Desk(config, self.stream_legs, lambda: self.workers.delays)
        self.accounts = Accounts(config.grpc)
        self._grpc: GrpcServer | GrpcProcesses | None = None
        self._transports: list[asyncio.DatagramTransport] = []
        self._runner: web.AppRunner | None = None
        self._expiry: asyncio.Task[None] | None = None
        self._describe_metrics(count)

    def _describe_metrics(self, workers: int) -> None:
        metrics = self.metrics
        metrics.gauge("calls", "Calls now", lambda: len(self.calls))
        addresses = {each.address for each in self.interfaces.values()}
        metrics.port_pairs(addresses, lambda address: self.ports.pairs(address, time.monotonic())._asdict())
        metrics.gauge("workers_ready", "Media workers ready", lambda: workers - len(self.workers.missing()))
        failing = self.workers.failing
        metrics.gauge("engines_failing", "Engines that fail in some worker", lambda: failing(servers=False))
        metrics.gauge(
            "engine_servers_failing", "Their servers that fail, one of several", lambda: failing(servers=True)
        )
        metrics.gauge("streams", "Streams (gRPC and HTTP) now", lambda: self.streams)
        metrics.streams_ended(self.desk.ended)
        metrics.gauge("draining", "1 while no new calls are taken", lambda: self.calls.draining)
        metrics.legs_by_worker(workers, self.calls.legs.in_use)

    async def start(self) -> Listening:
        """Listen, start the media processes, and return when all are ready.

        Raises ConfigError where it cannot listen, EngineError where processes cannot be started.
        """
        with named(EngineError, UNSPAWNED):
            self.workers.start(self.calls)
        with named(ConfigError, "ng.listen or admin.listen: {}"):
            await self._listen()
        if self._config.grpc.listen is not None:
            self._grpc = self._grpc_server()
            with named(EngineError, UNSPAWNED):
                await self._grpc.start()
        self._expiry = asyncio.get_running_loop().create_task(self._expire())
        await self.workers.wait_ready()
        if isinstance(self._grpc, GrpcProcesses):
            self._grpc.tell()
        return self.listening()

    async def _listen(self) -> None:
        """For NG and HTTP."""
        service = ng_server.NgService(self.calls, self.workers, self.metrics)
        self._transports = await ng_server.listen(self._config.ng, service, self.ports, self.metrics)
        handlers = admin.Admin(
            self.calls, self.workers, self.metrics, Rest(self.desk, self.accounts, self._config.admin.upload_max_mb)
        )
        self._runner = await admin.listen(self._config.admin, handlers)

    def _grpc_server(self) -> "GrpcServer | GrpcProcesses":
        if self._config.grpc.processes > 1:
            return GrpcProcesses(self._config, self._stream_rows, self.desk.ended, lambda: self.workers.delays)
        from gateway.control.grpc_server import GrpcServer  # takes a third of a second, for those who use it

        return GrpcServer(self._config.grpc, self.desk, self.accounts)

    @property
    def streams(self) -> int:
        """Streams of all processes."""
        return len(self.desk.sessions) + (self._grpc.streams if self._grpc is not None else 0)

    def listening(self) -> Listening:
        """Real addresses, also where port 0 was configured."""
        places = [transport.get_extra_info("sockname") for transport in self._transports]
        assert self._runner is not None
        return Listening(
            tuple(written(place) for place in places),
            written(self._runner.addresses[0]),
            self.interfaces,
            len(self.workers.places),
            self._grpc.listening if self._grpc is not None else None,
        )

    async def _expire(self) -> None:
        """Timeouts, and the log's line for every call that ended."""
        while True:
            await asyncio.sleep(EXPIRE_S)
            try:
                self.desk.tick()
                self.workers.send(self.calls.expire(time.monotonic()))
                self.note_ended()
            except Exception:
                log.exception("looking for timeouts failed")

    def note_ended(self) -> None:
        """Count and log calls that ended."""
        for call in self.calls.take_ended():
            self.metrics.calls_ended.labels(call.reason).inc()
            log.info("call ended", extra={"call_id": call.call_id, "reason": call.reason, "lived_s": call.lived_s})

    async def drain(self) -> None:
        """No new calls; returns when the last has ended, or at `calls.drain_timeout_s`."""
        self.calls.draining = self.desk.draining = True
        if self._grpc is not None:
            await self._grpc.drain()
        deadline = time.monotonic() + self._config.calls.drain_timeout_s
        log.warning("draining", extra={"calls": len(self.calls), "streams": self.streams})
        while (len(self.calls) or self.streams) and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOK_S)

    async def stop(self) -> None:
        """Close everything; media processes end."""
        if self._expiry is not None:
            self._expiry.cancel()
        for transport in self._transports:
            transport.close()
        if self._grpc is not None:
            await self._grpc.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        for session in list(self.desk.sessions):
            session.close("UNAVAILABLE")
        self.stream_legs.shut()
        await self.workers.stop()
        cut_off = len(self.calls)
        self.calls.end_all("stopped", time.monotonic())
        self.note_ended()
        log.info("stopped", extra={"calls": cut_off})


@contextlib.contextmanager
def named(kind: type[GatewayError], text: str) -> Iterator[None]:
    """The system's refusals inside are of this kind; text: what was refused, with room for why."""
    try:
        yield
    except OSError as error:
        raise kind(text.format(error)) from error


def written(place: tuple[str, int]) -> str:
    """`127.0.0.1:2223` or `[::1]:2223`."""
    host, port = place[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Signals:
    """The first SIGTERM or SIGINT asks to drain, the second to stop."""

    def __init__(self) -> None:
        self.drain, self.stop = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.caught)

    def caught(self) -> None:
        """One more signal."""
        (self.stop if self.drain.is_set() else self.drain).set()


async def run(config: Config, on_ready: Callable[[Listening], None]) -> int:
    """Run a gateway until a signal ends it; returns the exit status. Raises as `Gateway.start`."""
    signals = Signals()
    gateway = Gateway(config)
    try:
        if not await first(gateway.start(), signals.drain.wait()):
            return 0
        gc.collect()
        gc.freeze()  # modules and tables stay: looking through them again and again would hold up streams
        on_ready(gateway.listening())
        await signals.drain.wait()
        await first(gateway.drain(), signals.stop.wait())
    finally:
        await gateway.stop()
    return 0


async def first(*works: Coroutine[None, None, object]) -> bool:
    """Run these until one is done; whether it was the first of them. Its exception is raised here."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return tasks[0] in done
    finally:
        for task in tasks:
            task.cancel()


def log_ready(listening: Listening) -> None:
    """Say in the log where the gateway is found."""
    log.info("ready", extra={"ng": listening.ng, "admin": listening.admin, "workers": listening.workers})


def serve(config: Config, on_ready: Callable[[Listening], None] = log_ready) -> int:
    """Run a gateway until a signal ends it; on_ready is called once, when it takes calls.

    Returns the exit status. Raises ConfigError when an address cannot be listened on, EngineError when a process cannot
    be started.
    """
    return uvloop.run(run(config, on_ready))

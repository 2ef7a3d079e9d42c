"""Supervision of the gRPC processes on one port (`grpc.processes`), in the control process.

Each has a `Front` here, which takes rows for its streams and gives them back, also when the process dies: its clients
connect again, to another or to the one that takes its place.
"""

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace

import msgspec

from gateway.config import Config
from gateway.config_rules import host_port
from gateway.control import grpc_link
from gateway.control.grpc_link import ChangeStream, CloseStream, Down, Listens, OpenStream, Refused, Report, State, say
from gateway.control.link import Link, reap
from gateway.control.stream_errors import StreamError, as_stream_error
from gateway.control.stream_rows import StreamRow, StreamRows
from gateway.control.worker_link import worker_environment
from gateway.control.workers import Backoff
from gateway.errors import ConfigError

log = logging.getLogger(__name__)

STATE_S = 0.1
START_S = 20.0
STOP_PATIENCE_S = 3.0


class Front:
    """One gRPC process, as the control process sees it."""

    def __init__(self, config: Config, rows: StreamRows, ended: Counter[str], lost: Callable[["Front"], None]) -> None:
        """Start it; raises OSError when it cannot be.

        ended: streams that have ended, by gRPC status, to be added to; lost: called when it is gone.
        """
        self._rows, self._ended, self._on_lost = rows, ended, lost
        self._streams: dict[int, StreamRow] = {}
        self._reported = 0
        """Streams it has, also those that have not begun."""
        self.listens: asyncio.Future[Listens] = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "gateway.serve_grpc", "--control-fd", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=worker_environment(),
                    start_new_session=True,  # a terminal's Ctrl-C is the control process's to act on
                )  # fmt: skip
            except OSError:
                ours.close()
                raise
        ours.send(msgspec.json.encode(config))
        self._link = Link(ours, self._heard, self._lost)

    @property
    def streams(self) -> int:
        """Streams it has now."""
        return max(self._reported, len(self._streams))

    def tell(self, message: Down) -> None:
        """Say something."""
        say(self._link, message)

    def _heard(self, data: bytes, descriptors: list[int]) -> None:
        theirs = socket.socket(fileno=descriptors[0]) if descriptors else None
        match grpc_link.ups.decode(data):
            case OpenStream() as asked if theirs is not None:
                self._open(asked, theirs)
            case ChangeStream(number, treatment) if number in self._streams:
                self._rows.change(self._streams[number], treatment)
            case CloseStream(number) if number in self._streams:
                self._rows.close(self._streams.pop(number))
            case Report(streams, ended):
                self._reported = streams
                self._ended.update(ended)
            case Listens() as said if not self.listens.done():
                self.listens.set_result(said)

    def _open(self, asked: OpenStream, theirs: socket.socket) -> None:
        def refuse(error: StreamError) -> None:
            self.tell(Refused(asked.number, error.status, str(error)))

        try:
            row = self._rows.open(theirs, asked.label, asked.payloads, asked.treatment, refuse)
        except Exception as error:
            refuse(as_stream_error(error))
            return
        self._streams[asked.number] = row

    def _lost(self, reason: str) -> None:
        if self._streams:
            self._ended["UNAVAILABLE"] += len(self._streams)
        self.close()
        if not self.listens.done():
            self.listens.set_result(Listens("", "a gRPC process ended at its start: see its message"))
        self._on_lost(self)

    def close(self) -> None:
        """Let go of the process and of all its streams; it ends when it sees its socket closed."""
        self._link.close()
        self._reported = 0
        streams, self._streams = self._streams, {}
        for row in streams.values():
            self._rows.close(row)

    async def reap(self) -> None:
        """Wait for the process to end, kill it when it does not."""
        await reap(self.process, STOP_PATIENCE_S)


class GrpcProcesses:
    """All of them; to the composition root the same as a `GrpcServer`."""

    def __init__(
        self, config: Config, rows: StreamRows, ended: Counter[str], delays: Callable[[], dict[int, int]]
    ) -> None:
        """Raises ConfigError when the address is taken."""
        self._rows, self._ended, self._delays = rows, ended, delays
        self._reserved = reserve(config.grpc.listen or "")
        host = (config.grpc.listen or "").rpartition(":")[0]
        self.listening = f"{host}:{self._reserved.getsockname()[1]}"
        self._config = replace(config, grpc=replace(config.grpc, listen=self.listening))
        self._fronts: set[Front] = set()
        self._backoff = Backoff()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = self._stopping = False

    @property
    def streams(self) -> int:
        """Streams of all processes."""
        return sum(front.streams for front in self._fronts)

    async def start(self) -> None:
        """Returns when all serve; raises ConfigError when they cannot."""
        fronts = [self._spawn() for _ in range(self._config.grpc.processes)]
        try:
            said = await asyncio.wait_for(asyncio.gather(*(front.listens for front in fronts)), START_S)
        except TimeoutError:
            raise ConfigError(f"grpc.processes: not all serve after {START_S:.0f} s: see the log") from None
        for listens in said:
            if listens.error:
                raise ConfigError(listens.error)
        self._background(self._keep_telling())
        log.info("gRPC", extra={"listen": self.listening, "processes": len(fronts)})

    def _spawn(self) -> Front:
        front = Front(self._config, self._rows, self._ended, self._lost)
        front.tell(self._state())
        self._fronts.add(front)
        return front

    def _state(self) -> State:
        loads = self._rows.loads()
        return State(
            self._delays(),
            max((busy for busy, _ in loads), default=0.0),
            sum(legs for _, legs in loads),
            self._draining,
        )

    def tell(self) -> None:
        """Let all know what has changed."""
        state = self._state()
        for front in self._fronts:
            front.tell(state)

    async def _keep_telling(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(STATE_S)

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lost(self, front: Front) -> None:
        if front not in self._fronts:
            return
        self._fronts.discard(front)
        front.process.kill()
        if self._stopping:
            return
        log.error("gRPC process lost", extra={"pid": front.process.pid})
        self._background(self._replace(front, self._backoff.died(time.monotonic())))

    async def _replace(self, front: Front, delay_s: float) -> None:
        await front.reap()
        successor = await self._spawned(delay_s)
        try:
            listens = await asyncio.wait_for(successor.listens, START_S)
        except TimeoutError:
            listens = Listens("", f"it does not serve after {START_S:.0f} s")
        if listens.error and successor in self._fronts:  # one that has died has a successor already
            log.error("gRPC process cannot serve", extra={"error": listens.error})
            successor.close()
            self._lost(successor)

    async def _spawned(self, delay_s: float) -> Front:
        """A new process after a delay, and again while the system refuses one."""
        while True:
            await asyncio.sleep(delay_s)
            try:
                return self._spawn()
            except OSError as error:
                delay_s = self._backoff.died(time.monotonic())
                log.error("gRPC process cannot be started", extra={"reason": str(error), "again_in_s": delay_s})

    async def drain(self) -> None:
        """No new streams; returns at once, the present ones run on."""
        self._draining = True
        self.tell()

    async def stop(self) -> None:
        """End; streams that are left are cancelled."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        fronts, self._fronts = self._fronts, set()
        for front in fronts:
            front.close()
        await asyncio.gather(*(front.reap() for front in fronts))
        self._reserved.close()


def reserve(listen: str) -> socket.socket:
    """Hold the port, which the processes share, without listening on it; raises ConfigError."""
    host, port = host_port(listen)
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((host, port))
    except OSError as error:
        with contextlib.suppress(OSError):
            held.close()
        raise ConfigError(f"grpc.listen: {listen} cannot be listened on: {error.strerror}") from None
    return held

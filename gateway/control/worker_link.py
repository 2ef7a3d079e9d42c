"""One media process and the socket to it: starting it, telling it, hearing it. No decisions here; see `workers`.

Commands are sent at once or, while the worker's socket is full, queued in order; the event loop never waits for a
worker. A worker whose queue outgrows all sense is as good as dead, and is reported lost.
"""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.config import Config
from gateway.messages import Command, Event, encoder, events

MAX_QUEUE = 20_000
"""Commands; a full worker of 1,000 legs is reopened with as many."""
BUFFER_BYTES = 4 << 20
EVENT_BYTES = 1 << 20
EVENTS_AT_ONCE = 64
RETRY_S = 0.002
FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)
"""The last one: more descriptors are on their way than this process may have open."""

ROOT = Path(__file__).resolve().parents[2]

Queued = tuple[bytes, tuple[socket.socket, ...]]


class WorkerLink:
    """A running media process."""

    def __init__(
        self,
        config: Config,
        on_event: Callable[["WorkerLink", Event], None],
        on_lost: Callable[["WorkerLink", str], None],
    ) -> None:
        """Start the process. on_lost is called once, from the event loop, with the reason."""
        self._on_event, self._on_lost = on_event, on_lost
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Queued] = deque()
        self._writing = False
        self._retry: asyncio.TimerHandle | None = None
        self.lost = False
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for each in (self.socket, theirs):
                widen(each)
            self.socket.setblocking(False)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.media", "--control-fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=worker_environment(),
                start_new_session=True,  # a terminal's Ctrl-C is the control plane's to act on
            )
        self._loop.add_reader(self.socket.fileno(), self._readable)
        self._push((msgspec.json.encode(config), ()))

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def send(self, command: Command, sockets: tuple[socket.socket, ...] = ()) -> None:
        """Tell the worker something; never waits."""
        if not self.lost:
            self._push((encoder.encode(command), sockets))

    def _push(self, message: Queued) -> None:
        if len(self._queue) >= MAX_QUEUE:
            self._lose("it takes no commands any more")
            return
        self._queue.append(message)
        if not self._writing and self._retry is None:
            self._flush()

    def _flush(self) -> None:
        self._retry = None
        while self._queue and not self.lost:
            try:
                self._write(*self._queue[0])
            except OSError as error:
                if error.errno in FULL:
                    self._wait(error.errno)
                else:
                    self._lose(f"its control socket failed: {error}")
                return
            self._queue.popleft()
        if self._writing and not self.lost:
            self._loop.remove_writer(self.socket.fileno())
            self._writing = False

    def _write(self, message: bytes, sockets: tuple[socket.socket, ...]) -> None:
        if any(each.fileno() < 0 for each in sockets):
            return  # the leg was closed before its opening went out
        if sockets:
            socket.send_fds(self.socket, [message], [each.fileno() for each in sockets])
        else:
            self.socket.send(message)

    def _wait(self, code: int) -> None:
        """Go on when the socket has room; the kernel does not tell when descriptors have arrived, so look again."""
        if code != errno.EAGAIN:
            self._retry = self._loop.call_later(RETRY_S, self._flush)
        elif not self._writing:
            self._loop.add_writer(self.socket.fileno(), self._flush)
            self._writing = True

    def _readable(self) -> None:
        for _ in range(EVENTS_AT_ONCE):
            try:
                message = self.socket.recv(EVENT_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(f"its control socket failed: {error}")
                return
            if not message:
                self._lose("its process ended")
                return
            try:
                event = events.decode(message)
            except msgspec.DecodeError as error:
                self._lose(f"it sent what is no event: {error}")
                return
            self._on_event(self, event)
            if self.lost:
                return

    def _lose(self, reason: str) -> None:
        if not self.lost:
            self.close()
            self._loop.call_soon(self._on_lost, self, reason)  # the caller is in the middle of something

    def close(self) -> None:
        """Let go of the process; it ends when it sees its socket closed. See `reap`."""
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self.socket.fileno())
        if self._writing:
            self._loop.remove_writer(self.socket.fileno())
        if self._retry is not None:
            self._retry.cancel()
        self._queue.clear()
        self.socket.close()

    async def reap(self, patience_s: float) -> int:
        """Wait for the process to end, kill it after patience_s; returns its exit status."""
        deadline = self._loop.time() + patience_s
        while self.process.poll() is None:
            if self._loop.time() >= deadline:
                self.process.kill()
            await asyncio.sleep(0.01)
        return self.process.returncode


def widen(each: socket.socket) -> None:
    """As much room as we may have: a full worker's legs are reopened in one go."""
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_SNDBUFFORCE", 32), BUFFER_BYTES)


def worker_environment() -> dict[str, str]:
    """The environment of a media process: it finds this package, its libraries use one thread, and glibc keeps freed
    memory, since the arrays of a batch are as large as those of the last and their pages would fault in anew."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    memory = {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
    return {**memory, **os.environ, "PYTHONPATH": path, **threads}

"""One end of a SOCK_SEQPACKET socket between two processes of the gateway: messages, and descriptors beside them.

Messages go at once or, while the socket is full, in order later; the event loop never waits for the other end. Another
end whose queue outgrows all sense is as good as dead, and is reported lost.
"""

import asyncio
import contextlib
import errno
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable

MAX_QUEUE = 20_000
"""Messages; a full worker of 1,000 legs is reopened with as many."""
BUFFER_BYTES = 4 << 20
MESSAGE_BYTES = 1 << 20
MESSAGES_AT_ONCE = 64
RETRY_S = 0.002
FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)
"""The last one: more descriptors are on their way than this process may have open."""

Sockets = tuple[socket.socket, ...]


class Link:
    """Speaks and listens."""

    def __init__(
        self, end: socket.socket, heard: Callable[[bytes, list[int]], None], lost: Callable[[str], None]
    ) -> None:
        """heard: gets a message and the descriptors beside it (one at most), which are its own; lost: called once, from
        the event loop, with the reason, when the other end is gone or takes nothing any more."""
        end.setblocking(False)
        widen(end)
        self._end, self._heard, self._on_lost = end, heard, lost
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end.fileno(), self._readable)
        self._queue: deque[tuple[bytes, Sockets, bool]] = deque()
        self._writing = False
        self._retry: asyncio.TimerHandle | None = None
        self.closed = False

    @property
    def waiting(self) -> int:
        """Messages that have not gone."""
        return len(self._queue)

    def send(self, message: bytes, sockets: Sockets = (), give: bool = False) -> None:
        """Say something; never waits. give: the sockets are closed when they have gone, or cannot go; else they stay
        the caller's, and one that is closed in between takes its message with it."""
        self._queue.append((message, sockets, give))
        if self.closed:
            self._drop()
        elif len(self._queue) > MAX_QUEUE:
            self.lose("it takes no commands any more")
        elif not self._writing and self._retry is None:
            self._flush()

    def _flush(self) -> None:
        self._retry = None
        while self._queue and not self.closed:
            message, sockets, give = self._queue[0]
            try:
                self._write(message, sockets)
            except OSError as error:
                if error.errno in FULL:
                    self._wait(error.errno)
                else:
                    self.lose(f"its control socket failed: {error}")
                return
            self._queue.popleft()
            if give:
                shut(sockets)
        if self._writing and not self.closed:
            self._loop.remove_writer(self._end.fileno())
            self._writing = False

    def _write(self, message: bytes, sockets: Sockets) -> None:
        if any(each.fileno() < 0 for each in sockets):
            return  # the leg was closed before its opening went out
        if sockets:
            socket.send_fds(self._end, [message], [each.fileno() for each in sockets])
        else:
            self._end.send(message)

    def _wait(self, code: int) -> None:
        """Go on when the socket has room; the kernel does not tell when descriptors have arrived, so look again."""
        if code != errno.EAGAIN:
            self._retry = self._loop.call_later(RETRY_S, self._flush)
        elif not self._writing:
            self._loop.add_writer(self._end.fileno(), self._flush)
            self._writing = True

    def _readable(self) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._end, MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            except OSError as error:
                self.lose(f"its control socket failed: {error}")
                return
            if not message:
                self.lose("its process ended")
                return
            self._heard(message, descriptors)
            if self.closed:
                return

    def lose(self, reason: str) -> None:
        """The other end is as good as gone."""
        if not self.closed:
            self.close()
            self._loop.call_soon(self._on_lost, reason)  # the caller is in the middle of something

    def close(self) -> None:
        """Say nothing more; the other end sees the socket closed."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._end.fileno())
        if self._writing:
            self._loop.remove_writer(self._end.fileno())
        if self._retry is not None:
            self._retry.cancel()
        self._drop()
        self._end.close()

    def _drop(self) -> None:
        for _, sockets, give in self._queue:
            if give:
                shut(sockets)
        self._queue.clear()


def shut(sockets: Sockets) -> None:
    """Close all of them."""
    for each in sockets:
        each.close()


def widen(each: socket.socket) -> None:
    """As much room as we may have: a full worker's legs are reopened in one go."""
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_SNDBUFFORCE", 32), BUFFER_BYTES)


async def reap(process: subprocess.Popen[bytes], patience_s: float) -> int:
    """Wait for a process whose link was closed to end, kill it after patience_s; returns its exit status."""
    deadline = time.monotonic() + patience_s
    while process.poll() is None:
        if time.monotonic() >= deadline:
            process.kill()
        await asyncio.sleep(0.01)
    return process.returncode

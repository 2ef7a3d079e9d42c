"""What the control process and a gRPC process beside it say to each other, over one SOCK_SEQPACKET socket.

An `OpenStream` carries the media process's end of the stream's socket (SCM_RIGHTS); audio then goes between the gRPC
process and the media process, and never through the control process.
"""

import asyncio
import contextlib
import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import msgspec

from gateway.control.stream_rows import Treatment
from gateway.messages import Payload

MESSAGE_BYTES = 1 << 20
MESSAGES_AT_ONCE = 64
BUFFER_BYTES = 4 << 20
RETRY_S = 0.002
MAX_QUEUE = 20_000
FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)


class OpenStream(msgspec.Struct, frozen=True, tag=True):
    """A row is wanted; its socket goes along."""

    number: int
    label: str
    payloads: tuple[Payload, ...]
    treatment: Treatment


class ChangeStream(msgspec.Struct, frozen=True, tag=True):
    """Other controls."""

    number: int
    treatment: Treatment


class CloseStream(msgspec.Struct, frozen=True, tag=True):
    """The row is not needed any more."""

    number: int


class Listens(msgspec.Struct, frozen=True, tag=True):
    """The process serves; or it cannot, and why."""

    address: str
    error: str = ""


class Report(msgspec.Struct, frozen=True, tag=True):
    """A few times a second."""

    streams: int
    """Now."""
    ended: dict[str, int]
    """Since the last report, by gRPC status."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """There is no row for this stream."""

    number: int
    status: str
    message: str


class State(msgspec.Struct, frozen=True, tag=True):
    """A few times a second: what a gRPC process has to know of the gateway."""

    delays: dict[int, int]
    """Of the engines, in samples, by rate in Hz."""
    busy: float
    """Of the busiest media process, 0..1."""
    legs: int
    """Of all media processes."""
    draining: bool


Up = OpenStream | ChangeStream | CloseStream | Listens | Report
Down = Refused | State
encoder = msgspec.msgpack.Encoder()
ups: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)
downs: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
M = TypeVar("M", Up, Down)


class Link:
    """One end. Messages go at once or, while the socket is full, in order later; nobody ever waits for the other."""

    def __init__(self, end: socket.socket, heard: Callable[[bytes, list[int]], None], lost: Callable[[], None]) -> None:
        """heard: gets a message and the descriptors beside it, which are its own; lost: called once, when the other
        end is gone or takes nothing any more."""
        end.setblocking(False)
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._end, self._heard, self._lost = end, heard, lost
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end.fileno(), self._readable)
        self._queue: deque[tuple[bytes, socket.socket | None]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self.closed = False

    def send(self, message: Up | Down, along: socket.socket | None = None) -> None:
        """Say something; `along` is closed when it has gone."""
        if self.closed or len(self._queue) >= MAX_QUEUE:
            if along is not None:
                along.close()
            self._lose()
            return
        self._queue.append((encoder.encode(message), along))
        if self._retry is None:
            self._flush()

    def _flush(self) -> None:
        self._retry = None
        while self._queue:
            data, along = self._queue[0]
            try:
                if along is None:
                    self._end.send(data)
                else:
                    socket.send_fds(self._end, [data], [along.fileno()])
            except OSError as error:
                if error.errno in FULL:
                    self._retry = self._loop.call_later(RETRY_S, self._flush)
                else:
                    self._lose()
                return
            self._queue.popleft()
            if along is not None:
                along.close()

    def _readable(self) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._end, MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._lose()
                return
            self._heard(data, descriptors)
            if self.closed:
                return

    def _lose(self) -> None:
        if not self.closed:
            self.close()
            self._loop.call_soon(self._lost)

    def close(self) -> None:
        """Say nothing more."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._end.fileno())
        if self._retry is not None:
            self._retry.cancel()
        for _, along in self._queue:
            if along is not None:
                along.close()
        self._queue.clear()
        self._end.close()

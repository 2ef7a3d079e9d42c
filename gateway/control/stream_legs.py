"""The sockets of streams: one pair each, of which a media process has the other end and sends back what it gets.

All are watched by one epoll, which the event loop watches. Where the rows behind them come from is `stream_rows`.
"""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.control.stream_coding import Coding, payloads
from gateway.control.stream_pace import Credits
from gateway.control.stream_rows import Refuse, Row, Rows, Treatment
from gateway.protocol.stream_packet import MAX_FRAMES

DATAGRAM_BYTES = 2048
PACKETS_AT_ONCE = 64
"""Read from one socket before the others have their turn."""
SOCKETS_AT_ONCE = 4096
BUFFER_BYTES = 1 << 20
"""Of a socketpair: the packets that may be in flight, with what the kernel adds to each."""


@dataclass(slots=True, eq=False)
class StreamLeg:
    """One stream's end."""

    call_id: str
    socket: socket.socket
    row: Row
    treatment: Treatment

    def send(self, packet: bytes) -> None:
        """Give a packet to the media plane; what it does not take is lost, and not waited for."""
        with contextlib.suppress(OSError):
            self.socket.send(packet)


class StreamLegs:
    """All ends of streams of this process."""

    def __init__(self, rows: Rows, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._clock = rows, clock
        self._receivers: dict[int, tuple[StreamLeg, Callable[[bytes, float], None]]] = {}
        self._credits: dict[int, Credits] = {}
        self._epoll = select.epoll()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._receivers)

    def open(
        self,
        label: str,
        coding: Coding,
        treatment: Treatment,
        receive: Callable[[bytes, float], None],
        refuse: Refuse,
    ) -> StreamLeg:
        """A leg whose packets `receive` gets. Raises CallerError, or calls refuse later, when all are full."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._readable)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for each in (ours, theirs):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            row = self._rows.open(theirs, label, payloads(coding), treatment, refuse)
        except BaseException:
            ours.close()
            raise
        leg = StreamLeg(label, ours, row, treatment)
        self._receivers[ours.fileno()] = (leg, receive)
        self._epoll.register(ours.fileno(), select.EPOLLIN)
        return leg

    def change(self, leg: StreamLeg, treatment: Treatment) -> None:
        """Other controls, from the packets on that the media plane gets next."""
        leg.treatment = treatment
        self._rows.change(leg.row, treatment)

    def close(self, leg: StreamLeg) -> None:
        """End a leg."""
        self._epoll.unregister(leg.socket.fileno())
        del self._receivers[leg.socket.fileno()]
        self._rows.close(leg.row)
        leg.socket.close()

    def credits(self, leg: StreamLeg) -> Credits:
        """Those that the leg shares."""
        pool, load = leg.row.pool, self._rows.load
        if pool not in self._credits:
            self._credits[pool] = Credits(lambda: load(pool)[0], lambda: load(pool)[1], self._later)
        return self._credits[pool]

    def _later(self, delay_s: float, work: Callable[[float], None]) -> None:
        assert self._loop is not None
        self._loop.call_later(delay_s, lambda: work(self._clock()))

    def shut(self) -> None:
        """Watch no more; every leg has been closed."""
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _readable(self) -> None:
        now = self._clock()
        for descriptor, _ in self._epoll.poll(0, SOCKETS_AT_ONCE):
            found = self._receivers.get(descriptor)
            if found is None:
                continue
            recv, receive = found[0].socket.recv, found[1]
            try:
                for _ in range(PACKETS_AT_ONCE):
                    receive(recv(DATAGRAM_BYTES), now)
            except OSError:  # nothing more, or the media process died: its successor has the same socket
                continue


assert MAX_FRAMES * 16 * 10 * 2 + 64 < DATAGRAM_BYTES

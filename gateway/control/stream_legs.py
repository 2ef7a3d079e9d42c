"""The legs of streams: one row of a media process each, which sends back what it gets, over a socketpair.

A stream's leg stands in the table of legs beside those of calls, so a media process that starts in place of a dead one
gets it with the same socket. All sockets of streams are watched by one epoll, which the event loop watches.
"""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.config import DenoiseConfig
from gateway.control.stream_coding import Coding, payloads
from gateway.control.stream_pace import Credits
from gateway.control.workers import Workers
from gateway.leg_table import LegTable
from gateway.legs import Leg, Pair
from gateway.messages import LegSpec
from gateway.protocol.stream_packet import MAX_FRAMES

DATAGRAM_BYTES = 2048
PACKETS_AT_ONCE = 64
"""Read from one socket before the others have their turn."""
SOCKETS_AT_ONCE = 4096
BUFFER_BYTES = 1 << 20
"""Of a socketpair: the packets that may be in flight, with what the kernel adds to each."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """The controls of a stream; see `DenoiseConfig`."""

    denoise: bool
    level: int
    music: str
    bypass: str

    @classmethod
    def configured(cls, config: DenoiseConfig) -> "Treatment":
        """The defaults. A stream is opened to be denoised: `denoise: none` means calls."""
        return cls(True, config.level, config.music, config.bypass)


class StreamLeg:
    """One stream's leg; see `gateway.leg_table.Owner`."""

    def __init__(self, legs: LegTable, worker: int, label: str, coding: Coding, treatment: Treatment) -> None:
        self.call_id, self.worker, self.latched = label, worker, False
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self.leg = Leg(legs.leases.take(worker), Pair("", 0, (theirs,)))
        except BaseException:
            self.socket.close()
            theirs.close()
            raise
        for each in (self.socket, theirs):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        slot, generation = self.leg.lease
        self._spec = LegSpec(
            slot=slot, generation=generation, call_id=label, peer=slot, payloads=payloads(coding), noted=True
        )
        self.treatment = treatment

    def specs(self) -> Iterable[tuple[Leg, LegSpec]]:
        """The present description. The content delay is there whether it is denoised or not."""
        now = self.treatment
        yield (
            self.leg,
            replace(
                self._spec,
                denoise=True,
                level=now.level,
                keep_music=now.music == "pass",
                bypass=now.bypass if now.denoise else "on",
                latched=self.latched,
            ),
        )

    def send(self, packet: bytes) -> None:
        """Give a packet to the media plane; what it does not take is lost, and not waited for."""
        with contextlib.suppress(OSError):
            self.socket.send(packet)

    def close(self) -> None:
        """Close both ends."""
        self.socket.close()
        for each in self.leg.pair.sockets:
            each.close()


class StreamLegs:
    """All legs of streams."""

    def __init__(self, legs: LegTable, workers: Workers, clock: Callable[[], float] = time.monotonic) -> None:
        self._legs, self._workers, self._clock = legs, workers, clock
        self._receivers: dict[int, tuple[StreamLeg, Callable[[bytes, float], None]]] = {}
        self._credits: dict[int, Credits] = {}
        self._epoll = select.epoll()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._receivers)

    def open(
        self, label: str, coding: Coding, treatment: Treatment, receive: Callable[[bytes, float], None]
    ) -> StreamLeg:
        """A leg in the least loaded media process; `receive` gets its packets. Raises CallerError when all are full."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._readable)
        leg = StreamLeg(self._legs, self._legs.leases.choose(1), label, coding, treatment)
        self._legs.attach(leg, leg.leg)
        self._receivers[leg.socket.fileno()] = (leg, receive)
        self._epoll.register(leg.socket.fileno(), select.EPOLLIN)
        self._tell(leg)
        return leg

    def change(self, leg: StreamLeg, treatment: Treatment) -> None:
        """Other controls, from the packets on that the media plane gets next."""
        leg.treatment = treatment
        self._tell(leg)

    def _tell(self, leg: StreamLeg) -> None:
        self._legs.tell(leg)
        self._workers.send(self._legs.take_orders())

    def close(self, leg: StreamLeg) -> None:
        """End a leg."""
        self._epoll.unregister(leg.socket.fileno())
        del self._receivers[leg.socket.fileno()]
        self._legs.detach(leg, leg.leg)
        self._workers.send(self._legs.take_orders())
        leg.close()

    def credits(self, worker: int) -> Credits:
        """Those of a media process."""
        position = self._legs.leases.positions[worker]
        if worker not in self._credits:
            self._credits[worker] = Credits(lambda: position.busy, lambda: position.legs, self._later)
        return self._credits[worker]

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

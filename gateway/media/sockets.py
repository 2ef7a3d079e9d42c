"""The sockets of a worker: datagrams into rows of a slab, rows of the slab out.

Two calls into the kernel a packet are what a packet costs here, so a port whose peer is known is connected: the kernel
then drops strangers, and neither direction needs an address. Ports that still learn their peer, or that must hear
several sources, take the longer way through `Latching`.
"""

import ctypes
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from gateway.media.latching import Latching
from gateway.media.pipeline import ROW_BYTES, Outgoing
from gateway.media.streams import Ints
from gateway.messages import Address, Kind, LegSpec

POLLS_PER_ROUND = 4
"""Packets a socket may bring into one round: a flood cannot crowd out the others."""
STALE_DATAGRAMS, KEPT_DATAGRAMS = 256, 8
"""Datagrams that may wait in a socket from before it was connected, and how many of the newest are worth sending."""
RTP_VERSION = 0x80
"""In the two highest bits of RTP and RTCP, which are never those of STUN (RFC 7983)."""

Send = Callable[[memoryview], object]
_libc = ctypes.CDLL(None, use_errno=True)


class Port:
    """One socket of a leg."""

    __slots__ = ("connected", "latching", "paired", "raw", "recv_into", "rtcp", "slot", "sock")

    def __init__(self, sock: socket.socket, spec: LegSpec, rtcp: bool, latching: Latching) -> None:
        self.sock, self.slot, self.rtcp, self.latching = sock, spec.slot, rtcp, latching
        self.raw = spec.kind is Kind.RAW
        self.recv_into = sock.recv_into
        self.paired = sock.family == socket.AF_UNIX
        """One end of a socketpair, whose other end the control plane has: connected for ever."""
        self.connected = self.paired

    def connect(self, address: Address) -> None:
        """Let the kernel drop strangers from now on."""
        self.sock.connect(address)
        self.connected = True

    def disconnect(self) -> None:
        """Hear everyone again; the local port stays bound."""
        if self.paired:
            return
        unspecified = bytes(28)  # sockaddr of family AF_UNSPEC
        _libc.connect(self.sock.fileno(), unspecified, len(unspecified))
        self.connected = False

    def sender(self) -> Send | None:
        """How a datagram is sent to this port's party, or None while nobody knows where it is."""
        if self.connected:
            return self.sock.send
        destination = self.latching.destination
        if destination is None or destination[1] == 0:
            return None
        sock = self.sock
        return lambda datagram: sock.sendto(datagram, destination)


class Sockets:
    """All ports of a worker, by file descriptor and by slot."""

    def __init__(self, slots: int, rows: int, latch_s: float, latch_any: bool, count: Callable[[str], None]) -> None:
        self.epoll = select.epoll()
        self._latch_s, self._latch_any, self._count = latch_s, latch_any, count
        self._ports: dict[int, Port] = {}
        self.rtp: list[Port | None] = [None] * slots
        self.rtcp: list[Port | None] = [None] * slots
        self.rtp_senders: list[Send | None] = [None] * slots
        self._rows = rows
        self._backlog: list[tuple[Port, bytes]] = []
        self.latched: list[int] = []
        """Slots whose source was learned since somebody last looked."""
        self.rtcp_datagrams: list[tuple[int, bytes]] = []

    def open(self, spec: LegSpec, descriptors: list[int]) -> None:
        """Take a leg's sockets: RTP, then RTCP."""
        self.close(spec.slot)
        for descriptor, rtcp in zip(descriptors, (False, True), strict=False):
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            port = Port(sock, spec, rtcp, Latching(spec, rtcp, self._latch_s, self._latch_any))
            port.disconnect()  # an earlier worker may have connected it
            (self.rtcp if rtcp else self.rtp)[spec.slot] = port
            self._ports[descriptor] = port
            self.epoll.register(descriptor, select.EPOLLIN)
            self._settle(port, learned=False)

    def update(self, spec: LegSpec, relatch: bool) -> None:
        """Start latching anew after an offer or answer of the party, or where RTCP is said to be somewhere else."""
        for port in self._of(spec.slot):
            port.raw = spec.kind is Kind.RAW  # a re-INVITE may turn audio into T.38, and back
            old = port.latching
            if not relatch and (not port.rtcp or old.expects(spec.rtcp_remote)):
                continue
            port.latching = Latching(spec, port.rtcp, self._latch_s, self._latch_any).after(old)
            if port.connected:
                port.disconnect()
            self._settle(port, learned=old.source != port.latching.source)

    def close(self, slot: int) -> None:
        """Let go of a leg's sockets."""
        for port in self._of(slot):
            self.epoll.unregister(port.sock.fileno())
            del self._ports[port.sock.fileno()]
            if port.connected:
                port.disconnect()  # the control plane may use the socket again
            port.sock.close()
        self.rtp[slot] = self.rtcp[slot] = self.rtp_senders[slot] = None

    def _of(self, slot: int) -> Iterator[Port]:
        yield from (port for port in (self.rtp[slot], self.rtcp[slot]) if port is not None)

    def receive(
        self, events: list[tuple[int, int]], views: list[memoryview], lengths: Ints, slots: Ints, now: float
    ) -> int:
        """Read what waits, at most a few packets a socket; returns how many rows are filled with RTP."""
        got_lengths: list[int] = []
        got_slots: list[int] = []
        row = self._take_backlog(views, got_lengths, got_slots) if self._backlog else 0
        for _ in range(POLLS_PER_ROUND):
            for descriptor, _ in events:
                port = self._ports.get(descriptor)
                if port is None or row >= self._rows:
                    continue
                try:
                    if port.connected:
                        length = port.recv_into(views[row])
                    else:
                        length = self._recv_unconnected(port, views[row], now)
                except OSError as error:
                    self._count("refused" if isinstance(error, ConnectionRefusedError) else "receive_error")
                    continue
                if port.rtcp:
                    self._take_rtcp(port, views[row], length)
                elif 0 < length < ROW_BYTES:
                    got_lengths.append(length)
                    got_slots.append(port.slot)
                    row += 1
                elif length >= ROW_BYTES:
                    self._count("dropped_oversized")
            if not events or row >= self._rows:
                break
            events = self.epoll.poll(0, 4096)
        lengths[:row] = got_lengths
        slots[:row] = got_slots
        return row

    def _take_rtcp(self, port: Port, view: memoryview, length: int) -> None:
        if 0 < length < ROW_BYTES:
            self.rtcp_datagrams.append((port.slot, bytes(view[:length])))

    def _recv_unconnected(self, port: Port, view: memoryview, now: float) -> int:
        """Length of a datagram of the peer, 0 for a stranger's. Nothing is learned from what is no RTP."""
        length, source = port.sock.recvfrom_into(view)
        known = port.latching.source
        if not port.raw and (not length or view[0] & 0xC0 != RTP_VERSION):
            self._count("dropped_garbage")
            return 0
        if not port.latching.admit(source[:2], now):
            self._count("dropped_stranger")
            return 0
        if port.latching.source != known or port.latching.pinned:
            self._settle(port, learned=True)
        return length

    def _settle(self, port: Port, learned: bool) -> None:
        """Act on what latching knows: connect a pinned port, renew how its party is reached."""
        source = port.latching.source
        if port.latching.pinned and source is not None and not port.connected:
            try:
                port.connect(source)
                self._drain(port, source)
            except OSError:
                self._count("connect_error")
        if not port.rtcp:
            self.rtp_senders[port.slot] = port.sender()
        if learned:
            self.latched.append(port.slot)

    def _drain(self, port: Port, source: Address) -> None:
        """Empty the queue from before the connection: the peer's newest packets are kept, strangers' are not."""
        kept: deque[bytes] = deque(maxlen=KEPT_DATAGRAMS)
        for _ in range(STALE_DATAGRAMS):
            try:
                datagram, sender = port.sock.recvfrom(ROW_BYTES)
            except BlockingIOError:
                break
            if sender[:2] != source:
                self._count("dropped_stranger")
                continue
            if len(kept) == KEPT_DATAGRAMS:
                self._count("dropped_stale")
            kept.append(datagram)
        self._backlog += [(port, datagram) for datagram in kept]

    def _take_backlog(self, views: list[memoryview], lengths: list[int], slots: list[int]) -> int:
        """Rows of what was drained in the last round."""
        backlog, self._backlog = self._backlog[: self._rows], self._backlog[self._rows :]
        for port, datagram in backlog:
            if port.rtcp:
                self.rtcp_datagrams.append((port.slot, datagram))
            elif len(datagram) < ROW_BYTES and self._ports.get(port.sock.fileno()) is port:
                views[len(lengths)][: len(datagram)] = datagram
                lengths.append(len(datagram))
                slots.append(port.slot)
        return len(lengths)

    def send(self, outgoing: Outgoing, lengths: Ints, views: list[memoryview]) -> int:
        """Send rows through the sockets of their slots; returns how many went."""
        senders, sent = self.rtp_senders, 0
        rows = outgoing.rows
        for slot, row, length in zip(outgoing.slots.tolist(), rows.tolist(), lengths[rows].tolist(), strict=True):
            send = senders[slot]
            if send is None:
                self._count("unaddressed")
                continue
            try:
                send(views[row][:length])
                sent += 1
            except OSError as error:
                sent += self._resend(send, views[row][:length], error)
        return sent

    def _resend(self, send: Send, datagram: memoryview, error: OSError) -> int:
        """A connected socket reports an earlier packet's ICMP error instead of sending: once more."""
        self._count("refused" if isinstance(error, ConnectionRefusedError) else "send_error")
        if not isinstance(error, ConnectionRefusedError):
            return 0
        try:
            send(datagram)
        except OSError:
            return 0
        return 1

    def send_rtcp(self, slot: int, datagram: bytes, mux: bool) -> None:
        """Send RTCP to the party of a slot: on its RTP port with rtcp-mux, else on its own."""
        port = self.rtp[slot] if mux else self.rtcp[slot]
        send = port.sender() if port else None
        if send is None:
            return
        try:
            send(memoryview(datagram))
        except OSError:
            self._count("rtcp_send_error")

    def sources(self, slot: int) -> tuple[Address | None, Address | None]:
        """Sources of RTP and RTCP that the slot has learned."""
        rtp, rtcp = self.rtp[slot], self.rtcp[slot]
        return rtp.latching.source if rtp else None, rtcp.latching.source if rtcp else None


def views_of(slab: np.ndarray) -> list[memoryview]:
    """A memoryview a row."""
    return [memoryview(row) for row in slab]

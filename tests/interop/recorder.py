"""Records every UDP datagram of a test's network with the kernel's time stamp, and reads RTP out of it.

A packet socket on the loopback device sees what was really on the wire, between all machines of a site at once, and
takes nothing away from the programs that own the ports.
"""

import ctypes
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np

ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
SO_TIMESTAMPNS = 35
PACKET_OUTGOING = 4
IP_UDP = 17


class Datagram(NamedTuple):
    at_s: float
    """Wall clock of the kernel."""
    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes


class Rtp(NamedTuple):
    """An RTP packet (RFC 3550 section 5.1; no contributing sources, no extension)."""

    at_s: float
    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


class Recorder:
    """Records from `with` to the end of the block; read it afterwards or meanwhile."""

    def __init__(self, prefix: str) -> None:
        """prefix: the first three numbers of the network, as in `127.1.2`."""
        self.datagrams: list[Datagram] = []
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.sock.bind(("lo", ETH_P_IP))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        attach_filter(self.sock, prefix)
        self.sock.settimeout(0.1)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()
        self.sock.close()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                packet, ancillary, _, address = self.sock.recvmsg(65535, 128)
            except TimeoutError:
                continue
            if address[2] == PACKET_OUTGOING:  # the loopback device shows each packet going out and coming in
                continue
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            if datagram := parse(packet, seconds + nanoseconds * 1e-9):
                self.datagrams.append(datagram)

    def between(self, source: str, destination: str) -> list[Datagram]:
        """Datagrams from one address to the other."""
        return [d for d in list(self.datagrams) if d.source[0] == source and d.destination[0] == destination]

    def rtp(self, source: str, destination: str) -> list[Rtp]:
        """RTP from one address to the other, in the order of arrival."""
        return [packet for d in self.between(source, destination) if (packet := parse_rtp(d))]

    def to(self, address: str, port: int) -> list[Datagram]:
        """Datagrams to one port, from anywhere."""
        return [d for d in list(self.datagrams) if d.destination == (address, port)]

    def sip(self, source: str, destination: str, start: str) -> list[str]:
        """SIP messages whose first line begins with `start`."""
        texts = [d.payload.decode(errors="replace") for d in self.between(source, destination) if d.source[1] == 5060]
        return [text for text in texts if text.startswith(start)]


def attach_filter(sock: socket.socket, prefix: str) -> None:
    """Classic BPF: IPv4 packets to the network of `prefix`, so that other traffic on the loopback costs nothing."""
    network = struct.unpack("!I", socket.inet_aton(f"{prefix}.0"))[0]
    program = [
        (0x20, 0, 0, 16),  # load the destination address
        (0x54, 0, 0, 0xFFFFFF00),  # and with the mask
        (0x15, 0, 1, network),  # equal: accept, else drop
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))


def parse(packet: bytes, at_s: float) -> Datagram | None:
    """A whole UDP datagram out of an IPv4 packet."""
    header = (packet[0] & 15) * 4
    if packet[9] != IP_UDP or struct.unpack_from("!H", packet, 6)[0] & 0x1FFF:
        return None
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    from_port, to_port, length = struct.unpack_from("!HHH", packet, header)
    return Datagram(at_s, (source, from_port), (destination, to_port), packet[header + 8 : header + length])


def parse_rtp(datagram: Datagram) -> Rtp | None:
    """None for what is no RTP: SIP, NG, RTCP (RFC 5761 section 4: types 192 to 223)."""
    payload = datagram.payload
    if len(payload) < 12 or payload[0] != 0x80 or 192 <= payload[1] <= 223:
        return None
    _, kind, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", payload)
    return Rtp(datagram.at_s, kind >= 128, kind & 127, sequence, timestamp, ssrc, payload[12:])


def gaps_s(packets: list[Rtp]) -> np.ndarray:
    """Time between consecutive packets."""
    return np.diff([packet.at_s for packet in packets])


def unbroken(packets: list[Rtp]) -> Iterator[str]:
    """What keeps this from being one continuous stream: nothing, when it is."""
    if len(ssrcs := {packet.ssrc for packet in packets}) != 1:
        yield f"{len(ssrcs)} SSRCs"
    steps = np.diff([packet.sequence for packet in packets]) % 65536
    if np.any(steps != 1):
        yield f"sequence steps {sorted(set(steps.tolist()))}"

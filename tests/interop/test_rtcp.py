"""RTCP between two phones keeps its meaning end to end, on ports of its own and multiplexed with RTP.

sipp sends no RTCP, so here two small phones speak NG, RTP and RTCP themselves.
"""

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.interop import audio
from tests.interop.peers import Site

SR, RR, SDES, BYE = 200, 201, 202, 203
DELAY = 80
PACKETS = 50
NTP = 0xE1234567_89ABCDEF
OCTETS = PACKETS * audio.PACKET


@dataclass
class Phone:
    """One party: its sockets, its stream, and what it has received."""

    address: str
    ssrc: int
    mux: bool
    sequence: int = 65500
    timestamp: int = (1 << 32) - 4000
    received: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rtp, self.rtcp = bound(self.address), bound(self.address)
        self.talk = audio.Talk.of(PACKETS / 50, self.ssrc % 7, self.ssrc)

    def sdp(self) -> str:
        rtcp = "a=rtcp-mux\r\n" if self.mux else f"a=rtcp:{self.rtcp.getsockname()[1]}\r\n"
        port = self.rtp.getsockname()[1]
        return (
            f"v=0\r\no=- 1 1 IN IP4 {self.address}\r\ns=-\r\nc=IN IP4 {self.address}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n{rtcp}"
        )

    def learn(self, sdp: str) -> None:
        """Where to send: the ports in the SDP that this phone was given."""
        assert ("a=rtcp-mux" in sdp) == self.mux
        host, port = (
            next(line.split()[n] for line in sdp.splitlines() if line[:2] == key) for key, n in (("c=", 2), ("m=", 1))
        )
        self.remote = (host, int(port))
        self.remote_rtcp = self.remote if self.mux else (host, int(port) + 1)

    def speak(self, number: int) -> None:
        payload = self.talk.payload[number * audio.PACKET :][: audio.PACKET]
        sequence, timestamp = self.sequence + number, self.timestamp + number * audio.PACKET
        self.rtp.sendto(audio.rtp(0, number == 0, sequence, timestamp, self.ssrc, payload), self.remote)

    def hear(self) -> None:
        self.received += drain(self.rtp)

    def heard(self) -> tuple[int, int, int]:
        """SSRC, sequence number and timestamp of the last RTP packet."""
        last = next(packet for packet in reversed(self.received) if not is_rtcp(packet))
        _, _, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", last)
        return ssrc, sequence, timestamp

    def send_rtcp(self, compound: bytes) -> None:
        (self.rtp if self.mux else self.rtcp).sendto(compound, self.remote_rtcp)

    def wait_for_rtcp(self) -> dict[int, bytes]:
        """The parts of the next compound, by type."""
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            for packet in drain(self.rtp if self.mux else self.rtcp):
                if is_rtcp(packet):
                    return {part[1]: part for part in parts(packet)}
            time.sleep(0.01)
        raise AssertionError("no RTCP came")

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


def bound(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.setblocking(False)
    return sock


def drain(sock: socket.socket) -> list[bytes]:
    packets = []
    try:
        while True:
            packets.append(sock.recv(2048))
    except BlockingIOError:
        return packets


def is_rtcp(packet: bytes) -> bool:
    return 192 <= packet[1] <= 223


def parts(compound: bytes) -> Iterator[bytes]:
    while compound:
        end = 4 * (struct.unpack_from("!H", compound, 2)[0] + 1)
        yield compound[:end]
        compound = compound[end:]


def rtcp(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def sender_report(phone: Phone) -> bytes:
    """SR and SDES of a phone, at the moment of its last packet."""
    timestamp = (phone.timestamp + (PACKETS - 1) * audio.PACKET) % (1 << 32)
    report = struct.pack("!IQIII", phone.ssrc, NTP, timestamp, PACKETS, OCTETS)
    cname = b"\x01\x05alice\x00"
    return rtcp(SR, 0, report) + rtcp(SDES, 1, struct.pack("!I", phone.ssrc) + cname)


@pytest.fixture(params=[False, True], ids=["own ports", "rtcp-mux"])
def phones(site: Site, request: pytest.FixtureRequest) -> Iterator[tuple[Phone, Phone]]:
    """Two phones in a call, after each has spoken for a second."""
    network = site.network
    alice, bob = Phone(network.alice, 0xA11CE, request.param), Phone(network.bob, 0xB0B, request.param)
    call = {"call-id": f"rtcp-{request.param}", "from-tag": "a", "replace": ["origin"], "ICE": "remove"}
    offer = site.ng.ask({"command": "offer", "sdp": alice.sdp(), **call})
    bob.learn(offer["sdp"])
    answer = site.ng.ask({"command": "answer", "sdp": bob.sdp(), "to-tag": "b", **call})
    alice.learn(answer["sdp"])
    for number in range(PACKETS):
        for phone in (alice, bob):
            phone.speak(number)
        time.sleep(0.02)
    for phone in (alice, bob):
        phone.hear()
        assert len(phone.received) >= PACKETS - 1
    yield alice, bob
    assert site.ng.ask({"command": "delete", **call})["result"] == "ok"
    assert site.calls() == []
    for phone in (alice, bob):
        phone.close()


def test_a_senders_report_speaks_of_the_stream_that_is_heard(phones: tuple[Phone, Phone]):
    for speaker, listener in (phones, phones[::-1]):
        speaker.send_rtcp(sender_report(speaker))
        got = listener.wait_for_rtcp()
        ssrc, ntp, timestamp, packets, octets = struct.unpack_from("!IQIII", got[SR], 4)
        heard_ssrc, _, heard_timestamp = listener.heard()
        assert ssrc == heard_ssrc != speaker.ssrc
        assert ntp == NTP
        assert timestamp == (heard_timestamp + DELAY) % (1 << 32)
        assert (packets, octets) == (PACKETS, OCTETS)
        assert got[SDES][4:8] == struct.pack("!I", heard_ssrc) and b"alice" in got[SDES]


def test_a_receivers_report_speaks_of_the_stream_that_was_sent(phones: tuple[Phone, Phone]):
    for speaker, listener in (phones, phones[::-1]):
        heard_ssrc, heard_sequence, _ = listener.heard()
        last_sr, since = 0x456789AB, 0x8000
        fraction_and_lost, jitter = (25 << 24) | 7, 33
        block = struct.pack("!IIIIII", heard_ssrc, fraction_and_lost, heard_sequence, jitter, last_sr, since)
        listener.send_rtcp(rtcp(RR, 1, struct.pack("!I", listener.ssrc) + block))
        got = struct.unpack_from("!IIIIII", speaker.wait_for_rtcp()[RR], 8)
        assert got[0] == speaker.ssrc
        assert got[1] == fraction_and_lost
        assert got[2] & 0xFFFF == (speaker.sequence + PACKETS - 1) & 0xFFFF
        assert got[3:] == (jitter, last_sr, since)


def test_the_bye_of_a_speaker_arrives_under_the_ssrc_that_is_heard(phones: tuple[Phone, Phone]):
    alice, bob = phones
    alice.send_rtcp(rtcp(RR, 0, struct.pack("!I", alice.ssrc)) + rtcp(BYE, 1, struct.pack("!I", alice.ssrc)))
    assert bob.wait_for_rtcp()[BYE][4:8] == struct.pack("!I", bob.heard()[0])

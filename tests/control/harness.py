"""A client that asks like a SIP proxy, a phone, and the configuration of a gateway on loopback."""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import struct

from gateway.config import AdminConfig, Config, EngineConfig, InterfaceConfig, MediaConfig, NgConfig
from gateway.protocol import bencode, sdp

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


def loopback_config(**media) -> Config:
    return Config(
        ng=NgConfig(listen=("127.0.0.1:0",)),
        admin=AdminConfig(listen="127.0.0.1:0"),
        interfaces={"default": InterfaceConfig("127.0.0.1")},
        media=MediaConfig(**{"workers": 1, "slots": 800, "port_min": 22000, "port_max": 23999, **media}),
        engine=EngineConfig(kind="passthrough"),
    )


def free_ports(count: int) -> int:
    """The first of so many neighbouring UDP ports that nobody has now, even, below the ephemeral ones."""
    for first in range(random.randrange(24000, 29000, 2), 32000, 2):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                probe.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket with a queue behind it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr) -> None:
        self.queue.put_nowait(data)

    def send_to(self, data: bytes, port: int) -> None:
        self.transport.sendto(data, ("127.0.0.1", port))

    async def receive(self, timeout_s: float = 2.0) -> bytes:
        return await asyncio.wait_for(self.queue.get(), timeout_s)


async def datagrams() -> Datagrams:
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    return protocol


class Proxy:
    """Speaks NG."""

    cookies = itertools.count()

    def __init__(self, phone: Datagrams, port: int, encoding: str = "bencode") -> None:
        self.socket, self.port, self.encoding = phone, port, encoding

    async def ask(self, command: str, **keys) -> dict:
        message = {"command": command, **{key.replace("_", "-"): value for key, value in keys.items()}}
        body = bencode.encode(message) if self.encoding == "bencode" else json.dumps(message).encode()
        cookie = f"c{next(self.cookies)}".encode()
        self.socket.send_to(cookie + b" " + body, self.port)
        echoed, _, reply = (await self.socket.receive()).partition(b" ")
        assert echoed == cookie
        return bencode.decode(reply) if self.encoding == "bencode" else json.loads(reply)

    async def call(self, call_id: str, alice: int, bob: int) -> tuple[int, int]:
        """The ports that Alice and Bob send to, given theirs."""
        to_bob = await self.ask("offer", call_id=call_id, from_tag="A", sdp=SDP.format(port=alice))
        to_alice = await self.ask("answer", call_id=call_id, from_tag="A", to_tag="B", sdp=SDP.format(port=bob))
        return port_in(to_alice), port_in(to_bob)


def port_in(reply: dict) -> int:
    assert reply["result"] == "ok", reply
    return sdp.parse(reply["sdp"]).media[0].port


def rtp(sequence: int, ssrc: int = 77) -> bytes:
    """20 ms of PCMU silence."""
    return struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, sequence * 160, ssrc) + b"\xff" * 160

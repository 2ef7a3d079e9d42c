"""Calls through a running gateway: it is started, calls are placed over NG, and phones of our own talk in real time.

All calls of a wave go at once, 20 ms a packet, each with two phones on loopback. What a phone hears is kept by RTP
timestamp, never by time of arrival: a crowded machine makes packets late, not results wrong.
"""

import os
import random
import re
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from loadtest.calls import Call, hang_up, place
from loadtest.demo import free_port, wait_ready
from loadtest.ng import Address, Body, NgClient, NgError
from loadtest.processes import raise_descriptor_limit
from tests.tonelab.levels import PACKET, Law

ROOT = Path(__file__).resolve().parents[2]
PACKET_S = 0.02
LINGER_S, LONGEST_LINGER_S = 0.4, 5.0
"""After the last packet: until so long nothing came, but no longer than this."""
SUB_TICKS = 4
"""Phones do not all send at the same moment."""
PAYLOAD_TYPE = {"PCMU": 0, "PCMA": 8}
COMFORT_NOISE, EVENT = 13, 101
QUERY_TICKS = 50
FIRST_SEQUENCE, FIRST_TIMESTAMP = 65400, (1 << 32) - 4000
"""So that both wrap within every call."""


class Packet(NamedTuple):
    """What a phone sends in one tick, or has received."""

    payload_type: int
    timestamp: int
    """Samples since the first packet."""
    payload: bytes
    marker: bool = False


class Phone(Protocol):
    """One party of a call."""

    def speak(self, tick: int) -> Packet | None:
        """What leaves in this tick of 20 ms."""
        ...

    def hear(self, packet: Packet) -> None:
        """A packet came; its timestamp counts from the first that came."""
        ...

    def done(self, tick: int) -> bool:
        """Nothing more will be said."""
        ...


@dataclass(slots=True)
class Recorder:
    """A phone that says what it was given, and keeps what it hears."""

    packets: Sequence[Packet | None] = ()
    heard: list[Packet] = field(default_factory=list)

    def speak(self, tick: int) -> Packet | None:
        return self.packets[tick] if tick < len(self.packets) else None

    def hear(self, packet: Packet) -> None:
        self.heard.append(packet)

    def done(self, tick: int) -> bool:
        return tick >= len(self.packets)

    def forget(self) -> None:
        """What was heard, for another try."""
        self.heard.clear()


def talk(payload: bytes, law: Law, gone: npt.NDArray[np.bool_] | None = None) -> list[Packet | None]:
    """The packets of a G.711 stream; those that are `gone` are lost before the gateway."""
    kind = PAYLOAD_TYPE[law]
    return [
        None if gone is not None and gone[number] else Packet(kind, at, payload[at : at + PACKET], marker=at == 0)
        for number, at in enumerate(range(0, len(payload) // PACKET * PACKET, PACKET))
    ]


@dataclass(frozen=True, slots=True)
class Placed(Call):
    """A call with its codec and its denoise controls."""

    law: Law
    controls: tuple[tuple[str, str], ...]

    def _request(self, command: str, address: Address) -> Body:
        host, port = address
        kind = PAYLOAD_TYPE[self.law]
        lines = (
            "v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0",
            f"m=audio {port} RTP/AVP {kind} {COMFORT_NOISE} {EVENT}", f"a=rtpmap:{kind} {self.law}/8000",
            f"a=rtpmap:{COMFORT_NOISE} CN/8000", f"a=rtpmap:{EVENT} telephone-event/8000", f"a=fmtp:{EVENT} 0-15",
            "a=ptime:20", "a=sendrecv", "",
        )  # fmt: skip
        return {
            "command": command, "call-id": self.call_id, "from-tag": f"{self.call_id}-a",
            "received-from": ["IP4", host], "replace": ["origin", "session-connection"],
            "supports": ["load limit"], "sdp": "\r\n".join(lines), **dict(self.controls),
        }  # fmt: skip


@dataclass(slots=True)
class Conversation:
    """A call to be held: two phones, codec and controls; afterwards, what the gateway said of it."""

    a: Phone
    b: Phone
    law: Law
    controls: tuple[tuple[str, str], ...]
    reports: list[Body] = field(default_factory=list)
    """Replies to NG's `query`, one every second and one at the end."""


class Site(NamedTuple):
    """A running gateway."""

    host: str
    ng: Address
    admin: str
    """URL of the HTTP interface."""
    output: IO[bytes]
    """What it says: warnings and errors."""

    def complaints(self) -> list[str]:
        """Its warnings and errors so far."""
        self.output.seek(0)
        said = self.output.read().decode(errors="replace").splitlines()
        return [line for line in said if " WARNING " in line or " ERROR " in line]

    def shed_frames(self) -> int:
        """Frames that went dry because the machine was too busy."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=10) as answer:
            found = re.findall(
                r'^\w*frames_total\{.*reason="load".*\} ([0-9.e+]+)$', answer.read().decode(), re.MULTILINE
            )
        return round(sum(map(float, found)))


@contextmanager
def gateway(calls: int, checkout: Path = ROOT) -> Iterator[Site]:
    """A gateway on a loopback address of its own, with room for so many calls; checkout: whose code is run.

    Raises NgError when it does not start.
    """
    raise_descriptor_limit()
    host = f"127.{random.randint(64, 127)}.{random.randint(1, 254)}.{random.randint(1, 254)}"
    ng, admin = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    settings = {
        "NG__LISTEN": f"{host}:{ng}",
        "ADMIN__LISTEN": f"{host}:{admin}",
        "INTERFACES__DEFAULT__ADDRESS": host,
        "MEDIA__WORKERS": "1",
        "MEDIA__SLOTS": str(2 * calls + 16),
        "MEDIA__DRY_AFTER_MS": "1000",  # on a crowded machine packets may be late, but are treated as ever
        "CALLS__LOAD_LIMIT_PERCENT": "100",
        "MEDIA__PORT_MIN": "10000",
        "MEDIA__PORT_MAX": "65000",
        "LOG__LEVEL": "warning",
        "LOG__FORMAT": "text",
    }
    if "report_digits" in (checkout / "gateway" / "config.py").read_text():  # an older gateway knows no such key
        settings["DETECT__REPORT_DIGITS"] = "true"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DENOISE_GATEWAY_")}
    environ = kept | {f"DENOISE_GATEWAY_{key}": value for key, value in settings.items()}
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-m", "gateway", "serve"]
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output, cwd=checkout)
        try:
            url = f"http://{host}:{admin}"
            wait_ready(process, f"{url}/readyz")
            yield Site(host, (host, ng), url, output)
        except NgError as fault:
            output.seek(0)
            raise NgError(f"{fault}\n{output.read().decode(errors='replace')[-4000:]}") from None
        finally:
            for _ in range(2):  # the first SIGTERM drains, the second ends
                process.terminate()
            process.wait(20)


def hold(site: Site, conversations: Sequence[Conversation], passed: Callable[[float], None] = lambda _s: None) -> None:
    """Have all conversations at once, to their ends. passed: told of every second that went by."""
    phones = [_Line(site.host, phone) for each in conversations for phone in (each.a, each.b)]
    ng = NgClient(site.ng)
    calls = [
        Placed(f"tonelab-{random.getrandbits(48):x}", (2 * i, phones[2 * i].address),
               (2 * i + 1, phones[2 * i + 1].address), True, each.law, each.controls)
        for i, each in enumerate(conversations)
    ]  # fmt: skip
    try:
        for leg in place(ng, calls):
            phones[leg.endpoint].towards = leg.enters
        questions = _Questions(ng, calls, conversations)
        _in_real_time(phones, questions.ask, passed)
        questions.ask_all()
    finally:
        hang_up(ng, calls)
        ng.close()
        for phone in phones:
            phone.socket.close()


class _Questions:
    """Asks the gateway what it has found, again and again: it keeps only the last events of a leg."""

    def __init__(self, ng: NgClient, calls: Sequence[Placed], conversations: Sequence[Conversation]) -> None:
        self._ng, self._asked = ng, list(zip(calls, conversations, strict=True))
        self._waiting: dict[str, Conversation] = {}

    def ask(self, tick: int) -> None:
        """About each call once a second, and take the answers that are there."""
        for call, conversation in self._asked[tick % QUERY_TICKS :: QUERY_TICKS]:
            self._waiting[self._ng.send({"command": "query", "call-id": call.call_id})] = conversation
        for reply in self._ng.replies(0.0):
            if conversation := self._waiting.pop(reply.cookie, None):
                conversation.reports.append(reply.require_ok())

    def ask_all(self) -> None:
        """About every call, for the last time."""
        for call, conversation in self._asked:
            conversation.reports.append(self._ng.request({"command": "query", "call-id": call.call_id}))


class _Line:
    """A phone's socket and RTP state."""

    def __init__(self, host: str, phone: Phone) -> None:
        self.phone, self.towards = phone, ("", 0)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()
        self._sequence, self._ssrc = FIRST_SEQUENCE, random.getrandbits(32)
        self._base: int | None = None

    def speak(self, tick: int) -> None:
        """Say what is to be said. A tick of silence takes a sequence number: what was to be said then is lost."""
        packet = self.phone.speak(tick)
        if packet is not None:
            second = packet.payload_type | 0x80 * packet.marker
            timestamp = FIRST_TIMESTAMP + packet.timestamp & 0xFFFFFFFF
            head = struct.pack(">BBHII", 0x80, second, self._sequence & 0xFFFF, timestamp, self._ssrc)
            self.socket.sendto(head + packet.payload, self.towards)
        self._sequence += 1

    def listen(self) -> None:
        """Everything that is there."""
        while True:
            try:
                datagram = self.socket.recv(2048)
            except BlockingIOError:
                return
            if len(datagram) < 12 or 192 <= datagram[1] <= 223:
                continue
            timestamp = int.from_bytes(datagram[4:8], "big")
            if self._base is None:
                self._base = timestamp
            at = (timestamp - self._base + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
            self.phone.hear(Packet(datagram[1] & 0x7F, at, datagram[12:], datagram[1] >= 0x80))


def _in_real_time(lines: Sequence[_Line], ask: Callable[[int], None], passed: Callable[[float], None]) -> None:
    """Tick by tick until every phone is done, and a little longer for what is on the way."""
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ, line)
        begin, tick = time.monotonic() + 0.05, 0
        while not all(line.phone.done(tick) for line in lines):
            for part in range(SUB_TICKS):
                _listen(selector, begin + (tick + part / SUB_TICKS) * PACKET_S)
                for line in lines[part::SUB_TICKS]:
                    line.speak(tick)
            ask(tick)
            tick += 1
            if tick % 50 == 0:
                passed(1.0)
        last = time.monotonic() + LONGEST_LINGER_S
        while _listen(selector, time.monotonic() + LINGER_S) and time.monotonic() < last:
            pass


def _listen(selector: selectors.BaseSelector, until_s: float) -> int:
    """Until a moment has come; at least once, however late it is. Returns how many sockets had something."""
    count = 0
    while True:
        left = until_s - time.monotonic()
        ready = selector.select(max(left, 0.0))
        count += len(ready)
        for key, _ in ready:
            key.data.listen()
        if left <= 0:
            return count

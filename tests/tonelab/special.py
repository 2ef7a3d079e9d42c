"""What is no stream of audio: telephone-events, comfort noise and silence in packets, and two fax machines at work."""

import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.tonelab import spandsp
from tests.tonelab.calls import COMFORT_NOISE, EVENT, PAYLOAD_TYPE, Packet, talk
from tests.tonelab.levels import PACKET, Law, decode, encode, with_noise
from tests.tonelab.material import speech
from tests.tonelab.page import write_page, wrong_lines

JITTER_TICKS = 4
"""A fax machine hears so many packets later than they come, as behind a small jitter buffer."""
LONGEST_FAX_TICKS = 50 * 90
GOODBYE_TICKS = 25


def events_stream() -> list[Packet | None]:
    """Noisy speech, in it the digits of RFC 4733, comfort noise packets (RFC 3389) and silence without packets."""
    payload = encode(with_noise(speech(6.4, seed=40), 10, seed=9))
    packets = talk(payload, "PCMU")
    for number, digit in enumerate(range(16)):
        _put_digit(packets, 40 + number * 12, digit)
    for at in range(240, 290):
        packets[at] = None
    for at in (240, 255, 280):
        packets[at] = Packet(COMFORT_NOISE, at * PACKET, bytes([60 + at % 7]))
    return packets


def _put_digit(packets: list[Packet | None], at: int, digit: int) -> None:
    """Eight updates and two more ends in the place of audio (RFC 4733 section 2.5.1)."""
    for number in range(10):
        ended = number >= 7
        event = struct.pack(">BBH", digit, 0x80 * ended + 10, min(number + 1, 8) * PACKET)
        packets[at + number] = Packet(EVENT, at * PACKET, event, marker=number == 0)


def events_kept(sent: list[Packet | None], heard: list[Packet]) -> dict[str, object]:
    """Whether every packet that is no audio came as it was, and whether nothing came that was not sent."""

    came = [_wire(packet) for packet in heard]
    pairs = {}
    for name, kind in (("events", EVENT), ("comfort noise", COMFORT_NOISE)):
        before = [_wire(packet) for packet in sent if packet is not None and packet.payload_type == kind]
        pairs[name] = (sum(packet in came for packet in before), len(before))
    return {**pairs, "invented": len(heard) - sum(packet is not None for packet in sent)}


def _wire(packet: Packet) -> tuple:
    return packet.payload_type, packet.timestamp, packet.payload, packet.marker


@dataclass(slots=True)
class FaxPhone:
    """A fax machine at a phone line."""

    machine: spandsp.FaxMachine
    law: Law
    other: "FaxPhone | None" = None
    ticks: int = 0
    _waiting: dict[int, bytes] = field(default_factory=dict)
    """Payloads by timestamp."""
    _next: int = 0
    _ended_at: int = -1

    def speak(self, tick: int) -> Packet:
        """The next 20 ms, made after hearing what is due by now."""
        while self._next <= (tick - JITTER_TICKS) * PACKET and self._waiting:
            payload = self._waiting.pop(self._next, b"")
            self.machine.hear(decode(payload, self.law) if payload else np.zeros(PACKET, np.float32))
            self._next += PACKET
        self.ticks = tick
        payload = encode(self.machine.speak(), self.law)
        return Packet(PAYLOAD_TYPE[self.law], tick * PACKET, payload, marker=tick == 0)

    def hear(self, packet: Packet) -> None:
        if packet.timestamp >= self._next:
            self._waiting[packet.timestamp] = packet.payload

    def done(self, tick: int) -> bool:
        """Some time after both have hung up, or when it takes too long."""
        if self.machine.outcome is not None and self._ended_at < 0:
            self._ended_at = tick
        both = self._ended_at >= 0 and (self.other is None or self.other.machine.outcome is not None)
        return tick >= LONGEST_FAX_TICKS or (both and tick >= self._ended_at + GOODBYE_TICKS)


class FaxCall:
    """A page from one machine to another."""

    def __init__(self, law: Law, corrected: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tonelab-")
        self._sent, self._came = (Path(self._folder.name) / name for name in ("sent.tif", "came.tif"))
        write_page(self._sent)
        machines = [spandsp.FaxMachine(True, self._sent, corrected), spandsp.FaxMachine(False, self._came, corrected)]
        self.a, self.b = (FaxPhone(machine, law) for machine in machines)
        self.a.other, self.b.other = self.b, self.a

    def finish(self) -> dict[str, object]:
        """What came of it; ends both machines."""
        outcomes = [phone.machine.outcome for phone in (self.a, self.b)]
        for phone in (self.a, self.b):
            phone.machine.close()
        wrong = wrong_lines(self._sent, self._came)
        self._folder.cleanup()
        return {
            "pages": (int(outcomes == [0, 0] and wrong == 0), 1),
            "wrong lines": wrong,
            "outcome": tuple("never ended" if code is None else str(code) for code in outcomes),
            "seconds": self.a.ticks / 50,
        }

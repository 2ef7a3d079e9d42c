"""A leg as the control plane sees it: its lease, its sockets, what its worker was told and has reported.

Also here: the ports a call needs from outside (`Ports`), and the map of payload types between two parties.
"""

import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple, Protocol

from gateway.errors import CallerError
from gateway.messages import Address, Detected, Lease, LegSpec, Payload
from gateway.protocol import sdp

EVENTS = 32
"""Detections kept of a leg."""


class OutOfPortsError(CallerError):
    """No pair of media ports is free."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A local address for media, resolved."""

    name: str
    address: str
    advertise: str
    """Written into SDP."""

    @property
    def family(self) -> str:
        """`IP4` or `IP6`, of the address that peers see."""
        return f"IP{ip_address(self.advertise).version}"


@dataclass(frozen=True, slots=True)
class Pair:
    """An even port for RTP and the next one for RTCP, bound."""

    address: str
    port: int
    sockets: tuple[socket.socket, ...]
    """RTP, RTCP."""


class Ports(Protocol):
    """Where pairs come from."""

    def open(self, address: str, tos: int | None, now: float) -> Pair:
        """Raises OutOfPortsError."""

    def close(self, pair: Pair, now: float) -> None:
        """The pair's ports rest before they are used again."""

    def mark(self, pair: Pair, tos: int | None) -> None:
        """Set the TOS byte of outgoing packets; None is the configured one."""


class Stats(NamedTuple):
    """A leg's row of `LEG_STATS` behind its lease, in the same order."""

    packets: int = 0
    bytes: int = 0
    errors: int = 0
    lost: int = 0
    last_packet_s: float = 0.0
    ssrc_in: int = 0
    ssrc_out: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    jitter_ms: float = 0.0
    frames_wet: int = 0
    frames_dry: int = 0
    wet: bool = False
    reason: int = 0
    """`Reason` of the last frame."""

    def after(self, earlier: "Stats") -> "Stats":
        """These statistics on top of those of an earlier worker."""
        counts = ("packets", "bytes", "errors", "lost", "packets_out", "bytes_out", "frames_wet", "frames_dry")
        sums = {name: getattr(self, name) + getattr(earlier, name) for name in counts}
        return self._replace(
            **sums,
            last_packet_s=max(self.last_packet_s, earlier.last_packet_s),
            ssrc_in=self.ssrc_in or earlier.ssrc_in,
            ssrc_out=self.ssrc_out or earlier.ssrc_out,
        )


NOTHING = Stats()


@dataclass(slots=True, eq=False)
class Leg:
    """One party's end of one m-line, in a worker."""

    lease: Lease
    pair: Pair
    epoch: int = 0
    pinned: Address | None = None
    pinned_rtcp: Address | None = None
    told: LegSpec | None = None
    """What the worker knows."""
    reported: Stats = NOTHING
    """By the present worker."""
    earlier: Stats = NOTHING
    """By workers that died."""
    events: deque[Detected] = field(default_factory=partial(deque, maxlen=EVENTS))
    """What was heard last, the newest at the end."""

    @property
    def stats(self) -> Stats:
        """Since the leg began."""
        return self.reported.after(self.earlier)

    @property
    def last_packet_s(self) -> float:
        """Monotonic clock; 0 before the first packet."""
        return max(self.reported.last_packet_s, self.earlier.last_packet_s)

    def reopen_latching(self) -> None:
        """The party has spoken again: it may send from elsewhere now."""
        self.epoch += 1
        self.pinned = self.pinned_rtcp = None


def payload_map(own: Sequence[sdp.Codec], other: Sequence[sdp.Codec]) -> tuple[Payload, ...]:
    """What a party may send, and what the other party calls it.

    own: the party's SDP, other: the other's; either may be empty before it is known. A party sends the numbers of the
    *other's* SDP (RFC 3264 section 5.1), so those pass as they are. Some send their own numbers for the same codec
    instead: those are mapped, where the other does not use the number for something else.
    """
    numbers = {(codec.name, codec.clock_hz, codec.channels): codec.payload_type for codec in reversed(other)}
    payloads = {
        codec.payload_type: Payload(codec.payload_type, codec.name, codec.clock_hz, codec.channels, codec.payload_type)
        for codec in other
    }
    for codec in own:
        out = numbers.get((codec.name, codec.clock_hz, codec.channels), codec.payload_type)
        if codec.payload_type not in payloads:
            payloads[codec.payload_type] = Payload(codec.payload_type, codec.name, codec.clock_hz, codec.channels, out)
    return tuple(payloads.values())

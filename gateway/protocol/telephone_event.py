"""Telephone events: DTMF and tones sent as RTP payload (RFC 4733 §2.3)."""

import struct
from typing import NamedTuple

from gateway.errors import PeerError

_BLOCK = struct.Struct(">BBH")


class TelephoneEventError(PeerError):
    """A payload is no telephone event."""


class Event(NamedTuple):
    """The state of one event, as every packet of it repeats it."""

    event: int
    """0..15 are the DTMF digits 0-9 * # A-D; others in the IANA registry."""
    end: bool
    """The event is over."""
    volume: int
    """Level in -dBm0, 0..63; of meaning only for DTMF."""
    duration: int
    """Length so far, in timestamp units, 0..65535."""


def parse(payload: bytes) -> Event:
    """The first event of a payload; further ones in it (RFC 4733 §2.5.1.5) are passed over.

    The reserved bit is ignored, as the RFC demands. Raises TelephoneEventError for less than four bytes.
    """
    if len(payload) < _BLOCK.size:
        raise TelephoneEventError(f"telephone event of {len(payload)} bytes, 4 are needed")
    event, flags, duration = _BLOCK.unpack_from(payload)
    return Event(event, flags >= 128, flags & 63, duration)


def pack(event: Event) -> bytes:
    """An event as a payload of four bytes. Volume and duration beyond their fields become the greatest that fit."""
    return _BLOCK.pack(event.event, event.end << 7 | min(event.volume, 63), min(event.duration, 0xFFFF))

"""RTP headers (RFC 3550 §5.1), parsed and written for a whole batch of packets at once.

The media plane receives datagrams into the rows of one slab; `parse` turns the rows into arrays of header fields right
after the receive, and `write` puts the gateway's own fields into them right before the send. Nothing here is done per
packet: only rows with CSRCs, a header extension or padding pay for them. `pack` and `unpack` do the same for one packet
as bytes, for the load generator and the tests.
"""

import struct
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from gateway.errors import PeerError

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Number = TypeVar("Number", int, Ints)

HEADER_BYTES = 12
"""The fixed header: no CSRCs, no extension."""
RTCP_HEADER_BYTES = 8
"""The shortest RTCP packet that says anything: a receiver report without blocks."""

_PADDING, _EXTENSION, _CSRCS = 1 << 29, 1 << 28, 15 << 24
_HEAD = np.dtype("V12")


class RtpError(PeerError):
    """A datagram is no RTP packet."""


class Headers(NamedTuple):
    """Header fields of n datagrams; where neither `valid` nor `rtcp`, they mean nothing."""

    valid: Bools
    """bool [n]: a well-formed RTP packet. Never together with `rtcp`."""
    rtcp: Bools
    """bool [n]: looks like RTCP (packet type 192..223, RFC 5761 §4)."""
    payload_type: Ints
    """int64 [n], 0..127."""
    marker: Bools
    """bool [n]."""
    sequence: Ints
    """int64 [n], 0..65535."""
    timestamp: Ints
    """int64 [n], 0..2**32-1."""
    ssrc: Ints
    """int64 [n], 0..2**32-1."""
    offset: Ints
    """int64 [n], first payload byte in the row, after CSRCs and extension."""
    size: Ints
    """int64 [n], payload bytes without padding."""


def parse(slab: Bytes, lengths: Ints) -> Headers:
    """Header fields of the datagrams in the first n rows of a slab.

    slab: uint8 [>= n, width], width >= 12; lengths: int64 [n], bytes received in each row. Garbage is reported by
    `valid`, never raised.
    """
    n = len(lengths)
    words = slab[:n, :HEADER_BYTES].copy().view(">u4").astype(np.int64)
    first = words[:, 0]
    kind = first >> 16 & 0xFF
    version2 = first >> 30 == 2
    received = version2 & (lengths <= slab.shape[1])
    rtcp = received & (kind >= 192) & (kind <= 223) & (lengths >= RTCP_HEADER_BYTES)
    valid = received & (lengths >= HEADER_BYTES) & ~rtcp
    offset = np.full(n, HEADER_BYTES, np.int64)
    size = lengths - HEADER_BYTES
    extras = valid & (first & (_PADDING | _EXTENSION | _CSRCS) != 0)
    if extras.any():
        _measure_extras(slab, lengths, first, np.flatnonzero(extras), valid, offset, size)
    return Headers(
        valid, rtcp, kind & 0x7F, kind >= 128, first & 0xFFFF, words[:, 1], words[:, 2], offset, size
    )  # fmt: skip


def _measure_extras(
    slab: Bytes, lengths: Ints, first: Ints, rows: Ints, valid: Bools, offset: Ints, size: Ints
) -> None:
    """Walk CSRCs, extension (RFC 3550 §5.3.1) and padding of these rows; correct `valid`, `offset`, `size` in place.

    Reads beyond a row's datagram are clipped to it; what they find is discarded with the row's `valid`.
    """
    first, lengths = first[rows], lengths[rows]
    start = HEADER_BYTES + (first >> 24 & 15) * 4
    extended = first & _EXTENSION != 0
    fits = ~extended | (start + 4 <= lengths)
    at = np.where(extended & fits, start + 2, 0)
    words = slab[rows, at].astype(np.int64) << 8 | slab[rows, at + 1]
    start += np.where(extended, 4 + 4 * words, 0)
    padded = first & _PADDING != 0
    padding = np.where(padded, slab[rows, lengths - 1], 0)
    fits &= (start + padding <= lengths) & (~padded | (padding > 0))
    valid[rows] = fits
    offset[rows] = start
    size[rows] = lengths - start - padding


def write(
    slab: Bytes, rows: Ints, *, sequence: Ints, timestamp: Ints, ssrc: Ints, payload_type: Ints, marker: Bools | Ints
) -> None:
    """Rewrite the fixed header of these rows in place; version, padding, extension and CSRC count stay as they are.

    slab: uint8 [m, width]; rows: int64 [k], unique; the fields: [k], wrapped here to the width they have on the wire.
    """
    words = np.empty((len(rows), 3), ">u4")
    flags = slab[rows, 0].astype(np.int64) << 8 | (np.asarray(marker) != 0).astype(np.int64) << 7 | payload_type & 0x7F
    words[:, 0] = flags << 16 | sequence & 0xFFFF
    words[:, 1] = timestamp & 0xFFFFFFFF
    words[:, 2] = ssrc & 0xFFFFFFFF
    slab[rows, :HEADER_BYTES] = words.view(np.uint8)


def delta_u16(a: Number, b: Number) -> Number:
    """Signed way from b to a on the 16-bit circle, -32768..32767: how much newer sequence number a is."""
    return (a - b + 0x8000 & 0xFFFF) - 0x8000


def delta_u32(a: Number, b: Number) -> Number:
    """Signed way from b to a on the 32-bit circle: how much later timestamp a is."""
    return (a - b + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def extend_u16(reference: Number, wire: Number) -> Number:
    """The extended number nearest to `reference` whose low 16 bits are `wire`; the purpose of RFC 3550 appendix A.1."""
    return reference + delta_u16(wire, reference)


def extend_u32(reference: Number, wire: Number) -> Number:
    """The extended number nearest to `reference` whose low 32 bits are `wire`."""
    return reference + delta_u32(wire, reference)


class Packet(NamedTuple):
    """One RTP packet."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    csrcs: tuple[int, ...] = ()
    extension: tuple[int, bytes] | None = None
    """Profile word and data, whose length is a multiple of 4."""


def pack(
    payload: bytes,
    *,
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    marker: bool = False,
    csrcs: tuple[int, ...] = (),
    extension: tuple[int, bytes] | None = None,
    padding: int = 0,
) -> bytes:
    """One packet as bytes; counters are wrapped to their width. padding: bytes appended, 0..255."""
    first = 2 << 6 | bool(padding) << 5 | (extension is not None) << 4 | len(csrcs)
    second = marker << 7 | payload_type
    head = struct.pack(">BBHII", first, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc & 0xFFFFFFFF)
    head += struct.pack(f">{len(csrcs)}I", *csrcs)
    if extension is not None:
        head += struct.pack(">HH", extension[0], len(extension[1]) // 4) + extension[1]
    return head + payload + (bytes(padding - 1) + bytes([padding]) if padding else b"")


def unpack(datagram: bytes) -> Packet:
    """One packet from bytes. Raises RtpError for what `parse` does not call valid."""
    row = np.zeros((1, max(len(datagram), HEADER_BYTES)), np.uint8)
    row[0, : len(datagram)] = np.frombuffer(datagram, np.uint8)
    headers = parse(row, np.array([len(datagram)]))
    if not headers.valid[0]:
        raise RtpError(f"no RTP packet: {datagram[:HEADER_BYTES].hex()} and {len(datagram)} bytes in all")
    fields = [int(column[0]) for column in headers[2:]]
    payload_type, marker, sequence, timestamp, ssrc, offset, size = fields
    csrc_end = HEADER_BYTES + 4 * (datagram[0] & 15)
    extension = None
    if datagram[0] & 0x10:
        extension = (int.from_bytes(datagram[csrc_end : csrc_end + 2], "big"), datagram[csrc_end + 4 : offset])
    return Packet(
        payload_type,
        bool(marker),
        sequence,
        timestamp,
        ssrc,
        datagram[offset : offset + size],
        struct.unpack(f">{csrc_end // 4 - 3}I", datagram[HEADER_BYTES:csrc_end]),
        extension,
    )

"""RTCP compounds (RFC 3550 §6, reduced size RFC 5506), mapped for relaying through a gateway with SSRCs of its own.

One party's reports speak of its own SSRC and of the gateway's; the other party knows neither. `rewrite` turns a
compound received from one party into the one for the other: what its sender says of itself is moved to the SSRC,
timestamps and counts under which the gateway sends its stream on, and what it says of the streams it receives is moved
back to the SSRC and sequence numbers of their origin. Loss, jitter, NTP times, LSR and DLSR stay, so round trips and
loss are measured end to end. Whatever cannot be mapped is left out.
"""

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.errors import PeerError

SR, RR, SDES, BYE, APP, RTPFB, PSFB, XR = range(200, 208)

_U32 = 0xFFFFFFFF
_BLOCK_BYTES = 24
_SR_INFO_BYTES = 24

# Feedback messages whose body speaks of sequence numbers or SSRCs (RFC 4585 §6, RFC 5104 §4, RFC 6679, RFC 8888).
_NACK = (RTPFB, 1)
_SSRC_ENTRIES = {(RTPFB, 3), (RTPFB, 4), (PSFB, 4), (PSFB, 5), (PSFB, 6)}
_UNMAPPED = {(RTPFB, 8), (RTPFB, 11), (PSFB, 7)}
_REMB = b"REMB"

# Blocks of extended reports (RFC 3611 §4).
_LOSS_RLE, _DUPLICATE_RLE, _RECEIVER_TIME, _DLRR, _STATISTICS, _VOIP = 1, 2, 4, 5, 6, 7


class RtcpError(PeerError):
    """A datagram is no RTCP compound."""


class SenderMap(NamedTuple):
    """How the stream of one of the party's SSRCs is sent on."""

    ssrc: int
    """The gateway's SSRC for it."""
    timestamp_offset: int
    """Added to its RTP timestamps. The content delay is part of it: the sound of a moment leaves that much later."""
    packets: int | None = None
    """RTP packets the gateway has sent on under that SSRC; None leaves the sender's own count."""
    octets: int | None = None
    """Payload bytes of those packets."""


class ReportMap(NamedTuple):
    """Where a stream that the party receives from the gateway comes from."""

    ssrc: int
    """The SSRC at its origin."""
    sequence_offset: int
    """What the gateway adds to its origin's extended sequence numbers: the difference of two extended numbers."""


class Packet(NamedTuple):
    """One packet of a compound, its padding taken off."""

    kind: int
    """Packet type, 192..223."""
    detail: int
    """The five bits of report count, source count, format or subtype."""
    body: bytes
    """All after the four bytes of header; a multiple of 4 long."""


class Maps(NamedTuple):
    """The context of a rewrite."""

    sender: Mapping[int, SenderMap]
    reporter: Mapping[int, ReportMap]
    reserve: Mapping[int, int]
    """SSRC to send as, for SSRCs that only receive."""

    def sender_ssrc(self, ssrc: int) -> int | None:
        """What a party's own SSRC is to the other party."""
        known = self.sender.get(ssrc)
        return self.reserve.get(ssrc) if known is None else known.ssrc


def split(datagram: bytes) -> list[Packet]:
    """The packets of a compound. Raises RtcpError when lengths, versions or padding do not add up."""
    packets = []
    at = 0
    while at < len(datagram):
        if len(datagram) - at < 4:
            raise RtcpError(f"{len(datagram) - at} bytes left at {at}, a packet has at least 4")
        first, kind, words = struct.unpack_from(">BBH", datagram, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or not 192 <= kind <= 223:
            raise RtcpError(f"version {first >> 6}, packet type {kind} at {at}")
        if end > len(datagram):
            raise RtcpError(f"packet of {end - at} bytes at {at}, {len(datagram) - at} are left")
        packets.append(Packet(kind, first & 31, datagram[at + 4 : end - _padding(datagram, first, at, end)]))
        at = end
    if not packets:
        raise RtcpError("empty datagram")
    return packets


def join(packets: list[Packet]) -> bytes:
    """The compound of these packets."""
    heads = (struct.pack(">BBH", 0x80 | p.detail, p.kind, len(p.body) // 4) for p in packets)
    return b"".join(head + packet.body for head, packet in zip(heads, packets, strict=True))


def rewrite(
    datagram: bytes,
    sender: Mapping[int, SenderMap],
    reporter: Mapping[int, ReportMap],
    default_ssrc: int | None = None,
) -> bytes | None:
    """A compound from one party, as it goes to the other; None when nothing of it is left.

    sender: by the SSRCs of the party's streams that are relayed now; packets from others are dropped, so neither the
    report nor the BYE of a replaced SSRC is relayed. reporter: by the gateway's SSRCs that the party receives.
    default_ssrc: what a party is to the other whose SSRC is not in `sender` because it only receives; its sender
    reports and BYEs are dropped all the same. Raises RtcpError; then nothing of the datagram may be relayed.
    """
    packets = split(datagram)
    reserve: dict[int, int] = {}
    if default_ssrc is not None:
        reserve = {_ssrc(p.body): default_ssrc for p in packets if p.kind != SDES and len(p.body) >= 4}
        for packet in packets:
            if packet.kind in (SR, BYE) and len(packet.body) >= 4:
                reserve.pop(_ssrc(packet.body), None)
    maps = Maps(sender, reporter, reserve)
    mapped = [_map_packet(packet, maps) for packet in packets]
    left = [packet for packet in mapped if packet is not None]
    return join(left) if left else None


def map_sequence(extended: int, sequence_offset: int) -> int:
    """An extended highest sequence number (32 bits) as its origin counts it.

    The low 16 bits are always right. The cycles are, if the receiver has heard the stream from its start; where its own
    count began later the result would be negative, and cycles begin at 0.
    """
    mapped = extended - sequence_offset
    return mapped & _U32 if mapped >= 0 else mapped & 0xFFFF


def _padding(datagram: bytes, first: int, at: int, end: int) -> int:
    """Bytes of padding at the end of a packet; only a compound's last packet may have any (RFC 3550 §6.4.1)."""
    if not first & 0x20:
        return 0
    padding = datagram[end - 1]
    if end != len(datagram) or padding % 4 or not 0 < padding <= end - at - 4:
        raise RtcpError(f"padding of {padding} bytes in the packet at {at}")
    return padding


def _map_packet(packet: Packet, maps: Maps) -> Packet | None:
    mapper = _MAPPERS.get(packet.kind)
    return None if mapper is None else mapper(packet, maps)


def _map_sender_report(packet: Packet, maps: Maps) -> Packet | None:
    _need(packet, _SR_INFO_BYTES + packet.detail * _BLOCK_BYTES)
    ssrc, ntp, timestamp, packets, octets = struct.unpack_from(">IQIII", packet.body)
    known = maps.sender.get(ssrc)
    if known is None:
        return None
    info = struct.pack(
        ">IQIII",
        known.ssrc,
        ntp,
        timestamp + known.timestamp_offset & _U32,
        (packets if known.packets is None else known.packets) & _U32,
        (octets if known.octets is None else known.octets) & _U32,
    )
    return _map_blocks(packet, info, maps)


def _map_receiver_report(packet: Packet, maps: Maps) -> Packet | None:
    _need(packet, 4 + packet.detail * _BLOCK_BYTES)
    ssrc = maps.sender_ssrc(_ssrc(packet.body))
    return None if ssrc is None else _map_blocks(packet, struct.pack(">I", ssrc), maps)


def _map_blocks(packet: Packet, info: bytes, maps: Maps) -> Packet:
    """Report blocks behind `info`, which is as long as in the packet; a profile's extension behind them stays."""
    blocks = []
    end = len(info) + packet.detail * _BLOCK_BYTES
    for at in range(len(info), end, _BLOCK_BYTES):
        ssrc, loss, highest = struct.unpack_from(">III", packet.body, at)
        known = maps.reporter.get(ssrc)
        if known is not None:
            head = struct.pack(">III", known.ssrc, loss, map_sequence(highest, known.sequence_offset))
            blocks.append(head + packet.body[at + 12 : at + _BLOCK_BYTES])
    return Packet(packet.kind, len(blocks), info + b"".join(blocks) + packet.body[end:])


def _map_description(packet: Packet, maps: Maps) -> Packet | None:
    chunks = []
    at = 0
    for _ in range(packet.detail):
        end = _chunk_end(packet.body, at)
        ssrc = maps.sender_ssrc(_ssrc(packet.body, at))
        if ssrc is not None:
            chunks.append(struct.pack(">I", ssrc) + packet.body[at + 4 : end])
        at = end
    return Packet(SDES, len(chunks), b"".join(chunks)) if chunks else None


def _chunk_end(body: bytes, start: int) -> int:
    """Where the SDES chunk at `start` ends, with the zeros that fill its last word (RFC 3550 §6.5)."""
    at = start + 4
    while at < len(body) and body[at]:
        at += 2 + body[at + 1] if at + 1 < len(body) else 2
    if at >= len(body):
        raise RtcpError(f"description chunk at {start} has no end")
    return at // 4 * 4 + 4


def _map_goodbye(packet: Packet, maps: Maps) -> Packet | None:
    _need(packet, packet.detail * 4)
    end = packet.detail * 4
    known = [
        maps.sender[ssrc].ssrc for ssrc in struct.unpack_from(f">{packet.detail}I", packet.body) if ssrc in maps.sender
    ]
    return Packet(BYE, len(known), struct.pack(f">{len(known)}I", *known) + packet.body[end:]) if known else None


def _map_application(packet: Packet, maps: Maps) -> Packet | None:
    _need(packet, 8)
    ssrc = maps.sender_ssrc(_ssrc(packet.body))
    return None if ssrc is None else packet._replace(body=struct.pack(">I", ssrc) + packet.body[4:])


def _map_feedback(packet: Packet, maps: Maps) -> Packet | None:
    """Transport and payload feedback (RFC 4585 §6.1): both SSRCs, and what the body says of streams."""
    _need(packet, 8)
    message = (packet.kind, packet.detail)
    media = _ssrc(packet.body, 4)
    about = maps.reporter.get(media)
    ssrc = maps.sender_ssrc(_ssrc(packet.body))
    if ssrc is None or message in _UNMAPPED or (about is None and (media or message == _NACK)):
        return None
    body = packet.body[8:]
    if body.startswith(_REMB):
        return None
    if message == _NACK and about is not None:
        body = _map_nacks(body, about.sequence_offset)
    elif message in _SSRC_ENTRIES:
        body = _map_entries(body, maps)
        if not body:
            return None
    return packet._replace(body=struct.pack(">II", ssrc, about.ssrc if about else 0) + body)


def _map_nacks(body: bytes, sequence_offset: int) -> bytes:
    """Generic NACKs (RFC 4585 §6.2.1): a sequence number and a mask of those after it."""
    return b"".join(
        struct.pack(">HH", first - sequence_offset & 0xFFFF, mask) for first, mask in struct.iter_unpack(">HH", body)
    )


def _map_entries(body: bytes, maps: Maps) -> bytes:
    """Entries of eight bytes that begin with the SSRC they are about (RFC 5104 §4.2.1, §4.3.1)."""
    entries = []
    for at in range(0, len(body) - 7, 8):
        known = maps.reporter.get(_ssrc(body, at))
        if known is not None:
            entries.append(struct.pack(">I", known.ssrc) + body[at + 4 : at + 8])
    return b"".join(entries)


def _map_extended(packet: Packet, maps: Maps) -> Packet | None:
    """Extended reports (RFC 3611 §2): the blocks of its own types, but for receipt times, whose clock no map knows."""
    _need(packet, 4)
    ssrc = maps.sender_ssrc(_ssrc(packet.body))
    blocks = b""
    at = 4
    while at < len(packet.body):
        kind, specific, words = struct.unpack_from(">BBH", packet.body, at)
        data = packet.body[at + 4 : at + 4 + 4 * words]
        if len(data) < 4 * words:
            raise RtcpError(f"extended report block of {words} words at {at}, {len(data)} bytes are left")
        data = _map_extended_block(kind, specific, data, maps.reporter)
        if data:
            blocks += struct.pack(">BBH", kind, specific, len(data) // 4) + data
        at += 4 + 4 * words
    return packet._replace(body=struct.pack(">I", ssrc) + blocks) if blocks and ssrc is not None else None


def _map_extended_block(kind: int, specific: int, data: bytes, reporter: Mapping[int, ReportMap]) -> bytes:
    """What follows a block's first word; empty where the block cannot be mapped."""
    if kind == _RECEIVER_TIME:
        return data
    if kind == _DLRR:
        subblocks = ((reporter.get(_ssrc(data, at)), data[at + 4 : at + 12]) for at in range(0, len(data) - 11, 12))
        return b"".join(struct.pack(">I", known.ssrc) + times for known, times in subblocks if known is not None)
    known = reporter.get(_ssrc(data))
    if known is None or len(data) < 8:
        return b""
    if kind == _VOIP:
        return struct.pack(">I", known.ssrc) + data[4:]
    thinned = kind != _STATISTICS and known.sequence_offset % (1 << (specific & 15))
    if kind not in (_LOSS_RLE, _DUPLICATE_RLE, _STATISTICS) or thinned:
        return b""
    begin, end = (number - known.sequence_offset & 0xFFFF for number in struct.unpack_from(">HH", data, 4))
    return struct.pack(">IHH", known.ssrc, begin, end) + data[8:]


def _ssrc(body: bytes, at: int = 0) -> int:
    return int.from_bytes(body[at : at + 4], "big")


def _need(packet: Packet, size: int) -> None:
    if len(packet.body) < size:
        raise RtcpError(
            f"packet type {packet.kind} with count {packet.detail} needs {size} bytes, has {len(packet.body)}"
        )


_MAPPERS: dict[int, Callable[[Packet, Maps], Packet | None]] = {
    SR: _map_sender_report,
    RR: _map_receiver_report,
    SDES: _map_description,
    BYE: _map_goodbye,
    APP: _map_application,
    RTPFB: _map_feedback,
    PSFB: _map_feedback,
    XR: _map_extended,
}

"""The RTP packets of streams that end in the control plane (gRPC, REST), between it and a media process.

Both are ours, so a header extension (RFC 3550 §5.3.1) carries what RTP has no place for: the packet's index, which
comes back unchanged, and room in which the media plane notes, frame by frame, what it did and what the network heard.
"""

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.errors import PeerError

PAYLOAD_TYPE = 96
PROFILE = 0x444E
"""The extension's first word."""
NOTES_AT = 20
"""First byte of the notes: behind the fixed header, the extension's own and the index."""
NOTE_BYTES = 5
"""Of a frame of 10 ms: its `Reason`, and four probabilities in steps of 1/255."""
MAX_FRAMES = 6
"""60 ms of 16-bit audio at 16 kHz fit into a row of the media plane's slab."""
_HEAD = struct.Struct(">BBHIIHHI")
_FIRST = 2 << 6 | 1 << 4
"""Version 2, with an extension."""


class Returned(NamedTuple):
    """A packet that the media plane has given back."""

    number: int
    ssrc: int
    """Another one comes from another media process."""
    notes: bytes
    """`NOTE_BYTES` a frame."""
    payload: bytes


def words(frames: int) -> int:
    """Length of the extension of a packet, in words: the index and the notes."""
    return 1 + -(-frames * NOTE_BYTES // 4)


def payload_at(frames: int) -> int:
    """First byte of the payload of a packet of so many frames."""
    return NOTES_AT - 4 + 4 * words(frames)


def pack(index: int, timestamp: int, ssrc: int, frames: int, payload: bytes) -> bytes:
    """A packet for the media plane. index: from 0, its low 16 bits are the sequence number; frames: of 10 ms."""
    length = words(frames)
    head = _HEAD.pack(
        _FIRST, PAYLOAD_TYPE, index & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, PROFILE, length, index & 0xFFFFFFFF
    )
    return head + bytes(4 * length - 4) + payload


def unpack(datagram: bytes, frame_bytes: int) -> Returned:
    """A packet from the media plane. Raises PeerError for what is none."""
    if len(datagram) < NOTES_AT:
        raise PeerError(f"no packet of a stream: {len(datagram)} bytes")
    first, _, _, _, ssrc, profile, length, index = _HEAD.unpack_from(datagram)
    payload = datagram[NOTES_AT - 4 + 4 * length :]
    frames = len(payload) // frame_bytes
    if first != _FIRST or profile != PROFILE or not frames or length != words(frames):
        raise PeerError(f"no packet of a stream: {datagram[:NOTES_AT].hex()}")
    return Returned(index, ssrc, datagram[NOTES_AT : NOTES_AT + NOTE_BYTES * frames], payload)


def note(
    slab: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    reasons: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
) -> None:
    """Write notes into packets that `pack` made room in.

    slab: uint8 [m, width]; rows: int64 [n]; reasons: uint8 [n, frames]; probabilities: float32 [n, frames, 4], 0..1.
    """
    n, frames = reasons.shape
    notes = np.empty((n, frames, NOTE_BYTES), np.uint8)
    notes[..., 0] = reasons
    notes[..., 1:] = np.clip(np.nan_to_num(probabilities) * 255 + 0.5, 0, 255)
    slab[rows, NOTES_AT : NOTES_AT + NOTE_BYTES * frames] = notes.reshape(n, -1)

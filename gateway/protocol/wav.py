"""RIFF/WAVE headers: what a recording's samples are, and the header of one that we write. Bytes in, bytes out.

Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM, Microsoft, 1991), "Waveform Audio File
Format", and its WAVE_FORMAT_EXTENSIBLE.
"""

import struct
from typing import NamedTuple

from gateway.errors import CallerError

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
ENCODINGS = {(PCM, 16): "S16LE", (FLOAT, 32): "F32LE", (ALAW, 8): "ALAW", (MULAW, 8): "MULAW"}
HEADER_BYTES = 65536
"""The samples must begin before that."""


class Wav(NamedTuple):
    """What a recording is."""

    encoding: str
    """`S16LE`, `F32LE`, `ALAW` or `MULAW`."""
    rate_hz: int
    begin: int
    """First byte of the samples."""
    size: int
    """Their bytes; whole samples."""


def parse(head: bytes, length: int) -> Wav:
    """The recording that begins with `head` and has `length` bytes in all; raises CallerError."""
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise CallerError("the body is no WAV file (RIFF/WAVE): convert it, such as with ffmpeg -i IN -ac 1 OUT.wav")
    at, found = 12, None
    while at + 8 <= len(head):
        kind, size = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        at += 8
        if kind == b"fmt ":
            found = _format(head[at : at + size])
        elif kind == b"data":
            if found is None:
                raise CallerError("the WAV file has no fmt chunk before its samples: write it anew")
            sample = {"S16LE": 2, "F32LE": 4}.get(found[0], 1)
            return Wav(*found, at, min(size, length - at) // sample * sample)  # a stream's size may be unknown
        at += size + size % 2
    raise CallerError("the WAV file has no samples (no data chunk near its beginning)")


def _format(chunk: bytes) -> tuple[str, int]:
    if len(chunk) < 16:
        raise CallerError("the WAV file's fmt chunk is too short: write it anew")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == EXTENSIBLE and len(chunk) >= 26:
        tag = struct.unpack_from("<H", chunk, 24)[0]
    if channels != 1:
        raise CallerError(f"the WAV file has {channels} channels: send one request a channel")
    encoding = ENCODINGS.get((tag, bits))
    if encoding is None:
        raise CallerError(
            f"the WAV file has format {tag} of {bits} bits: use 16-bit PCM, 32-bit float, mu-law or A-law"
        )
    return encoding, rate_hz


def header(encoding: str, rate_hz: int, size: int) -> bytes:
    """The header of a recording of one channel with `size` bytes of samples."""
    tag, bits = next(key for key, value in ENCODINGS.items() if value == encoding)
    sample = bits // 8
    form = struct.pack("<HHIIHH", tag, 1, rate_hz, rate_hz * sample, sample, bits)
    riff = struct.pack("<4sI4s", b"RIFF", 36 + size & 0xFFFFFFFF, b"WAVE")
    return riff + struct.pack("<4sI", b"fmt ", 16) + form + struct.pack("<4sI", b"data", size & 0xFFFFFFFF)

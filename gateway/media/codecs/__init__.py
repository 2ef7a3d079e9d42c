"""Codecs, each for a whole batch of packets: payload bytes to float PCM and back.

Between receive and denoise the media plane groups the packets of a batch by codec and payload length and calls
`decode` once a group; between denoise and send it calls `encode` the same way. `build` is the only place that knows
every codec. Codecs with memory (G.722) keep it by slot; the others ignore slots.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Codec(Protocol):
    """One codec for many slots at once. Nothing a payload contains makes it raise."""

    name: str
    """Upper-case encoding name of RFC 3551."""
    rate: int
    """Sampling rate of the PCM in Hz; for G.722 not the RTP clock."""
    frame_bytes: int
    """Payload bytes in 10 ms."""
    coding_bytes: int
    """Payload bytes by which decoding and encoding again delays the content."""
    predictive: bool
    """Bytes build on those before them: going from one stream to another is heard as a click."""
    silence: int
    """The byte that fills a silent payload."""
    failures: int
    """Rows so far that could not be coded and became silence."""

    def decode(self, slots: Ints, payload: Bytes) -> Floats:
        """PCM of one packet a row.

        slots: int64 [n], unique; payload: uint8 [n, b], b a multiple of `frame_bytes`. Returns a new float32
        [n, b / frame_bytes * rate / 100]: 16-bit samples / 32768, so -1 <= x < 1.
        """

    def encode(self, slots: Ints, pcm: Floats) -> Bytes:
        """Payload of one packet a row.

        slots: int64 [n], unique; pcm: finite float32 [n, samples], whole 10 ms frames, clipped here to -1..1. Returns
        a new uint8 [n, bytes]. The inverse of `decode` for what `decode` gave, but for G.722.
        """

    def reset(self, slots: Ints) -> None:
        """Forget the history of these slots, both ways: their next packet is the first of a stream."""


def build(slots: int) -> dict[tuple[str, int], Codec]:
    """Every codec we can denoise, by encoding name and RTP clock in Hz, with memory for so many slots."""
    from gateway.media.codecs import g711, g722, l16  # here, because they import the names above

    return {
        ("PCMU", 8000): g711.G711.mu_law(),
        ("PCMA", 8000): g711.G711.a_law(),
        ("G722", 8000): g722.G722(slots),
        ("L16", 8000): l16.L16(8000),
        ("L16", 16000): l16.L16(16000),
    }

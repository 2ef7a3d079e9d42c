"""G.711, mu-law and A-law, by two look-up tables a law.

The tables are computed once from the laws as ITU-T G.711 gives them (tables 1a to 2b; the G.191 reference software
agrees): decision values bound the intervals, and a code means the middle of its interval. So coding a decoded payload
gives back every byte, with one exception: mu-law has two zeros, 0xFF (+0) and 0x7F (-0), which are the same sample, and
that sample is coded as 0xFF. Payloads that must stay bit-exact are passed on as bytes and never come here.
"""

import numpy as np
import numpy.typing as npt

from gateway.media.codecs import Bytes, Floats, Ints

_SAMPLES = np.arange(-32768, 32769)
"""What a table of codes is indexed by; +32768, which only rounding gives, is coded as 32767."""


def mu_law_decode_table() -> npt.NDArray[np.int16]:
    """int16 [256]: the 16-bit sample each mu-law code means (G.711 table 2; 14-bit values times 4)."""
    code = ~np.arange(256) & 0xFF
    segment, step = code >> 4 & 7, code & 15
    magnitude = ((2 * step + 33 << segment) - 33) * 4
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def mu_law_encode_table() -> Bytes:
    """uint8 [65537]: the mu-law code of each 16-bit sample -32768..32768 (14-bit magnitude, bias 33, clip 8158)."""
    negative = _SAMPLES < 0
    magnitude = np.minimum(np.where(negative, ~_SAMPLES, _SAMPLES) >> 2, 8158) + 33
    segment = _segment(magnitude, 5)
    code = segment << 4 | magnitude >> segment + 1 & 15
    codes: Bytes = (~(code | negative << 7) & 0xFF).astype(np.uint8)
    return codes


def a_law_decode_table() -> npt.NDArray[np.int16]:
    """int16 [256]: the 16-bit sample each A-law code means (G.711 table 1; 13-bit values times 8)."""
    code = np.arange(256) ^ 0x55
    segment, step = code >> 4 & 7, code & 15
    magnitude = np.where(segment > 0, 2 * step + 33 << np.maximum(segment - 1, 0), 2 * step + 1) * 8
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def a_law_encode_table() -> Bytes:
    """uint8 [65537]: the A-law code of each 16-bit sample -32768..32768 (12-bit magnitude)."""
    negative = _SAMPLES < 0
    magnitude = np.minimum(np.where(negative, ~_SAMPLES, _SAMPLES) >> 4, 2047)
    segment = _segment(magnitude, 3)
    code = segment << 4 | magnitude >> np.maximum(segment - 1, 0) & 15
    codes: Bytes = ((code | ~negative << 7) & 0xFF ^ 0x55).astype(np.uint8)
    return codes


def _segment(magnitude: Ints, origin: int) -> Ints:
    """Number of the segment, 0..7, that holds a magnitude; segment s >= 1 begins at 2 ** (s + origin)."""
    return np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) - origin, 0)


class G711:
    """One law; see `Codec`."""

    rate = 8000
    frame_bytes = 80
    coding_bytes = 0
    predictive = False
    failures = 0

    def __init__(self, name: str, decode_table: npt.NDArray[np.int16], encode_table: Bytes) -> None:
        self.name = name
        self.silence = int(encode_table[32768])
        self._samples = decode_table.astype(np.float32) / np.float32(32768)
        self._codes = encode_table

    @classmethod
    def mu_law(cls) -> "G711":
        """PCMU."""
        return cls("PCMU", mu_law_decode_table(), mu_law_encode_table())

    @classmethod
    def a_law(cls) -> "G711":
        """PCMA."""
        return cls("PCMA", a_law_decode_table(), a_law_encode_table())

    def decode(self, slots: Ints, payload: Bytes) -> Floats:
        """See `Codec.decode`."""
        return np.take(self._samples, payload, mode="clip")

    def encode(self, slots: Ints, pcm: Floats) -> Bytes:
        """See `Codec.encode`. Rounds to the nearest 16-bit sample, then codes that."""
        scaled = pcm * np.float32(32768)
        scaled += np.float32(32768.5)
        with np.errstate(invalid="ignore"):
            return np.take(self._codes, scaled.astype(np.int32), mode="clip")

    def reset(self, slots: Ints) -> None:
        """Nothing to forget."""

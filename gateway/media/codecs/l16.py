"""L16: 16-bit samples in network byte order (RFC 3551 §4.5.11)."""

import numpy as np
import numpy.typing as npt

from gateway.media.codecs import Bytes, Floats, Ints

Samples = npt.NDArray[np.int16]


class L16:
    """Linear PCM at one rate; see `Codec`."""

    name = "L16"
    silence = 0
    failures = 0

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.frame_bytes = rate // 100 * 2
        self.coding_bytes = 0
        self.predictive = False

    def decode(self, slots: Ints, payload: Bytes) -> Floats:
        """See `Codec.decode`."""
        return np.ascontiguousarray(payload).view(">i2").astype(np.float32) * np.float32(1 / 32768)

    def encode(self, slots: Ints, pcm: Floats) -> Bytes:
        """See `Codec.encode`."""
        return to_int16(pcm).astype(">i2").view(np.uint8)

    def reset(self, slots: Ints) -> None:
        """Nothing to forget."""


def to_int16(pcm: Floats) -> Samples:
    """float32, -1..1, to the nearest 16-bit sample, clipped."""
    scaled: Floats = np.rint(pcm * np.float32(32768))
    np.clip(scaled, -32768, 32767, out=scaled)
    with np.errstate(invalid="ignore"):
        return scaled.astype(np.int16)

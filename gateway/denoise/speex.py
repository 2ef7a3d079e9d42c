"""The noise suppressor of SpeexDSP (J.-M. Valin) as a suppressor: the call's rate, 10 ms, one call a stream and block.

From the wheel `speexdsp-ns`; 16-bit samples, at most 15 dB of attenuation, no probability of speech.
"""

from collections.abc import Callable
from typing import Protocol, cast

import numpy as np

from gateway.denoise.engine import Floats, Ints
from gateway.errors import ConfigError


class _Stream(Protocol):
    def process(self, samples: bytes) -> bytes: ...


class Speex:
    """SpeexDSP's preprocessor for so many slots."""

    def __init__(self, rate: int, slots: int) -> None:
        """Raises ConfigError when the library is not installed."""
        try:
            from speexdsp_ns import NoiseSuppression
        except ImportError as error:
            raise ConfigError(
                f"engine.kind: speex is not installed ({error}); pip install -e '.[speex]' in the checkout"
            ) from None
        self._create = cast("Callable[[int, int], _Stream]", NoiseSuppression.create)
        self.rate = rate
        self.hop = self.delay = rate // 100
        self._streams: list[_Stream | None] = [None] * slots

    def reset(self, slots: Ints) -> None:
        """See `Suppressor.reset`."""
        for slot in slots.tolist():
            self._streams[slot] = None

    def run(self, slots: Ints, blocks: Floats) -> tuple[Floats, Floats]:
        """See `Suppressor.run`."""
        samples = np.rint(np.clip(blocks, -1.0, 1.0) * 32767.0).astype(np.int16)
        clean = b"".join(
            self._stream(slot).process(row.tobytes()) for slot, row in zip(slots.tolist(), samples, strict=True)
        )
        pcm = np.frombuffer(clean, np.int16).reshape(blocks.shape).astype(np.float32) / np.float32(32767.0)
        return pcm, np.zeros(len(slots), np.float32)

    def _stream(self, slot: int) -> _Stream:
        stream = self._streams[slot]
        if stream is None:
            stream = self._streams[slot] = self._create(self.hop, self.rate)
        return stream

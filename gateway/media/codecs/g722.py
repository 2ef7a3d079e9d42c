"""G.722 at 64 kbit/s through FFmpeg's codec (PyAV), one coder a slot and direction.

G.722 predicts each sample from those before, so it cannot be a table: every slot keeps a decoder and an encoder, made
at its first packet and dropped at `reset`. FFmpeg's coders are exact in length: b bytes in are 2 b samples out and
back, from the first packet on; the 22 samples of filter delay are in the signal, not in the packets. A coder that
fails is dropped, its row becomes silence and is counted; the other rows of the batch do not notice.
"""

from typing import Any, cast

import av
import numpy as np

from gateway.media.codecs import Bytes, Floats, Ints
from gateway.media.codecs.l16 import Samples, to_int16

_FRAME_SAMPLES = 160


class G722:
    """G.722; see `Codec`."""

    name = "G722"
    rate = 16000
    frame_bytes = 80
    silence = 0xFC
    """Smallest steps in both bands: of all bytes the one that, repeated, leaves least (34 of 32768 after loud noise)."""

    def __init__(self, slots: int) -> None:
        self.failures = 0
        self._decoders: list[av.AudioCodecContext | None] = [None] * slots
        self._encoders: list[_Encoder | None] = [None] * slots

    def decode(self, slots: Ints, payload: Bytes) -> Floats:
        """See `Codec.decode`."""
        n, size = payload.shape
        samples = np.zeros((n, size * 2), np.int16)
        for row, slot in enumerate(slots.tolist()):
            try:
                decoder = self._decoders[slot] or self._open_decoder(slot)
                (frame,) = decoder.decode(av.Packet(payload[row].tobytes()))
                samples[row] = np.frombuffer(cast(Any, frame.planes[0]), np.int16, size * 2)
            except (av.FFmpegError, ValueError):
                self._decoders[slot] = None
                self.failures += 1
        return samples.astype(np.float32) * np.float32(1 / 32768)

    def encode(self, slots: Ints, pcm: Floats) -> Bytes:
        """See `Codec.encode`."""
        samples = to_int16(pcm)
        n, length = samples.shape
        payload = np.full((n, length // 2), self.silence, np.uint8)
        for row, slot in enumerate(slots.tolist()):
            try:
                encoder = self._encoders[slot]
                if encoder is None or length % encoder.samples:
                    encoder = self._encoders[slot] = _Encoder(length if encoder is None else _FRAME_SAMPLES)
                payload[row] = np.frombuffer(encoder.encode(samples[row]), np.uint8)
            except (av.FFmpegError, ValueError):
                self._encoders[slot] = None
                self.failures += 1
        return payload

    def reset(self, slots: Ints) -> None:
        """See `Codec.reset`."""
        for slot in slots.tolist():
            self._decoders[slot] = self._encoders[slot] = None

    def _open_decoder(self, slot: int) -> av.AudioCodecContext:
        decoder = av.CodecContext.create("g722", "r")
        decoder.sample_rate = self.rate
        decoder.layout = "mono"
        decoder.open()
        self._decoders[slot] = decoder
        return decoder


class _Encoder:
    """FFmpeg's encoder takes frames of one length only: that of a slot's first packet, 10 ms if lengths vary."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._context = av.CodecContext.create("g722", "w")
        self._context.sample_rate = G722.rate
        self._context.format = "s16"
        self._context.layout = "mono"
        self._context.options = {"frame_size": str(samples)}
        self._context.open()

    def encode(self, samples: Samples) -> bytes:
        """Payload of whole frames: int16 [k * self.samples] to k * self.samples / 2 bytes."""
        coded = []
        for start in range(0, len(samples), self.samples):
            frame = av.AudioFrame("s16", "mono", self.samples)
            frame.sample_rate = G722.rate
            frame.planes[0].update(cast(Any, samples[start : start + self.samples]))
            coded += [bytes(packet) for packet in self._context.encode(frame)]
        return b"".join(coded)

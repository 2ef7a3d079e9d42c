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
    coding_bytes = 11
    predictive = True
    """The filter banks of a decoder and an encoder, 24 taps each, hold 22 samples."""
    silence = 0xFC
    """Smallest steps in both bands: of all bytes repeated, the one that leaves least (34 of 32768 after loud noise)."""

    def __init__(self, slots: int) -> None:
        self.failures = 0
        self._decoders: list[av.AudioCodecContext | None] = [None] * slots
        self._encoders: list[_Encoder | None] = [None] * slots

    def decode(self, slots: Ints, payload: Bytes) -> Floats:
        """See `Codec.decode`."""
        n, size = payload.shape
        data = payload.tobytes()
        rows = [self._decode_row(slot, data[row * size : (row + 1) * size]) for row, slot in enumerate(slots.tolist())]
        samples = np.frombuffer(b"".join(rows), np.int16).reshape(n, size * 2)
        return samples.astype(np.float32) * np.float32(1 / 32768)

    def encode(self, slots: Ints, pcm: Floats) -> Bytes:
        """See `Codec.encode`."""
        samples = to_int16(pcm)
        n, length = samples.shape
        rows = [self._encode_row(slot, samples[row]) for row, slot in enumerate(slots.tolist())]
        return np.frombuffer(bytearray().join(rows), np.uint8).reshape(n, length // 2)

    def reset(self, slots: Ints) -> None:
        """See `Codec.reset`."""
        for slot in slots.tolist():
            self._decoders[slot] = self._encoders[slot] = None

    def _decode_row(self, slot: int, payload: bytes) -> bytes:
        """16-bit samples, native order: four bytes for each of the payload's."""
        if not payload:
            return b""
        try:
            decoder = self._decoders[slot]
            if decoder is None:
                decoder = self._decoders[slot] = _open_decoder()
            (frame,) = decoder.decode(av.Packet(payload))
            samples = bytes(frame.planes[0])[: 4 * len(payload)]
            if len(samples) != 4 * len(payload):
                raise ValueError(f"{len(samples)} bytes of samples from {len(payload)} of payload")
            return samples
        except (av.FFmpegError, ValueError):
            self._decoders[slot] = None
            self.failures += 1
            return bytes(4 * len(payload))

    def _encode_row(self, slot: int, samples: Samples) -> bytes:
        """Payload of int16 [k] samples: k / 2 bytes."""
        if not samples.size:
            return b""
        try:
            encoder = self._encoders[slot]
            if encoder is None or samples.size % encoder.samples:
                encoder = self._encoders[slot] = _Encoder(samples.size if encoder is None else _FRAME_SAMPLES)
            return encoder.encode(samples)
        except (av.FFmpegError, ValueError):
            self._encoders[slot] = None
            self.failures += 1
            return bytes([self.silence]) * (samples.size // 2)


def _open_decoder() -> av.AudioCodecContext:
    decoder = av.CodecContext.create("g722", "r")
    decoder.sample_rate = G722.rate
    decoder.layout = "mono"
    decoder.open()
    return decoder


class _Encoder:
    """FFmpeg's encoder, which takes frames of one length only.

    That is the length of a slot's first packet, because a call costs more than the samples; when a packet comes that is
    no multiple of it, a new encoder of 10 ms takes over, which the far decoder hears as one short transient.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._context = av.CodecContext.create("g722", "w")
        self._context.sample_rate = G722.rate
        self._context.format = "s16"
        self._context.layout = "mono"
        self._context.options = {"frame_size": str(samples)}
        self._context.open()

    def encode(self, samples: Samples) -> bytes:
        """Payload of whole frames: int16 [k * self.samples] to k * self.samples / 2 bytes; ValueError if it is not."""
        coded = b"".join(
            bytes(packet)
            for start in range(0, samples.size, self.samples)
            for packet in self._context.encode(_frame(samples[start : start + self.samples]))
        )
        if len(coded) != samples.size // 2:
            raise ValueError(f"{len(coded)} bytes of payload from {samples.size} samples")
        return coded


def _frame(samples: Samples) -> av.AudioFrame:
    frame = av.AudioFrame("s16", "mono", samples.size)
    frame.sample_rate = G722.rate
    frame.planes[0].update(cast(Any, samples))
    return frame

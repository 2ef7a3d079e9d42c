"""Round trips through the codecs of telephony, sample-aligned, for training mixtures and test clips.

What a codec delays is taken back exactly, so that a coded mixture and its uncoded target line up; tests hold every
delay. GSM full rate comes from libsndfile, the other frame codecs from the FFmpeg inside PyAV, G.711 is a table.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
import soundfile
from scipy import fft


@dataclass(frozen=True, slots=True)
class Codec:
    """An FFmpeg codec of one rate. delay: samples at `rate` that encoder and decoder add together (measured)."""

    rate: int
    name: str
    delay: int
    bit_rates: tuple[int, ...] = (0,)
    options: dict[str, str] = field(default_factory=dict)


VOIP = {"application": "voip", "compression_level": "2"}
CODECS = {
    "amr": Codec(8000, "amr_nb", 40, (4750, 5900, 7400, 10200, 12200)),
    "opus_8k": Codec(8000, "libopus", 53, (8000, 12000, 16000), VOIP),
    "opus_16k": Codec(16000, "libopus", 104, (12000, 16000, 24000), VOIP),
    "g722": Codec(16000, "g722", 22),
}


def round_trip(x: np.ndarray, codec: Codec, bit_rate: int) -> np.ndarray:
    """x after encoder and decoder, as long as x and aligned with it. float32 -1..1 at the codec's rate."""
    encoder, decoder = encoder_of(codec, bit_rate), av.CodecContext.create(codec.name, "r")
    decoder.sample_rate, decoder.layout = codec.rate, "mono"
    packets = [p for frame in frames_of(x, codec, encoder.frame_size or 320) for p in encoder.encode(frame)]
    decoded = [f for p in packets + encoder.encode(None) for f in decoder.decode(p)]
    samples = np.concatenate([f.to_ndarray()[0] for f in decoded])
    sound = samples.astype(np.float32) / np.float32(32768 if samples.dtype == np.int16 else 1)
    ratio = decoded[0].sample_rate // codec.rate
    sound = sound if ratio == 1 else decimated(sound, ratio)
    return sound[codec.delay : codec.delay + len(x)]


def encoder_of(codec: Codec, bit_rate: int) -> av.AudioCodecContext:
    encoder = av.CodecContext.create(codec.name, "w")
    encoder.sample_rate, encoder.format, encoder.layout = codec.rate, "s16", "mono"
    encoder.time_base, encoder.options = Fraction(1, codec.rate), codec.options
    if bit_rate:
        encoder.bit_rate = bit_rate
    encoder.open()
    return encoder


def frames_of(x: np.ndarray, codec: Codec, size: int) -> Iterator[av.AudioFrame]:
    """x in the encoder's frames, with silence after it for what the codec still holds back."""
    pcm = np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)
    pcm = np.pad(pcm, (0, -len(x) % size + 4 * size))
    for at in range(0, len(pcm), size):
        frame = av.AudioFrame.from_ndarray(pcm[None, at : at + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts = codec.rate, at
        yield frame


def decimated(x: np.ndarray, ratio: int) -> np.ndarray:
    """Every `ratio`-th sample of x, band-limited, without delay."""
    size = len(x) // (ratio * 32) * 32
    spectrum = fft.rfft(x[: size * ratio])[: size // 2 + 1]
    return fft.irfft(spectrum * np.float32(1 / ratio), size)


def gsm(x: np.ndarray) -> np.ndarray:
    """One GSM 06.10 full-rate round trip; it adds no delay beyond its frame. x, result: float32 -1..1 at 8 kHz."""
    coded, whole = io.BytesIO(), np.pad(np.clip(x, -1, 1), (0, -len(x) % 320))
    soundfile.write(coded, whole, 8000, format="WAV", subtype="GSM610")
    coded.seek(0)
    return soundfile.read(coded, dtype="float32")[0][: len(x)]


def g711(x: np.ndarray, law: str) -> np.ndarray:
    """One G.711 round trip. x, result: float32 -1..1; law: "a" or "mu"."""
    index = np.clip(np.rint(x * np.float32(32768)), -32768, 32767).astype(np.int32)
    return np.take(g711_table(law), index + 32768)


@lru_cache
def g711_table(law: str) -> np.ndarray:
    """float32 [65536]: what each 16-bit sample becomes; the continuous curves of the standard, cut to eight bits."""
    x = (np.arange(65536) - 32768) / 32768
    size, sign = np.abs(x), np.where(x < 0, -1.0, 1.0)
    if law == "mu":
        code = np.round(np.log1p(255 * size) / np.log(256) * 127) / 127
        return (sign * (np.power(256.0, code) - 1) / 255).astype(np.float32)
    a, scale = 87.6, 1 + np.log(87.6)
    curve = np.where(size < 1 / a, a * size, 1 + np.log(np.maximum(a * size, 1))) / scale
    code = (np.minimum(np.floor(curve * 128), 127) + 0.5) / 128
    return (sign * np.where(code < 1 / scale, code * scale / a, np.exp(code * scale - 1) / a)).astype(np.float32)

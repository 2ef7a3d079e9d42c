"""The noise suppressors that evaluation compares. Each takes and returns float32 [clips, samples] at a rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyrnnoise.rnnoise as rnnoise
import speexdsp_ns
import webrtc_noise_gain
from scipy.signal import resample_poly

from models.export import FOLDER, session

WEBRTC_LEVEL = 3
"""0 is off, 3 is "high", 4 the most."""
Suppress = Callable[[np.ndarray, int], np.ndarray]


def ours(noisy: np.ndarray, rate: int, level: int = 80, keep_music: bool = True, folder: Path = FOLDER) -> np.ndarray:
    """The exported graph, all clips in one batch. level: 0..100, 0.3 dB each, 100 is unlimited. Undoes the delay."""
    run = session(str(folder / f"standard_{rate // 1000}k.onnx"))
    hop, rows = rate // 100, len(noisy)
    least = 0.0 if level == 100 else 10 ** (-0.3 * level / 20)
    control = np.tile(np.array([[least, float(keep_music)]], np.float32), (rows, 1))
    state = np.zeros((rows, run.get_inputs()[1].shape[1]), np.float32)
    padded = np.pad(noisy, ((0, 0), (0, hop + -noisy.shape[1] % hop))).astype(np.float32)
    out = []
    for at in range(0, padded.shape[1], hop):
        frame, state, _ = run.run(None, {"pcm": padded[:, at : at + hop], "state": state, "control": control})
        out.append(frame)
    return np.concatenate(out, axis=1)[:, hop : hop + noisy.shape[1]]


def unchanged(noisy: np.ndarray, rate: int) -> np.ndarray:
    return noisy


def unlimited(noisy: np.ndarray, rate: int) -> np.ndarray:
    return ours(noisy, rate, level=100)


def to_int16(x: np.ndarray) -> np.ndarray:
    return (np.clip(x, -1, 1) * 32767).astype(np.int16)


def by_frames(x: np.ndarray, size: int, process: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Runs int16 frames of one clip through `process`; float32 out, as long as x."""
    frames = to_int16(np.pad(x, (0, -len(x) % size))).reshape(-1, size)
    out = np.concatenate([process(frame) for frame in frames])
    return out[: len(x)].astype(np.float32) / 32768


def speex(noisy: np.ndarray, rate: int) -> np.ndarray:
    def clip(x: np.ndarray) -> np.ndarray:
        suppressor = speexdsp_ns.NoiseSuppression.create(rate // 100, rate)
        return by_frames(x, rate // 100, lambda f: np.frombuffer(suppressor.process(f.tobytes()), np.int16))

    return np.stack([clip(x) for x in noisy])


def webrtc(noisy: np.ndarray, rate: int) -> np.ndarray:
    """WebRTC's suppressor in this build takes 16 kHz only."""

    def clip(x: np.ndarray) -> np.ndarray:
        processor = webrtc_noise_gain.AudioProcessor(0, WEBRTC_LEVEL)
        return by_frames(x, 160, lambda f: np.frombuffer(processor.Process10ms(f.tobytes()).audio, np.int16))

    return resampled(noisy, rate, 16000, clip)


def rnnoise_48k(noisy: np.ndarray, rate: int) -> np.ndarray:
    def clip(x: np.ndarray) -> np.ndarray:
        state = rnnoise.create()
        out = by_frames(x, 480, lambda f: rnnoise.process_mono_frame(state, f)[0])
        rnnoise.destroy(state)
        return out

    return resampled(noisy, rate, 48000, clip)


def resampled(noisy: np.ndarray, rate: int, inner: int, clip: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    up = resample_poly(noisy, inner // rate, 1, axis=1) if inner != rate else noisy
    out = np.stack([clip(x) for x in up])
    return resample_poly(out, 1, inner // rate, axis=1).astype(np.float32) if inner != rate else out


SYSTEMS: dict[str, Suppress] = {
    "noisy": unchanged,
    "ours, level 80": ours,
    "ours, level 100": unlimited,
    "SpeexDSP": speex,
    "WebRTC NS": webrtc,
    "RNNoise": rnnoise_48k,
}

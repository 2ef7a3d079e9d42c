"""Streaming resampling by a whole factor, for engines that work at another rate than the call.

Linear phase, so that the delay is the same at every frequency and exact in samples: `REACH` samples of the lower rate
each way. Rows are independent to the bit: each row's product has the same shape whatever the batch.
"""

import numpy as np

from gateway.denoise.engine import Floats, Ints

REACH = 16
"""Delay of one way in samples of the lower rate: 2 ms at 8 kHz. The pass band ends at 85 % of the lower rate's half."""
_CUTOFF = 0.95
"""Middle of the filter's slope, as a share of half the lower rate."""
_KAISER_BETA = 4.5
"""50 dB of attenuation beyond the slope (Kaiser, 1974)."""


def _taps(factor: int) -> Floats:
    """Low-pass at the higher rate, float32 [2 * REACH * factor], its middle at REACH * factor; sums up to 1."""
    t = (np.arange(2 * REACH * factor) - REACH * factor) / factor
    taps = np.sinc(_CUTOFF * t) * np.kaiser(2 * REACH * factor + 1, _KAISER_BETA)[:-1]
    return np.asarray(taps / taps.sum(), np.float32)


class Upsampler:
    """From the lower to the higher rate."""

    def __init__(self, slots: int, factor: int) -> None:
        phases = _taps(factor).reshape(-1, factor)[::-1]
        self._matrix = np.ascontiguousarray(phases / phases.sum(axis=0), np.float32)
        self._past = np.zeros((slots, len(phases) - 1), np.float32)

    def reset(self, slots: Ints) -> None:
        """Silence before the next sample."""
        self._past[slots] = 0.0

    def run(self, slots: Ints, pcm: Floats) -> Floats:
        """float32 [n, samples] to [n, samples * factor]."""
        stream = np.concatenate([self._past[slots], pcm], axis=1)
        self._past[slots] = stream[:, pcm.shape[1] :]
        windows = np.lib.stride_tricks.sliding_window_view(stream, len(self._matrix), axis=1)
        up: Floats = np.matmul(np.ascontiguousarray(windows), self._matrix)
        return up.reshape(len(pcm), -1)


class Downsampler:
    """From the higher to the lower rate."""

    def __init__(self, slots: int, factor: int) -> None:
        self._factor = factor
        self._taps = _taps(factor)[::-1, None].copy()
        self._past = np.zeros((slots, len(self._taps) - 1), np.float32)

    def reset(self, slots: Ints) -> None:
        """Silence before the next sample."""
        self._past[slots] = 0.0

    def run(self, slots: Ints, pcm: Floats) -> Floats:
        """float32 [n, samples] to [n, samples / factor]."""
        stream = np.concatenate([self._past[slots], pcm], axis=1)
        self._past[slots] = stream[:, pcm.shape[1] :]
        windows = np.lib.stride_tricks.sliding_window_view(stream, len(self._taps), axis=1)[:, :: self._factor]
        down: Floats = np.matmul(np.ascontiguousarray(windows), self._taps)
        return down[..., 0]

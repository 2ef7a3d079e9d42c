"""Frames, windows and transform matrices of the denoiser, and the layout of its state row.

The analysis window is 32 ms long, so that bins lie 31.25 Hz apart at every rate; the synthesis window is only its last
20 ms. With a hop of 10 ms a sample is complete one hop after it came in: the algorithmic delay is exactly 10 ms.
Source of the window pair: Mauler and Martin, "A low delay, variable resolution, perfect reconstruction spectral
analysis-synthesis system for speech enhancement", EUSIPCO 2007.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LANES = 16
"""Every feature width is a multiple of this, so that no vector instruction has a tail that depends on the batch."""

HEAD = ("speech", "noise", "music", "tone")
LOG_POWER_FLOOR = 1e-9
"""Added to a bin's power before the logarithm; a full-scale sine has power 0.25, so this lies 84 dB below it."""
REFERENCE_LOG_POWER = -14.0
"""Mean log power (natural) of ordinary telephone speech; a fresh stream's level tracker starts here."""
LEVEL_ATTACK, LEVEL_RELEASE = 0.1, 0.003
"""Share of a frame's level difference the tracker takes over when the level rises, and when it falls."""
FEATURE_SCALE = 0.25
LEVEL_BAND = (8, 112)
"""Bins whose mean log power is the level: 250 Hz to 3500 Hz, present at both rates."""
RELEASE = 0.5
"""Share of its way down that a bin's gain goes in a frame; up it goes at once. A gain that drops by the frame
is heard as roughness of the voice, one that lingers lets clicks through and leaves less room for learning."""
CONTEXT = 2
"""Frames of features the first projection sees: the newest and the one before, so that onsets are plain to it."""
SIZES = {"standard": (3, 256), "light": (2, 160)}
"""Residual blocks and their width, by size; the same at both rates."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of one network at one rate."""

    rate: int
    blocks: int
    width: int

    @classmethod
    def of(cls, size: str, rate: int) -> Geometry:
        return cls(rate, *SIZES[size])

    @property
    def hop(self) -> int:
        return self.rate // 100

    @property
    def window(self) -> int:
        return self.rate * 32 // 1000

    @property
    def bins(self) -> int:
        """Half the window: bin 0 carries both DC (real part) and the Nyquist bin (in the imaginary part's place)."""
        return self.window // 2

    @property
    def history(self) -> int:
        return self.window - self.hop

    @property
    def state_parts(self) -> tuple[int, ...]:
        """Widths of the parts of a state row.

        Input history; overlap tail; newest history once more, reversed (the folded transform needs it); level, the
        same in 16 columns; features of the frame before; gains of the frame before; one memory per block.
        """
        past = (CONTEXT - 1) * self.bins
        return (self.history, self.hop, self.bins - self.hop, LANES, past, self.bins, *([self.width] * self.blocks))

    @property
    def state(self) -> int:
        return sum(self.state_parts)


def analysis_window(g: Geometry) -> np.ndarray:
    """float64 [window]: half a long sine, rising over 22 ms, then half a short one, falling over 10 ms."""
    rise, fall = g.window - g.hop, g.hop
    up = np.sin(np.pi / 2 * (np.arange(rise) + 0.5) / rise)
    down = np.cos(np.pi / 2 * (np.arange(fall) + 0.5) / fall)
    return np.concatenate([up, down])


def synthesis_window(g: Geometry) -> np.ndarray:
    """float64 [2 * hop]: times the analysis window's end it is a Hann window, whose halves add up to one."""
    hann = np.sin(np.pi * (np.arange(2 * g.hop) + 0.5) / (2 * g.hop)) ** 2
    return hann / analysis_window(g)[-2 * g.hop :]


def packed_dft(window: int) -> np.ndarray:
    """Real DFT as a square matrix, float64 [window, window]: cosine, then sine parts, of bins 0..window/2-1.

    Time zero is the middle of the window, between two samples, so cosines are even and sines odd about it and half the
    products do (`folded_analysis`). The sine part of bin 0 is always zero; its column holds the Nyquist bin instead.
    """
    half = window // 2
    bins = np.arange(half)
    phase = np.pi / window * (2 * np.arange(window)[:, None] + 1 - window)
    sine = -np.sin(phase * bins)
    sine[:, 0] = np.sin(phase[:, 0] * half)
    return np.concatenate([np.cos(phase * bins), sine], axis=1)


def analysis_matrix(g: Geometry) -> np.ndarray:
    """float64 [window, 2 * bins]: window and DFT, scaled so that a sine of amplitude a peaks at a / 2."""
    window = analysis_window(g)
    return window[:, None] * packed_dft(g.window) / window.sum()


def folded_analysis(g: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """float64 [bins, bins] twice: cosines of the sum of the older half and the reversed newer half, after the window,
    and sines of their difference."""
    dft = packed_dft(g.window)[: g.bins] / analysis_window(g).sum()
    return dft[:, : g.bins], dft[:, g.bins :]


def synthesis_matrix(g: Geometry) -> np.ndarray:
    """float64 [2 * bins, 2 * hop]: inverse DFT, last 20 ms only, times the synthesis window."""
    inverse = np.linalg.inv(packed_dft(g.window)) * analysis_window(g).sum()
    return inverse[:, -2 * g.hop :] * synthesis_window(g)[None, :]

"""A loss that hears like PESQ: loudness in Bark bands, masking, and added sound weighing more than lost sound.

Modelled after the perceptual model of ITU-T P.862 (2001) without its time alignment and its per-band and per-frame
equalisation; the idea of training on it is Martín-Doñas et al., "A deep learning loss function based on the perceptual
evaluation of the speech quality", 2018. Band edges, hearing thresholds and constants are those of P.862 up to 3.8 kHz;
above, bands go on at the width of the last ones, about 0.35 Bark.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

BINS_PER_BAND = (
    *(1,) * 8, 2, *(1,) * 5, 2, 1, 1, *(2,) * 9, 3, 3, 3, 3, 4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 11,
    11, 13, 15, 17, 19, 21, 23,
)  # fmt: skip
"""Spectral bins of 31.25 Hz in each band; the last seven only at 16 kHz."""
THRESHOLD = (
    51286152.0, 2454709.5, 70794.6, 4897.8, 1174.9, 389.0, 104.7, 45.7, 17.8, 9.77, 4.90, 3.09, 1.91, 1.26, 0.977,
    0.724, 0.563, 0.457, 0.389, 0.331, 0.295, 0.269, 0.257, 0.251, 0.251, 0.251, 0.251, 0.263, 0.288, 0.309, 0.339,
    0.372, 0.398, 0.437, 0.468, 0.490, 0.501, 0.501, 0.513, 0.525, 0.525, 0.525, *(0.525,) * 7,
)  # fmt: skip
"""Power at which a band is just heard."""
NARROW_BANDS = 42
POWER_SCALE, LOUDNESS_SCALE = 2.764344e-5, 1.866055e-1
LISTENING_POWER = 1e7
"""Mean power of speech in 350 to 3250 Hz, in squared 16-bit units."""
ZWICKER = 0.23
ASYMMETRY, LEAST_ASYMMETRY, MOST_ASYMMETRY = 1.2, 3.0, 12.0
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309
"""What a unit of each disturbance takes from the score of 4.5."""
MOST = 45.0


class Disturbance(nn.Module):
    """Points of PESQ that an output loses against its target, roughly; mean over the examples with speech in them."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.size = rate * 32 // 1000
        count = NARROW_BANDS if rate == 8000 else len(BINS_PER_BAND)
        sizes = np.array(BINS_PER_BAND[:count])
        ends = np.cumsum(sizes)
        bands = np.zeros((self.size // 2 + 1, count), np.float32)
        for i, (end, width) in enumerate(zip(ends, sizes, strict=True)):
            bands[end - width : end, i] = 100.0 / width
        barks = 6 * np.arcsinh((ends - sizes / 2) * 31.25 / 600)
        low = np.minimum(6 / (np.minimum(barks, 4.0) + 2), 2.0) ** 0.15
        self.register_buffer("bands", torch.tensor(bands * POWER_SCALE * (256 / self.size) ** 2))
        self.register_buffer("threshold", torch.tensor(THRESHOLD[:count], dtype=torch.float32))
        self.register_buffer("power", torch.tensor(ZWICKER * low, dtype=torch.float32))
        widths = np.diff(barks, prepend=0.0)
        self.register_buffer("widths", torch.tensor(widths, dtype=torch.float32))
        self.register_buffer("window", torch.hann_window(self.size))
        self.speech_band = slice(round(350 / 31.25), round(3250 / 31.25))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """output, target: float32 [batch, samples], aligned. Scalar."""
        loud = target.square().mean(dim=1) > 1e-7
        if not bool(loud.any()):
            return output.sum() * 0
        want = self.spectrum(target[loud])
        in_band = want[..., self.speech_band].sum(-1).mean(-1) * 2 / (self.window.square().sum() * self.size)
        gain = LISTENING_POWER / (in_band + 1.0)
        got = self.spectrum(output[loud]) * gain[:, None, None]
        want = want * gain[:, None, None]
        got, want = got @ self.bands, want @ self.bands
        difference = self.loudness(got) - self.loudness(want)
        masked = 0.25 * torch.minimum(self.loudness(got), self.loudness(want))
        beyond = (difference.abs() - masked).clamp(min=0)
        ratio = ((got.detach() + 50) / (want + 50)) ** ASYMMETRY
        ratio = torch.where(ratio < LEAST_ASYMMETRY, 0.0, ratio.clamp(max=MOST_ASYMMETRY))
        weight = ((want.sum(-1) + 1e5) / LISTENING_POWER) ** 0.04
        wide = beyond * self.widths
        symmetric = (wide.square().sum(-1) * self.widths.sum() + 1e-6).sqrt()
        asymmetric = (wide * ratio).sum(-1)
        lost = SYMMETRIC * (symmetric / weight).clamp(max=MOST) + ASYMMETRIC * (asymmetric / weight).clamp(max=MOST)
        return lost.mean()

    def spectrum(self, audio: Tensor) -> Tensor:
        """Power of 32 ms frames with half overlap, in squared 16-bit units: [batch, frames, bins]."""
        frames = (audio * 32768).unfold(1, self.size, self.size // 2) * self.window
        return torch.view_as_real(torch.fft.rfft(frames)).square().sum(-1)

    def loudness(self, power: Tensor) -> Tensor:
        """Zwicker's law: [..., bands] power to sones."""
        ratio = 0.5 + 0.5 * power / self.threshold
        scale = LOUDNESS_SCALE * (self.threshold / 0.5) ** self.power
        return (scale * (ratio**self.power - 1)).clamp(min=0)

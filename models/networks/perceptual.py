"""A loss that hears like PESQ: loudness in Bark bands, masking, and added sound weighing more than lost sound.

The perceptual model of ITU-T P.862 (2001), 10.2, and its tables, without time alignment: both signals at listening
level and, at 8 kHz, through a telephone's receiver; what a line's colour and slow changes of gain cannot spoil is
taken out; the worst moments count most. Training on it is the idea of Martín-Doñas et al., "A deep learning loss
function based on the perceptual evaluation of the speech quality", 2018.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

BINS = (*(1,) * 8, 2, *(1,) * 5, 2, 1, 1, *(2,) * 8, 3, 3, 3, 3, 4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 9)
"""Spectral bins of 31.25 Hz in each band; the last ones depend on the rate."""
LAST_BINS = {8000: (11,), 16000: (12, 12, 15, 16, 18, 21, 25, 20)}
DENSITY = (
    *(100.0,) * 8, 50.0, *(100.0,) * 5, 53.047, 110.0, 117.992, 65.0, 68.760, 70.0, 71.429, 75.0, 76.843, 80.969,
    88.646, 63.864, 68.155, 72.548, 75.585, 58.379, 80.951, 64.136, 54.385, 73.822, 64.437, 59.176, 65.521, 61.400,
    58.144, 57.005, 64.126,
)  # fmt: skip
"""What a band's power is multiplied by, as its bins do not fill it evenly."""
LAST_DENSITY = {8000: (59.248,), 16000: (54.311, 61.115, 55.078, 56.849, 55.629, 53.137, 54.986, 79.547)}
THRESHOLD = (
    51286152.0, 2454709.5, 70794.594, 4897.789, 1174.898, 389.045, 104.713, 45.709, 17.783, 9.772, 4.898, 3.090, 1.905,
    1.259, 0.977, 0.724, 0.562, 0.457, 0.389, 0.331, 0.295, 0.269, 0.257, 0.251, 0.251, 0.251, 0.251, 0.263, 0.288,
    0.309, 0.339, 0.372, 0.398, 0.437, 0.468, 0.490, 0.501, 0.501, 0.513, 0.525, 0.525, 0.525, 0.513, 0.479, 0.427,
    0.372, 0.363, 0.417, 0.537,
)  # fmt: skip
"""Power at which a band is just heard."""
WIDTH_BARK = (
    0.157344, 0.317994, 0.322441, 0.326934, 0.331474, 0.336061, 0.340697, 0.345381, 0.350114, 0.354897, 0.359729,
    0.364611, 0.369544, 0.374529, 0.379565, 0.384653, 0.389794, 0.394989, 0.400236, 0.405538, 0.410894, 0.416306,
    0.421773, 0.427297, 0.432877, 0.438514, 0.444209, 0.449962, 0.455774, 0.461645, 0.467577, 0.473569, 0.479621,
    0.485736, 0.491912, 0.498151, 0.504454, 0.510819, 0.517250, 0.523745, 0.530308, 0.536934, 0.543629, 0.550390,
    0.557220, 0.564119, 0.571085, 0.578125, 0.585232,
)  # fmt: skip
RECEIVER_DB = {
    0: -200, 50: -40, 100: -20, 125: -12, 160: -6, 200: 0, 250: 4, 300: 6, 350: 8, 400: 10, 500: 11, 600: 12,
    3250: 12, 3500: 4, 4000: -200,
}  # fmt: skip
"""Hz -> dB of the receiver that narrow-band speech is heard through (the modified IRS); straight lines between."""
POWER_SCALE = {8000: 2.764344e-5, 16000: 6.910853e-6}
LOUDNESS_SCALE, ZWICKER = 1.866055e-1, 0.23
LISTENING_POWER = 1e7
"""Mean power of either signal in 350 to 3250 Hz, in squared 16-bit units."""
EMPTY = 1e-7
"""Mean square of a target that is none."""
SILENT = 1e7
"""Power of the bands of a frame, below which it says nothing about the colour of a line."""
COLOUR, COLOUR_FLOOR, GAIN, GAIN_FLOOR = 100.0, 1e3, (3e-4, 5.0), 5e3
MASKED = 0.25
ASYMMETRY, LEAST_ASYMMETRY, MOST_ASYMMETRY = 1.2, 3.0, 12.0
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309
"""What a unit of each disturbance takes from the score of 4.5."""
MOST = 45.0
SYLLABLE, WORST = 20, 6
"""Frames of a split second, and the power that makes its worst frames count."""


class Disturbance(nn.Module):
    """Points of PESQ that an output loses against its target; mean over the examples with speech in them."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.size = rate * 32 // 1000
        sizes = (*BINS, *LAST_BINS[rate])
        ends = np.cumsum(sizes)
        density = (*DENSITY, *LAST_DENSITY[rate])
        bands = np.zeros((self.size // 2 + 1, len(sizes)))
        for i, (end, count) in enumerate(zip(ends, sizes, strict=True)):
            bands[end - count : end, i] = density[i] * POWER_SCALE[rate]
        bands[0] = 0
        if rate == 8000:
            hz = np.arange(len(bands)) * 31.25
            bands *= 10 ** (np.interp(hz, list(RECEIVER_DB), list(RECEIVER_DB.values())) / 10)[:, None]
        widths = np.array(WIDTH_BARK[: len(sizes)])
        centres = np.cumsum(widths) - widths / 2
        low = np.minimum(6 / (np.minimum(centres, 4.0) + 2), 2.0) ** 0.15
        tables = {"bands": bands, "threshold": THRESHOLD[: len(sizes)], "power": ZWICKER * low, "widths": widths}
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(np.asarray(table), dtype=torch.float32))
        self.register_buffer("window", torch.hann_window(self.size))
        self.speech_band = slice(round(350 / 31.25), round(3250 / 31.25))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """output, target: float32 [batch, samples], aligned. Scalar."""
        loud = target.square().mean(dim=1) > EMPTY
        if not bool(loud.any()):
            return output.sum() * 0
        return self.lost(output[loud], target[loud]).mean()

    def lost(self, output: Tensor, target: Tensor) -> Tensor:
        """Points of each example, [batch]."""
        got, want = self.heard(output), self.heard(target)
        want = want * self.colour(got, want)[:, None]
        got = got * self.slow_gain(got, want)[..., None]
        mine, its = self.loudness(got), self.loudness(want)
        beyond = ((mine - its).abs() - MASKED * torch.minimum(mine, its)).clamp(min=0)
        ratio = ((got + 50) / (want + 50)) ** ASYMMETRY
        ratio = torch.where(ratio < LEAST_ASYMMETRY, 0.0, ratio.clamp(max=MOST_ASYMMETRY))
        weight = ((want.sum(-1) + 1e5) / LISTENING_POWER) ** 0.04
        wide = (beyond * self.widths)[..., 1:]
        symmetric = (wide.square().sum(-1) * self.widths[1:].sum() + 1e-6).sqrt()
        asymmetric = (wide * ratio[..., 1:]).sum(-1)
        return SYMMETRIC * over_time(symmetric / weight) + ASYMMETRIC * over_time(asymmetric / weight)

    def heard(self, audio: Tensor) -> Tensor:
        """Power in the bands at listening level, [batch, frames, bands]; frames of 32 ms with half overlap."""
        frames = (audio * 32768).unfold(1, self.size, self.size // 2) * self.window
        power = torch.view_as_real(torch.fft.rfft(frames)).square().sum(-1)
        in_band = power[..., self.speech_band].sum(-1).mean(-1) * 2 / (self.window.square().sum() * self.size)
        return (power @ self.bands) * (LISTENING_POWER / (in_band + 1.0))[:, None, None]

    def colour(self, got: Tensor, want: Tensor) -> Tensor:
        """Gain [batch, bands] that makes the target as the output is on average, where there is speech."""
        there = (want.sum(-1) > SILENT)[..., None]
        mine, its = ((p * (there & (p > 100 * self.threshold))).mean(1) for p in (got, want))
        return ((mine + COLOUR_FLOOR) / (its + COLOUR_FLOOR)).clamp(1 / COLOUR, COLOUR)

    def slow_gain(self, got: Tensor, want: Tensor) -> Tensor:
        """Gain [batch, frames] that makes frames of the output as loud as the target's, a little smoothed."""
        mine, its = ((p * (p > self.threshold)).sum(-1) + GAIN_FLOOR for p in (got, want))
        ratio = its / mine
        before = nn.functional.pad(ratio, (2, 0), value=1.0)
        return (0.8 * ratio + 0.16 * before[:, 1:-1] + 0.04 * before[:, :-2]).clamp(*GAIN)

    def loudness(self, power: Tensor) -> Tensor:
        """Zwicker's law: [..., bands] power to sones."""
        ratio = 0.5 + 0.5 * power / self.threshold
        scale = LOUDNESS_SCALE * (self.threshold / 0.5) ** self.power
        return scale * (ratio.clamp(min=1.0) ** self.power - 1)


def over_time(disturbance: Tensor) -> Tensor:
    """[batch, frames] -> [batch]: split seconds by their worst frames, then the root of their mean square."""
    split = disturbance.clamp(max=MOST).unfold(1, min(SYLLABLE, disturbance.shape[1]), SYLLABLE // 2)
    worst = (split.pow(WORST).mean(-1) + 1e-9).pow(1 / WORST)
    return (worst.square().mean(-1) + 1e-9).sqrt()

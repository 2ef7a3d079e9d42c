"""What training minimises. Audio is float32 [batch, samples]; targets are aligned with the outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.perceptual import EMPTY, Disturbance

POWER = 0.3
"""Compression of magnitudes: quiet parts count, as they do to the ear (Ephrat et al., 2018)."""
OVER_SUPPRESSION = 0.6
"""Extra weight of magnitude taken away from the target."""
SHAPE, HEARD, PAUSES, SOFTER = 60.0, 1.0, 2.0, 1.0
"""Weights: of the spectral error, of a point of PESQ, of a bel (10 dB) in pauses, and of a bel that a voice loses."""
QUIET, FLOOR = 3e-4, 1e-4
"""Power of a pausing frame against the target's loudest, and power against its mean below which nothing is heard."""


def compressed(audio: Tensor, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(compressed magnitude, compressed complex spectrum as [..., 2], power) of short frames with half overlap."""
    size = len(window)
    frames = audio.unfold(1, size, size // 2) * window
    spectrum = torch.view_as_real(torch.fft.rfft(frames) / window.sum() * 2)
    power = spectrum.square().sum(-1) + 1e-8
    return power ** (POWER / 2), spectrum * (power ** ((POWER - 1) / 2))[..., None], power


def spectral(output: Tensor, target: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """(compressed magnitude and complex error, error in pauses), [batch] each; missing speech costs more than left-over
    noise."""
    got, got_complex, got_power = compressed(output, window)
    want, want_complex, want_power = compressed(target, window)
    magnitude = (got - want).square() + OVER_SUPPRESSION * (want - got).clamp(min=0).square()
    complex_error = (got_complex - want_complex).square().sum(-1)
    return (0.7 * magnitude + 0.3 * complex_error).mean(dim=(1, 2)), in_pauses(got_power, want_power)


def in_pauses(got: Tensor, want: Tensor) -> Tensor:
    """Bels between the spectra where the target pauses, as a mean over all frames, [batch]. PESQ forgives what is left
    there. got, want: power [batch, frames, bins]."""
    frame = want.mean(dim=2, keepdim=True)
    floor = FLOOR * frame.mean(dim=1, keepdim=True) + 1e-9
    bels = torch.log10((got + floor) / (want + floor)).abs()
    return (bels * (frame < QUIET * frame.amax(dim=1, keepdim=True) + 3e-8)).mean(dim=(1, 2))


def level(output: Tensor, target: Tensor) -> Tensor:
    """Error in the time domain relative to the target's power, in nepers, floored; [batch]."""
    power = target.square().mean(dim=1)
    error = (output - target).square().mean(dim=1)
    return torch.log10((error + 1e-3 * power + 1e-8) / (power + 1e-6)).clamp(-3, 1)


def softer(output: Tensor, target: Tensor) -> Tensor:
    """Bels by which the target's part of the output is softer than the target, [batch]; 0 where there is no target.
    PESQ forgives a change of level."""
    power = target.square().mean(dim=1)
    gain = (output * target).mean(dim=1) / (power + 1e-9)
    return torch.where(power > EMPTY, -2 * torch.log10(gain.clamp(min=1e-2, max=1.0)), 0.0)


class Loss(nn.Module):
    """The spectral error and what is left in pauses, at one of two resolutions, drawn anew each time; the time-domain
    error, the disturbance that PESQ would hear, what the voice loses in level, and the head's cross-entropy."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.disturbance = Disturbance(rate)
        self.register_buffer("long", torch.hann_window(rate * 32 // 1000))
        self.register_buffer("short", torch.hann_window(rate * 16 // 1000))

    def forward(
        self, output: Tensor, target: Tensor, logits: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """labels, logits: [frames, batch, 4]."""
        window = self.long if torch.rand(()) < 0.5 else self.short
        shape, pauses = (error.mean() for error in spectral(output, target, window))
        sdr = level(output, target).mean()
        heard, soft = self.disturbance(output, target), softer(output, target).mean()
        head = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        parts = {"spectral": shape, "pauses": pauses, "level": sdr, "heard": heard, "softer": soft, "head": head}
        total = SHAPE * shape + PAUSES * pauses + 0.1 * sdr + HEARD * heard + SOFTER * soft + 0.1 * head
        return total, {name: part.item() for name, part in parts.items()}

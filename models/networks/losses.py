"""What training minimises. Audio is float32 [batch, samples]; targets are aligned with the outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.perceptual import Disturbance

POWER = 0.3
"""Compression of magnitudes: quiet parts count, as they do to the ear (Ephrat et al., 2018)."""
OVER_SUPPRESSION = 0.6
"""Extra weight of magnitude taken away from the target."""
HEARD = 0.25
"""Weight of a point of PESQ."""


def compressed(audio: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """(compressed magnitude, compressed complex spectrum as [..., 2]) of short frames with half overlap."""
    size = len(window)
    frames = audio.unfold(1, size, size // 2) * window
    spectrum = torch.view_as_real(torch.fft.rfft(frames) / window.sum() * 2)
    power = spectrum.square().sum(-1) + 1e-8
    return power ** (POWER / 2), spectrum * (power ** ((POWER - 1) / 2))[..., None]


def spectral(output: Tensor, target: Tensor, window: Tensor) -> Tensor:
    """Compressed magnitude and complex error, [batch]; missing speech costs more than left-over noise."""
    got, got_complex = compressed(output, window)
    want, want_complex = compressed(target, window)
    magnitude = (got - want).square() + OVER_SUPPRESSION * (want - got).clamp(min=0).square()
    complex_error = (got_complex - want_complex).square().sum(-1)
    return (0.7 * magnitude + 0.3 * complex_error).mean(dim=(1, 2))


def level(output: Tensor, target: Tensor) -> Tensor:
    """Error in the time domain relative to the target's power, in nepers, floored; [batch]."""
    power = target.square().mean(dim=1)
    error = (output - target).square().mean(dim=1)
    return torch.log10((error + 1e-3 * power + 1e-8) / (power + 1e-6)).clamp(-3, 1)


class Loss(nn.Module):
    """The spectral error at one of two resolutions, drawn anew each time, the time-domain error, the disturbance that
    PESQ would hear, and the head's cross-entropy."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.disturbance = Disturbance(rate)
        self.register_buffer("long", torch.hann_window(rate * 32 // 1000))
        self.register_buffer("short", torch.hann_window(rate * 16 // 1000))

    def forward(
        self, output: Tensor, target: Tensor, logits: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """labels, logits: [frames, batch, 4]."""
        shape = spectral(output, target, self.long if torch.rand(()) < 0.5 else self.short).mean()
        sdr = level(output, target).mean()
        heard = self.disturbance(output, target)
        head = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        parts = {"spectral": shape.item(), "level": sdr.item(), "heard": heard.item(), "head": head.item()}
        return 30 * shape + 0.1 * sdr + HEARD * heard + 0.1 * head, parts

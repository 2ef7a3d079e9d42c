"""The denoiser in torch, for training: a whole stretch of audio at once. `graph.py` builds the same, frame by frame.

Log power spectrum, minus a slowly followed level -> linear -> residual blocks of gated linear recurrences -> a gain
in 0..1 for each bin, and four independent probabilities. The gates depend on a block's input only, not on its memory
(minGRU: Feng et al., "Were RNNs all we needed?", 2024), so all products run over whole stretches, and the rest is a
cheap scan. Inputs of the products are clamped to fixed ranges: that is what lets the graph run them in int8.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models import geometry
from models.geometry import HEAD, LANES, Geometry

NORM_RANGE = 5.0
"""Inputs that were normalised to an RMS of one are clamped to +-5."""
MEMORY_RANGE = 4.0
FEATURE_RANGE = 3.0


class Scan(torch.autograd.Function):
    """h[t] = keep[t] * h[t-1] + new[t], from h[-1] = 0. keep, new: float32 [frames, batch, width]."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, keep: Tensor, new: Tensor) -> Tensor:
        memory = new.clone()
        for t in range(1, len(memory)):
            memory[t].addcmul_(keep[t], memory[t - 1])
        ctx.save_for_backward(keep, memory)
        return memory

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        keep, memory = ctx.saved_tensors
        total = grad.clone(memory_format=torch.contiguous_format)
        for t in range(len(total) - 2, -1, -1):
            total[t].addcmul_(keep[t + 1], total[t + 1])
        grad_keep = torch.zeros_like(keep)
        torch.mul(total[1:], memory[:-1], out=grad_keep[1:])
        return grad_keep, total


class Block(nn.Module):
    """RMS norm -> update gate, candidate, output gate -> memory -> projection, added to the input."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 3 * width)
        self.outer = nn.Linear(width, width)
        with torch.no_grad():
            shares = 1 / torch.logspace(0.1, 2.3, width)
            self.inner.bias[:width] = torch.logit(shares[torch.randperm(width)])
            self.inner.weight[:width] *= 0.5
            self.outer.weight *= 1 / blocks**0.5

    def forward(self, x: Tensor) -> Tensor:
        update, candidate, gate = self.inner(normalised(x)).float().chunk(3, dim=-1)
        step = torch.sigmoid(update)
        memory = Scan.apply(1 - step, step * candidate)
        opened = nn.functional.silu(gate) * memory
        return x + self.outer(opened.clamp(-MEMORY_RANGE, MEMORY_RANGE)).float()


def normalised(x: Tensor) -> Tensor:
    x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)
    return x.clamp(-NORM_RANGE, NORM_RANGE)


class Denoiser(nn.Module):
    """See the module's text. Audio is float32 [batch, samples], samples a multiple of the hop."""

    def __init__(self, g: Geometry) -> None:
        super().__init__()
        self.geometry = g
        self.input = nn.Linear(g.bins, g.width)
        self.keep_music = nn.Parameter(torch.zeros(1, g.width))
        self.blocks = nn.ModuleList(Block(g.width, g.blocks) for _ in range(g.blocks))
        self.output = nn.Linear(g.width, g.bins + LANES)
        self.register_buffer("analysis", torch.tensor(geometry.analysis_matrix(g)).float(), persistent=False)
        self.register_buffer("synthesis", torch.tensor(geometry.synthesis_matrix(g)).float(), persistent=False)
        with torch.no_grad():
            self.output.bias[: g.bins] = 1.5

    def spectrum(self, pcm: Tensor) -> Tensor:
        """[batch, samples] -> [frames, batch, 2 * bins]; frame t ends with hop t."""
        g = self.geometry
        frames = nn.functional.pad(pcm, (g.history, 0)).unfold(1, g.window, g.hop)
        return frames.transpose(0, 1) @ self.analysis

    def resynthesise(self, spectrum: Tensor) -> Tensor:
        """[frames, batch, 2 * bins] -> [batch, samples], delayed by one hop."""
        parts = (spectrum @ self.synthesis).transpose(0, 1)
        first, second = parts.chunk(2, dim=-1)
        tail = nn.functional.pad(second, (0, 0, 1, 0))[:, :-1]
        return (first + tail).flatten(1)

    def features(self, spectrum: Tensor) -> Tensor:
        real, imaginary = spectrum.chunk(2, dim=-1)
        power = torch.log(real.square() + imaginary.square() + geometry.LOG_POWER_FLOOR)
        level = follow_level(power[..., slice(*geometry.LEVEL_BAND)].mean(dim=-1))
        return (power - geometry.REFERENCE_LOG_POWER - level[..., None]) * geometry.FEATURE_SCALE

    def forward(self, pcm: Tensor, keep_music: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """pcm [batch, samples], keep_music [batch] -> (audio [batch, samples] delayed by one hop,
        mask [frames, batch, bins], head logits [frames, batch, 4])."""
        with torch.autocast("cpu", enabled=False):
            spectrum = self.spectrum(pcm)
            features = self.features(spectrum).clamp(-FEATURE_RANGE, FEATURE_RANGE)
        x = self.input(features).float() + keep_music[None, :, None] * self.keep_music
        for block in self.blocks:
            x = block(x)
        out = self.output(normalised(x)).float()
        mask = torch.sigmoid(out[..., : self.geometry.bins])
        with torch.autocast("cpu", enabled=False):
            audio = self.resynthesise(spectrum * torch.cat([mask, mask], dim=-1))
        return audio, mask, out[..., self.geometry.bins : self.geometry.bins + len(HEAD)]

    def weights(self) -> dict[str, np.ndarray]:
        """For `graph.build`: float32, matrices as [inputs, outputs]."""
        arrays = {k: v.detach().float().numpy() for k, v in self.state_dict().items()}
        return {k: v.T if k.endswith(".weight") else v for k, v in arrays.items()}


@torch.no_grad()
def follow_level(loudness: Tensor) -> Tensor:
    """Mean log power [frames, batch] -> level relative to the reference, quick to rise and slow to fall."""
    wanted = (loudness - geometry.REFERENCE_LOG_POWER).numpy()
    level, levels = np.zeros_like(wanted[0]), np.empty_like(wanted)
    for t, value in enumerate(wanted):
        difference = value - level
        level = level + np.maximum(difference * geometry.LEVEL_ATTACK, difference * geometry.LEVEL_RELEASE)
        levels[t] = level
    return torch.from_numpy(levels)


def widen(narrow: dict[str, Tensor], wide: Denoiser) -> None:
    """Starts a 16 kHz network from an 8 kHz one: bins lie equally far apart, so the lower half is taken over."""
    own, low = wide.state_dict(), narrow["input.bias"].shape[0]
    bins = narrow["input.weight"].shape[1]
    for name, value in narrow.items():
        if name == "input.weight":
            own[name][:, :bins] = value
            own[name][:, bins:] *= 0.3
        elif name.startswith("output"):
            own[name][:bins] = value[:bins]
            own[name][wide.geometry.bins :] = value[bins:]
            own[name][bins : wide.geometry.bins] = value[bins - 16 : bins].mean(dim=0)
        else:
            own[name] = value
    assert low == wide.geometry.width
    wide.load_state_dict(own)

"""The denoiser in torch, for training: a whole stretch of audio at once. `graph.py` builds the same, frame by frame.

Log power spectrum, minus a slowly followed level -> linear -> residual blocks of gated linear recurrences -> a gain
in 0..1 for each bin, and four independent probabilities. The gates depend on a block's input only, not on its memory
(minGRU: Feng et al., "Were RNNs all we needed?", 2024), so all products run over whole stretches, and the rest is a
cheap scan. Inputs of the products are clamped to fixed ranges: that is what lets the graph run them in int8.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.networks import geometry, graph
from models.networks.geometry import CONTEXT, HEAD, LANES, Geometry

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


class Release(torch.autograd.Function):
    """A gain that opens at once and closes by a share of the way a frame: o[t] = max(m[t], o[t-1] + share *
    (m[t] - o[t-1])), from o[-1] = 0. m: float32 [frames, batch, bins]."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, mask: Tensor, share: float) -> Tensor:
        out = mask.clone()
        for t in range(1, len(out)):
            torch.maximum(out[t], torch.lerp(out[t - 1], mask[t], share), out=out[t])
        ctx.save_for_backward(mask, out)
        ctx.share = share
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        mask, out = ctx.saved_tensors
        closing = (out > mask).float()
        total, passed = grad.clone(memory_format=torch.contiguous_format), closing * (1 - ctx.share)
        for t in range(len(total) - 2, -1, -1):
            total[t].addcmul_(passed[t + 1], total[t + 1])
        return total * (1 - passed), None


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
        keep, new, opening = gates(x, self.inner.weight, self.inner.bias)
        memory = Scan.apply(keep, new)
        return merged(x, opening, memory, self.outer.weight, self.outer.bias)


def gates(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(share of the memory that stays, what is added to it, opening of the way out)."""
    inner = nn.functional.linear(normalised(x), weight, bias).float()
    update, candidate, gate = inner.chunk(3, dim=-1)
    step = torch.sigmoid(update)
    return 1 - step, step * candidate, nn.functional.silu(gate)


def merged(x: Tensor, opening: Tensor, memory: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    opened = (opening * memory).clamp(-MEMORY_RANGE, MEMORY_RANGE)
    return x + nn.functional.linear(opened, weight, bias).float()


def normalised(x: Tensor) -> Tensor:
    x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)
    return x.clamp(-NORM_RANGE, NORM_RANGE)


class Denoiser(nn.Module):
    """See the module's text. Audio is float32 [batch, samples], samples a multiple of the hop."""

    def __init__(self, g: Geometry) -> None:
        super().__init__()
        self.geometry, self.rate, self.hop, self.delay = g, g.rate, g.hop, g.hop
        self.input = nn.Linear(CONTEXT * g.bins, g.width)
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

    def forward(self, pcm: Tensor, keep_music: Tensor) -> tuple[Tensor, Tensor]:
        """pcm [batch, samples], keep_music [batch] -> (audio [batch, samples] delayed by one hop, head logits
        [frames, batch, 4])."""
        with torch.autocast(pcm.device.type, enabled=False):
            spectrum = self.spectrum(pcm)
            features = self.features(spectrum).clamp(-FEATURE_RANGE, FEATURE_RANGE)
            before = nn.functional.pad(features, (0, 0, 0, 0, 1, 0))[:-1]
            features = torch.cat([features, before], dim=-1)
        x = self.input(features).float() + keep_music[None, :, None] * self.keep_music
        for block in self.blocks:
            x = block(x)
        out = self.output(normalised(x)).float()
        mask = Release.apply(torch.sigmoid(out[..., : self.geometry.bins]), geometry.RELEASE)
        with torch.autocast(pcm.device.type, enabled=False):
            audio = self.resynthesise(spectrum * torch.cat([mask, mask], dim=-1))
        return audio, out[..., self.geometry.bins : self.geometry.bins + len(HEAD)]

    def weights(self) -> dict[str, np.ndarray]:
        """For `graph.build`: float32, matrices as [inputs, outputs]."""
        arrays = {k: v.detach().float().cpu().numpy() for k, v in self.state_dict().items()}
        return {k: v.T if k.endswith(".weight") else v for k, v in arrays.items()}

    def graph(self, int8: bool = True) -> onnx.ModelProto:
        return graph.build(self.geometry, self.weights(), int8)


@torch.no_grad()
def follow_level(loudness: Tensor) -> Tensor:
    """Mean log power [frames, batch] -> level relative to the reference, quick to rise and slow to fall."""
    wanted = (loudness - geometry.REFERENCE_LOG_POWER).cpu().numpy()
    level, levels = np.zeros_like(wanted[0]), np.empty_like(wanted)
    for t, value in enumerate(wanted):
        difference = value - level
        level = level + np.maximum(difference * geometry.LEVEL_ATTACK, difference * geometry.LEVEL_RELEASE)
        levels[t] = level
    return torch.from_numpy(levels).to(loudness.device)

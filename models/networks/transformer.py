"""A streaming transformer: the family's features and mask, with attention over the last 0.64 s in place of recurrence.

Each layer is attention and a gated feed-forward part, both behind an RMS norm. Heads share one key and one value
(Shazeer, "Fast transformer decoding: one write-head is all you need", 2019), which cuts what a call must remember to a
quarter: 64 frames of 64 numbers a layer, 12,288 floats (48 KiB) in all beside the family's buffers. Where a frame lies
in time is told by a learned bias for each head and age. Before a call began, keys and values are zero, for all
frames of the look-back, in training as in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.networks import graph
from models.networks.geometry import Geometry
from models.networks.graph import MEMORY_RANGE, NORM_RANGE, Builder
from models.networks.network import Denoiser, normalised

LAYERS, WIDTH, HEADS, HEAD_WIDTH, HIDDEN = 3, 128, 4, 32, 256
LOOK_BACK = 64
"""Frames attended to, the newest included."""
CHUNK = 16
"""Frames that training attends from at once, to LOOK_BACK + CHUNK - 1 frames."""


@dataclass(frozen=True, slots=True)
class AttentionGeometry(Geometry):
    """The family's, but a layer's memory is keys and values of the look-back: each as (oldest, all others)."""

    @property
    def state_parts(self) -> tuple[int, ...]:
        family = Geometry.state_parts.fget(self)[: -self.blocks]
        cache = (HEAD_WIDTH, (LOOK_BACK - 1) * HEAD_WIDTH)
        return (*family, *(cache * 2 * self.blocks))


class Layer(nn.Module):
    """Attention, then a feed-forward part, each added to its input. x: float32 [frames, batch, WIDTH]."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.ask = nn.Linear(WIDTH, HEADS * HEAD_WIDTH + 2 * HEAD_WIDTH)
        self.answer = nn.Linear(HEADS * HEAD_WIDTH, WIDTH)
        self.inner = nn.Linear(WIDTH, 2 * HIDDEN)
        self.outer = nn.Linear(HIDDEN, WIDTH)
        self.age_bias = nn.Parameter(torch.linspace(-2, 0, LOOK_BACK).repeat(HEADS, 1))
        with torch.no_grad():
            for last in (self.answer, self.outer):
                last.weight *= 1 / (2 * layers) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.ask(normalised(x)).split((HEADS * HEAD_WIDTH, HEAD_WIDTH, HEAD_WIDTH), dim=-1)
        seen = attend(query, key, value, self.age_bias).float().clamp(-MEMORY_RANGE, MEMORY_RANGE)
        x = x + self.answer(seen).float()
        gate, up = self.inner(normalised(x)).float().chunk(2, dim=-1)
        opened = (nn.functional.silu(gate) * up).clamp(-MEMORY_RANGE, MEMORY_RANGE)
        return x + self.outer(opened).float()


def attend(query: Tensor, key: Tensor, value: Tensor, age_bias: Tensor) -> Tensor:
    """Each frame's mix of the values of its look-back. query [frames, batch, HEADS * HEAD_WIDTH], key and value
    [frames, batch, HEAD_WIDTH], age_bias [HEADS, LOOK_BACK], oldest first. Returns the query's shape."""
    frames, batch = key.shape[:2]
    spare = -frames % CHUNK
    query = nn.functional.pad(query, (0, 0, 0, 0, 0, spare)).unflatten(-1, (HEADS, HEAD_WIDTH))
    query = query.unflatten(0, (-1, CHUNK)).permute(2, 0, 3, 1, 4).flatten(2, 3)  # [batch, chunks, heads * CHUNK, 32]
    key, value = (windows(part, spare) for part in (key, value))
    bias = band(age_bias).flatten(0, 1)
    shares = torch.softmax((query @ key).float() * HEAD_WIDTH**-0.5 + bias, dim=-1)
    mixed = shares.to(value.dtype) @ value.transpose(-1, -2)
    mixed = mixed.unflatten(2, (HEADS, CHUNK)).permute(1, 3, 0, 2, 4)
    return mixed.reshape(frames + spare, batch, HEADS * HEAD_WIDTH)[:frames]


def windows(part: Tensor, spare: int) -> Tensor:
    """[frames, batch, width] -> [batch, chunks, width, LOOK_BACK + CHUNK - 1]: what each chunk can see."""
    padded = nn.functional.pad(part, (0, 0, 0, 0, LOOK_BACK - 1, spare))
    return padded.unfold(0, LOOK_BACK + CHUNK - 1, CHUNK).permute(1, 0, 2, 3)


def band(age_bias: Tensor) -> Tensor:
    """[HEADS, LOOK_BACK] -> [HEADS, CHUNK, LOOK_BACK + CHUNK - 1]: row i sees columns i to i + LOOK_BACK - 1."""
    wide = nn.functional.pad(age_bias, (0, CHUNK), value=-torch.inf)  # one column too many makes each row start later
    skewed = wide.repeat(1, CHUNK)[:, : CHUNK * (LOOK_BACK + CHUNK - 1)]
    return skewed.unflatten(1, (CHUNK, LOOK_BACK + CHUNK - 1))


class Transformer(Denoiser):
    """`Denoiser` with layers of attention as its blocks."""

    def __init__(self, rate: int) -> None:
        super().__init__(AttentionGeometry(rate, LAYERS, WIDTH))
        self.blocks = nn.ModuleList(Layer(LAYERS) for _ in range(LAYERS))

    def graph(self, int8: bool = True) -> onnx.ModelProto:
        return graph.build(self.geometry, self.weights(), int8, add_layer)


def add_layer(b: Builder, g: Geometry, x: str, memory: list[str], name: str) -> tuple[str, list[str]]:
    """`Layer` for one frame of each call."""
    _, keys, _, values = memory
    shares = HEADS * HEAD_WIDTH, HEAD_WIDTH, HEAD_WIDTH
    query, key, value = b.linear(b.normalised(x), NORM_RANGE, *b.parts(f"{name}.ask", shares))
    keys, values = b.op("Concat", keys, key, axis=1), b.op("Concat", values, value, axis=1)
    seen = add_attention(b, query, keys, values, f"{name}.age_bias")
    x = b.op("Add", x, b.linear(seen, MEMORY_RANGE, f"{name}.answer")[0])
    gate, up = b.linear(b.normalised(x), NORM_RANGE, *b.parts(f"{name}.inner", (HIDDEN, HIDDEN)))
    opened = b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", gate)), up)
    return b.op("Add", x, b.linear(opened, MEMORY_RANGE, f"{name}.outer")[0]), [keys, values]


def add_attention(b: Builder, query: str, keys: str, values: str, bias: str) -> str:
    """[n, HEADS * HEAD_WIDTH]; every product is one call's own, so calls cannot touch each other."""

    def shaped(value: str, *shape: int) -> str:
        return b.op("Reshape", value, b.constant(f"shape{'_'.join(map(str, shape))}", np.array(shape, np.int64)))

    cache = -1, LOOK_BACK, HEAD_WIDTH
    product = (shaped(query, -1, HEADS, HEAD_WIDTH), shaped(keys, *cache))
    likeness = b.op("FusedMatMul", *product, domain="com.microsoft", transB=1, alpha=HEAD_WIDTH**-0.5)
    weighed = b.op("Softmax", b.op("Add", likeness, b.constant(bias, b.weights[bias].astype(np.float32))), axis=-1)
    return shaped(b.op("MatMul", weighed, shaped(values, *cache)), -1, HEADS * HEAD_WIDTH)

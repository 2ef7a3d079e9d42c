"""Every network that can be trained and exported, by name: the one place that knows them all.

A network is a torch module with `rate`, `hop` and `delay` (samples), whose `forward(pcm [batch, samples], keep_music
[batch])` returns (audio delayed by `delay`, head logits [frames, batch, 4]), and which can write itself as a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import onnx
from torch import Tensor

from models.networks.convtasnet import ConvTasNet
from models.networks.edge import Edge
from models.networks.geometry import Geometry
from models.networks.network import Denoiser
from models.networks.transformer import Transformer


class Network(Protocol):
    """What training and export need of a network, beside being a torch module."""

    rate: int
    hop: int
    delay: int

    def __call__(self, pcm: Tensor, keep_music: Tensor) -> tuple[Tensor, Tensor]: ...

    def graph(self, int8: bool) -> onnx.ModelProto:
        """Frame by frame, PCM in and PCM out, inputs and outputs as `models/README.md` says."""


def denoiser(size: str) -> Callable[[int], Network]:
    return lambda rate: Denoiser(Geometry.of(size, rate))


DESIGNS: dict[str, Callable[[int], Network]] = {
    "standard": denoiser("standard"),
    "light": denoiser("light"),
    "edge": Edge,
    "convtasnet": ConvTasNet,
    "transformer": Transformer,
}
"""name -> network of a rate in Hz, untrained."""

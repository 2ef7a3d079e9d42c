"""Starts a network from the weights of another of its family, so that hours of training are not heard twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import weights
from models.networks.geometry import LANES
from models.networks.network import Denoiser

NEIGHBOURS = 16
"""Bins below the old network's edge whose mean the bins above it start from."""


@torch.no_grad()
def grow(small: dict[str, Tensor], net: Denoiser) -> None:
    """Takes over the weights of a network with fewer bins, fewer blocks, or narrower ones.

    Bins lie equally far apart at every rate, so old bins keep their places. New units read everything, but what was
    there does not read them yet: the network begins as nearly what the small one was.
    """
    own, g = net.state_dict(), net.geometry
    units, bins = torch.arange(small["input.bias"].shape[0]), small["output.bias"].shape[0] - LANES
    frames = small["input.weight"].shape[1] // bins
    features = torch.cat([torch.arange(bins) + i * g.bins for i in range(frames)])
    outputs = torch.cat([torch.arange(bins), torch.arange(LANES) + g.bins])
    gates = torch.cat([units + i * g.width for i in range(3)])
    own["keep_music"][:, units] = small["keep_music"]
    place(own, small, "input", units, features)
    place(own, small, "output", outputs, units)
    for value in (own["output.weight"], own["output.bias"]):
        value[bins : g.bins] = value[bins - NEIGHBOURS : bins].mean(dim=0)
    for name in sorted({key.rsplit(".", 2)[0] for key in small if key.startswith("blocks.") and key in own}):
        if len(units) == g.width:  # blocks of any kind
            own.update({key: value for key, value in small.items() if key.startswith(f"{name}.")})
        else:
            place(own, small, f"{name}.inner", gates, units)
            place(own, small, f"{name}.outer", units, units)
    net.load_state_dict(own)


def place(own: dict[str, Tensor], small: dict[str, Tensor], layer: str, rows: Tensor, columns: Tensor) -> None:
    """Copies a layer's weights to these rows and columns; its other inputs do not reach these rows yet."""
    own[f"{layer}.weight"][rows] = 0
    own[f"{layer}.weight"][rows[:, None], columns] = small[f"{layer}.weight"]
    own[f"{layer}.bias"][rows] = small[f"{layer}.bias"]


def of_graph(path: Path) -> dict[str, Tensor]:
    """The weights of a graph of `standard` or `light` under their names in torch; int8 codes times their steps, which
    is as near as int8 kept them. Raises ValueError when the graph is not of this design."""
    layers = weights.whole(weights.in_float(weights.read(path)))
    kept = [name for name in layers if name == "keep_music" or name.endswith((".weight", ".bias"))]
    turned = [layers[name].T if name.endswith(".weight") else layers[name] for name in kept]
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in zip(kept, turned, strict=True)}

"""Starts a network from the weights of a smaller one of its family, so that hours of training are not heard twice."""

from __future__ import annotations

import torch
from torch import Tensor

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

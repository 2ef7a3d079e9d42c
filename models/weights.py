"""What a shipped graph is made of, as plain arrays: for runtimes that do not run ONNX.

`python -m models.weights models/standard_8k.onnx weights.npz` writes them to a file that NumPy alone can read, so that
a server which runs `models/device_network.py` needs neither ONNX nor the rest of this package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from models import geometry
from models.geometry import Geometry
from models.graph import FEATURE_RANGE, MEMORY_RANGE, NORM_RANGE, Weights, build

TABLES = ("older_window", "newer_window", "cosines", "sines", "level_band", "synthesis", "keep_music")
PARTS = (".codes", ".scales", ".weight", ".bias")
SCALARS = {
    "log_power_floor": geometry.LOG_POWER_FLOOR,
    "reference_log_power": geometry.REFERENCE_LOG_POWER,
    "level_attack": geometry.LEVEL_ATTACK,
    "level_release": geometry.LEVEL_RELEASE,
    "feature_scale": geometry.FEATURE_SCALE,
    "gain_release": geometry.RELEASE,
    "feature_range": FEATURE_RANGE,
    "norm_range": NORM_RANGE,
    "memory_range": MEMORY_RANGE,
    "head": float(len(geometry.HEAD)),
}
"""What a graph keeps in constants without a telling name."""


def read(path: Path) -> Weights:
    """All matrices, biases and tables of one of our graphs, and `SCALARS`.

    Products are `NAME.codes` (int8 [inputs, outputs]) with `NAME.scales` (float32 [outputs]), or `NAME.weight`
    (float32) where the graph is float32; each with `NAME.bias`. Raises ValueError when the graph is not of this design.
    """
    constants = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    missing = [name for name in (*TABLES, "blocks.0.outer.bias") if name not in constants]
    if missing:
        raise ValueError(f"{path}: no graph of ours, {missing[0]} is missing; take one that models.export wrote")
    kept = [name for name in constants if name in TABLES or name.endswith(PARTS)]
    arrays = {name: np.array(numpy_helper.to_array(constants[name])) for name in kept}
    return arrays | {name: np.array(value, np.float32) for name, value in SCALARS.items()}


def shape(weights: Weights) -> Geometry:
    """The network's sizes."""
    bins, width = len(weights["cosines"]), weights["keep_music"].shape[1]
    blocks = sum(name.startswith("blocks.") and name.endswith(".outer.bias") for name in weights)
    return Geometry(bins * 2000 // 32, blocks, width)


def in_float(weights: Weights) -> Weights:
    """The same network with float32 matrices: int8 codes times their steps, and no rounding of what goes in."""
    codes = [name.removesuffix(".codes") for name in weights if name.endswith(".codes")]
    matrices = {f"{name}.weight": weights[f"{name}.codes"] * weights[f"{name}.scales"] for name in codes}
    kept = {name: value for name, value in weights.items() if not name.endswith((".codes", ".scales"))}
    return kept | matrices


def float_graph(weights: Weights) -> onnx.ModelProto:
    """`in_float` as a graph, for runtimes without the int8 product (ONNX Runtime on CUDA)."""
    layers, g = in_float(weights), shape(weights)
    for stem, count in ({f"blocks.{i}.inner": 3 for i in range(g.blocks)} | {"output": 2}).items():
        for part in ("weight", "bias"):
            layers[f"{stem}.{part}"] = np.concatenate([layers[f"{stem}.{i}.{part}"] for i in range(count)], axis=-1)
    return build(g, layers, int8=False)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.weights", description=__doc__.split("\n")[0])
    parser.add_argument("graph", type=Path, help="one of our .onnx files")
    parser.add_argument("arrays", type=Path, help="the .npz file to write")
    options = parser.parse_args(argv)
    np.savez(options.arrays, **read(options.graph))


if __name__ == "__main__":
    main()

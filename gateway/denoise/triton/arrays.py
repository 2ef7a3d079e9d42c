"""What a shipped graph is made of, as plain arrays: for runtimes that do not run ONNX, such as `device_network`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.errors import CallerError

Arrays = dict[str, npt.NDArray[Any]]

TABLES = ("older_window", "newer_window", "cosines", "sines", "level_band", "synthesis", "keep_music", "gain_release")
PARTS = (".codes", ".scales", ".weight", ".bias")
SCALARS = {
    "log_power_floor": 1e-9,
    "reference_log_power": -14.0,
    "level_attack": 0.1,
    "level_release": 0.003,
    "feature_scale": 0.25,
    "feature_range": 3.0,
    "norm_range": 5.0,
    "memory_range": 4.0,
    "head": 4.0,
}
"""What a graph keeps in constants without a telling name. Set by `models.networks.geometry` and `graph` beside it; a
test holds that they agree."""


def read(path: Path) -> Arrays:
    """All matrices, biases and tables of one of our graphs, and `SCALARS`.

    Products are `NAME.codes` (int8 [inputs, outputs]) with `NAME.scales` (float32 [outputs]), or `NAME.weight`
    (float32) where the graph is float32; each with `NAME.bias`. Raises ValueError when the graph is not of this design,
    CallerError without the package onnx.
    """
    package = onnx()
    constants = {tensor.name: tensor for tensor in package.load(str(path)).graph.initializer}
    missing = [name for name in (*TABLES, "blocks.0.outer.bias") if name not in constants]
    if missing:
        raise ValueError(f"{path}: no graph of ours, {missing[0]} is missing; take one that models.export wrote")
    kept = [name for name in constants if name in TABLES or name.endswith(PARTS)]
    arrays = {name: np.array(package.numpy_helper.to_array(constants[name])) for name in kept}
    arrays["gain_release"] = arrays["gain_release"].reshape(())  # graphs hold it in one column
    return arrays | {name: np.array(value, np.float32) for name, value in SCALARS.items()}


def in_float(arrays: Arrays) -> Arrays:
    """The same network with float32 matrices: int8 codes times their steps, and no rounding of what goes in."""
    codes = [name.removesuffix(".codes") for name in arrays if name.endswith(".codes")]
    matrices = {f"{name}.weight": arrays[f"{name}.codes"] * arrays[f"{name}.scales"] for name in codes}
    kept = {name: value for name, value in arrays.items() if not name.endswith((".codes", ".scales"))}
    return kept | matrices


def onnx() -> Any:
    """The package. Raises CallerError."""
    try:
        import onnx as package
    except ImportError:
        raise CallerError("export-triton needs the package onnx: pip install -e '.[triton]' in the checkout") from None
    return package

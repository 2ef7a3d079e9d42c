"""What a shipped graph is made of, as plain arrays: for runtimes that do not run ONNX.

`python -m models.weights models/standard_8k.onnx weights.npz` writes them to a file that NumPy alone can read, so that
a server which runs `gateway/denoise/triton/device_network.py` needs neither ONNX nor the rest of the gateway.
`denoise-gateway export-triton --runtime torch` does the same for Triton.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from gateway.denoise.triton.arrays import in_float, read
from models.networks.graph import Weights

__all__ = ["Weights", "in_float", "read", "whole"]


def whole(layers: Weights) -> Weights:
    """Layers that a graph keeps cut by their outputs (NAME.0, NAME.1) joined again, as NAME; the rest as it is."""
    parts: dict[str, list[np.ndarray]] = {}
    for name in sorted(layers):
        parts.setdefault(re.sub(r"\.\d+(\.(weight|bias))$", r"\1", name), []).append(layers[name])
    return {name: np.concatenate(each, axis=-1) if len(each) > 1 else each[0] for name, each in parts.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.weights", description=__doc__.split("\n")[0])
    parser.add_argument("graph", type=Path, help="one of our .onnx files")
    parser.add_argument("arrays", type=Path, help="the .npz file to write")
    options = parser.parse_args(argv)
    np.savez(options.arrays, **read(options.graph))


if __name__ == "__main__":
    main()

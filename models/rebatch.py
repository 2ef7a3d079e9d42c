"""Opens the batch of a brought model's graphs, so that the gateway runs all calls at once: `python -m models.rebatch`.

Many streaming graphs are exported for a batch of 1 although nothing in them depends on it but declared shapes and the
constants of `Reshape`. Those are opened here, and the result is believed only when three different rows come out as
they do one by one. Graphs that hold the batch elsewhere (GTCRN does) are refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import yaml
from onnx import numpy_helper

from gateway.denoise import card as cards
from gateway.errors import ConfigError

ROWS = 3
TOLERANCE = 1e-4
"""Products of one row and of three add up in another order."""


def opened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose inputs and outputs have an open first dimension. Raises ConfigError when an input's is not 1."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {constant.name for constant in copy.graph.initializer}  # old graphs list them as inputs too
    for value in (*copy.graph.input, *copy.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if value in copy.graph.input and value.name not in weights and first.dim_value != 1:
            raise ConfigError(f"{value.name} begins with {first.dim_param or first.dim_value}, not with a batch of 1")
        if value.name not in weights:
            first.dim_param = "n"
    del copy.graph.value_info[:]
    reshapes = {node.input[1] for node in copy.graph.node if node.op_type == "Reshape"}
    for constant in copy.graph.initializer:
        sizes = numpy_helper.to_array(constant)
        if constant.name in reshapes and sizes[0] == 1 and -1 not in sizes:
            constant.CopyFrom(numpy_helper.from_array(np.concatenate([[-1], sizes[1:]]), constant.name))
    return copy


def check(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """The largest difference between rows together and one by one; ConfigError when it is too large, or it fails."""
    one, many = (onnxruntime.InferenceSession(model.SerializeToString()) for model in (before, after))
    rng = np.random.default_rng(0)
    shapes = {value.name: value.shape[1:] for value in one.get_inputs()}
    rows = {name: rng.normal(0, 0.3, (ROWS, *shape)).astype(np.float32) for name, shape in shapes.items()}
    try:
        together = many.run(None, rows)
    except Exception as error:  # ONNX Runtime raises its own classes, which share no base
        raise ConfigError(f"more than one row does not run: {error}") from None
    alone = [one.run(None, {name: value[i : i + 1] for name, value in rows.items()}) for i in range(ROWS)]
    apart = max(
        float(np.abs(value - np.concatenate(each)).max())
        for value, each in zip(together, zip(*alone, strict=True), strict=True)
    )
    if not apart < TOLERANCE:
        raise ConfigError(f"rows differ by {apart:.1g} from what they are alone")
    return apart


def rebatch(path: Path, folder: Path) -> Path:
    """Write the graphs of a card, opened, and a card for them into a folder; returns that card. Raises ConfigError."""
    card, steps = cards.read(path), []
    folder.mkdir(parents=True, exist_ok=True)
    for index, step in enumerate(card.steps):
        key = f"steps[{index}]"
        source = cards.graph_file(card, step, path.parent, key)
        model = onnx.load(str(source))
        try:
            wide = opened(model)
            apart = check(model, wide)
        except ConfigError as error:
            raise ConfigError(f"{path.name}: {key}: {source.name} cannot be opened: {error}") from None
        target = folder / source.name
        onnx.save(wide, str(target))
        print(f"{target}: rows together differ by at most {apart:.1g} from rows alone")
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        steps.append(dataclasses.replace(step, graph=target.name, sha256=digest))
    written = folder / path.name
    written.write_text(
        yaml.safe_dump(plain(dataclasses.replace(card, steps=tuple(steps), wheel=None)), sort_keys=False)
    )
    return written


def plain(value: Any) -> Any:
    """A card as YAML has it, defaults left out."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if not dataclasses.is_dataclass(value):
        return value
    given = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name: plain(item) for name, item in given.items() if item not in (None, {}, 0.0)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.rebatch", description=__doc__.splitlines()[0])
    parser.add_argument("card", type=Path, help="the card of a model whose graphs have a fixed batch of 1")
    parser.add_argument("folder", type=Path, help="takes the opened graphs and a card for them")
    options = parser.parse_args()
    try:
        print(f"{rebatch(options.card, options.folder)}: set engine.model to it")
    except ConfigError as error:
        print(f"models.rebatch: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

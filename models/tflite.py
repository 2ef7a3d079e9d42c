"""Writes the edge network as TFLite, for one stream: `python -m models.tflite [--rate 8000]`, after `models.export`.

The file is put together operator by operator, like the ONNX graph and for the same reason: its sizes and number types
are exactly those wanted. Weights are int8 with a scale for each output, inputs of products are int16 with fixed scales
(the "16x8" kernels of TFLite, TFLite Micro and CMSIS-NN), and everything else is float32, memories too. Kernels want
one scale for a whole product, so a product's output counts in its row's own steps, and a float multiplication that
follows brings in the rows' scales. Its int16 output cannot overflow: an input of known length meets a row of known
length (Cauchy and Schwarz).

Inputs and outputs are named in the signature: `log_power [1, bins]`, `keep_music [1, 1]`, and memories `level [1, 1]`,
`before` and `gains` [1, bins], `memory0`, `memory1`... [1, width]; out come `prob [1, 4]` and each memory with `new_`
before its name, of which `new_gains` is the mask. `models/networks/edge.py` says what a device does around it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from models import export
from models.files import replacing
from models.networks import geometry
from models.networks.geometry import HEAD, LEVEL_BAND, Geometry
from models.networks.graph import FEATURE_RANGE, MEMORY_RANGE, NORM_RANGE, Weights

Kind, Types = schema.BuiltinOperator, schema.TensorType
VERSIONS = {Kind.FULLY_CONNECTED: 7, Kind.QUANTIZE: 2, Kind.DEQUANTIZE: 3}
"""Oldest version of an operator that knows int16; of the others, the first."""
NUMBERS = {np.dtype(np.float32): Types.FLOAT32, np.dtype(np.int32): Types.INT32, np.dtype(np.int8): Types.INT8}
LARGEST = 32767


class AlignedBuilder(flatbuffers.Builder):
    """Starts bytes at multiples of 16, as the schema asks of buffers and Python's generated code does not."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803  # theirs
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


class FlatGraph:
    """Collects tensors and operators; tensors are known by their number."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]
        self.operators: list[schema.OperatorT] = []
        self.codes: list[int] = []
        self.stored: dict[tuple[object, ...], int] = {}

    def tensor(self, shape: tuple[int, ...], number: int = Types.FLOAT32, scale: float = 0, name: str = "") -> int:
        made = schema.TensorT()
        made.shape, made.type, made.buffer, made.name = list(shape), number, 0, name or None
        if scale:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [0]
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, value: np.ndarray, scale: float = 0) -> int:
        key = value.tobytes(), value.dtype, value.shape, scale
        if key not in self.stored:
            self.stored[key] = index = self.tensor(value.shape, NUMBERS[value.dtype], scale)
            self.buffers.append(schema.BufferT())
            self.buffers[-1].data = np.frombuffer(key[0], np.uint8)
            self.tensors[index].buffer = len(self.buffers) - 1
        return self.stored[key]

    def vector(self, *values: float) -> int:
        return self.constant(np.array([values], np.float32))

    def op(self, kind: int, inputs: tuple[int, ...], out: int, options: Any = None, tag: int = 0, *more: int) -> int:
        """Appends an operator that writes the tensor `out` (and `more`), and returns that."""
        if kind not in self.codes:
            self.codes.append(kind)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self.codes.index(kind), list(inputs), [out, *more]
        made.builtinOptions, made.builtinOptionsType = options, tag
        self.operators.append(made)
        return out

    def wide(self, kind: int, options: type, tag: int, *inputs: int) -> int:
        """An element-wise operator, whose output is as wide as its widest input."""
        width = max(self.tensors[i].shape[-1] for i in inputs)
        return self.op(kind, inputs, self.tensor((1, width)), options(), tag)

    def add(self, a: int, b: int) -> int:
        return self.wide(Kind.ADD, schema.AddOptionsT, schema.BuiltinOptions.AddOptions, a, b)

    def sub(self, a: int, b: int) -> int:
        return self.wide(Kind.SUB, schema.SubOptionsT, schema.BuiltinOptions.SubOptions, a, b)

    def mul(self, a: int, b: int) -> int:
        return self.wide(Kind.MUL, schema.MulOptionsT, schema.BuiltinOptions.MulOptions, a, b)

    def larger(self, a: int, b: int) -> int:
        tag = schema.BuiltinOptions.MaximumMinimumOptions
        return self.wide(Kind.MAXIMUM, schema.MaximumMinimumOptionsT, tag, a, b)

    def same(self, kind: int, x: int) -> int:
        return self.op(kind, (x,), self.tensor(tuple(self.tensors[x].shape)))

    def mean(self, x: int) -> int:
        options = schema.ReducerOptionsT()
        options.keepDims = True
        inputs = x, self.constant(np.array([1], np.int32))
        return self.op(Kind.MEAN, inputs, self.tensor((1, 1)), options, schema.BuiltinOptions.ReducerOptions)

    def split(self, x: int, parts: int) -> list[int]:
        options = schema.SplitOptionsT()
        options.numSplits = parts
        shape = (1, self.tensors[x].shape[-1] // parts)
        outs = [self.tensor(shape) for _ in range(parts)]
        inputs = self.constant(np.array(1, np.int32)), x
        self.op(Kind.SPLIT, inputs, outs[0], options, schema.BuiltinOptions.SplitOptions, *outs[1:])
        return outs

    def columns(self, x: int, start: int, stop: int) -> int:
        where = (np.array(pair, np.int32) for pair in ((0, start), (1, stop - start)))
        inputs = (x, *(self.constant(pair) for pair in where))
        return self.op(Kind.SLICE, inputs, self.tensor((1, stop - start)), schema.SliceOptionsT(),
                       schema.BuiltinOptions.SliceOptions)  # fmt: skip

    def concat(self, a: int, b: int) -> int:
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        width = sum(self.tensors[i].shape[-1] for i in (a, b))
        tag = schema.BuiltinOptions.ConcatenationOptions
        return self.op(Kind.CONCATENATION, (a, b), self.tensor((1, width)), options, tag)

    def codes_of(self, x: int, reach: float) -> int:
        """The value clamped to +-reach, in int16."""
        codes = self.tensor(tuple(self.tensors[x].shape), Types.INT16, reach / LARGEST)
        return self.op(Kind.QUANTIZE, (x,), codes, schema.QuantizeOptionsT(), schema.BuiltinOptions.QuantizeOptions)

    def linear(self, codes: int, length: float, name: str) -> int:
        """A product with a layer, float32. length: the longest that the input can be, as a vector."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        scales = np.abs(weight).max(axis=0) / 127 + 1e-12
        rows = np.rint(weight / scales).astype(np.int8).T
        most = float(np.linalg.norm(rows.astype(np.float64), axis=1).max()) * length
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        out = self.tensor((1, len(rows)), Types.INT16, most / LARGEST)
        inputs = codes, self.constant(np.ascontiguousarray(rows), 1.0), -1
        self.op(Kind.FULLY_CONNECTED, inputs, out, options, schema.BuiltinOptions.FullyConnectedOptions)
        counts = self.op(Kind.DEQUANTIZE, (out,), self.tensor((1, len(rows))), schema.DequantizeOptionsT(),
                         schema.BuiltinOptions.DequantizeOptions)  # fmt: skip
        return self.add(self.mul(counts, self.vector(*scales)), self.vector(*bias))

    def normalised(self, x: int) -> tuple[int, float]:
        """(x divided by its RMS, in int16; its length)."""
        power = self.add(self.mean(self.mul(x, x)), self.vector(1e-6))
        even = self.mul(x, self.same(Kind.RSQRT, power))
        return self.codes_of(even, NORM_RANGE), self.tensors[x].shape[-1] ** 0.5

    def packed(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.operators, "denoiser"
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = (named(tensors) for tensors in (inputs, outputs))
        model = schema.ModelT()
        model.version, model.description, model.subgraphs, model.buffers = 3, "models", [graph], self.buffers
        model.operatorCodes, model.signatureDefs = [operator_code(kind) for kind in self.codes], [signature]
        builder = AlignedBuilder(1 << 18)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def named(tensors: dict[str, int]) -> list[schema.TensorMapT]:
    maps = []
    for name, index in tensors.items():
        maps.append(schema.TensorMapT())
        maps[-1].name, maps[-1].tensorIndex = name, index
    return maps


def operator_code(kind: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), VERSIONS.get(kind, 1)
    return code


def build(g: Geometry, weights: Weights) -> bytes:
    """The network of one rate. weights: as for `graph.build`."""
    heads = {f"output.{kind}": weights[f"output.{kind}"][..., : g.bins + len(HEAD)] for kind in ("weight", "bias")}
    b = FlatGraph({**weights, **heads})
    widths = {"log_power": g.bins, "keep_music": 1, "level": 1, "before": g.bins, "gains": g.bins}
    widths |= {f"memory{i}": g.width for i in range(g.blocks)}
    inputs = {name: b.tensor((1, width), name=name) for name, width in widths.items()}
    level = follow_level(b, inputs["log_power"], inputs["level"])
    reference = b.add(level, b.vector(geometry.REFERENCE_LOG_POWER))
    features = b.mul(b.sub(inputs["log_power"], reference), b.vector(geometry.FEATURE_SCALE))
    both = b.codes_of(b.concat(features, inputs["before"]), FEATURE_RANGE)
    x = b.linear(both, FEATURE_RANGE * (2 * g.bins) ** 0.5, "input")
    x = b.add(x, b.mul(inputs["keep_music"], b.constant(weights["keep_music"].astype(np.float32))))
    new = {"new_level": level, "new_before": features}
    for i in range(g.blocks):
        x, new[f"new_memory{i}"] = add_block(b, x, inputs[f"memory{i}"], f"blocks.{i}")
    mask, prob = add_heads(b, g, x)
    new["new_gains"] = add_release(b, mask, inputs["gains"])
    return b.packed(inputs, {"prob": prob, **new})


def follow_level(b: FlatGraph, log_power: int, level: int) -> int:
    loudness = b.add(b.mean(b.columns(log_power, *LEVEL_BAND)), b.vector(-geometry.REFERENCE_LOG_POWER))
    difference = b.sub(loudness, level)
    rise, fall = (b.mul(difference, b.vector(share)) for share in (geometry.LEVEL_ATTACK, geometry.LEVEL_RELEASE))
    return b.add(level, b.larger(rise, fall))


def add_block(b: FlatGraph, x: int, memory: int, name: str) -> tuple[int, int]:
    update, candidate, gate = b.split(b.linear(*b.normalised(x), f"{name}.inner"), 3)
    memory = b.add(memory, b.mul(b.same(Kind.LOGISTIC, update), b.sub(candidate, memory)))
    opened = b.mul(b.mul(gate, b.same(Kind.LOGISTIC, gate)), memory)
    length = MEMORY_RANGE * b.tensors[opened].shape[-1] ** 0.5
    return b.add(x, b.linear(b.codes_of(opened, MEMORY_RANGE), length, f"{name}.outer")), memory


def add_heads(b: FlatGraph, g: Geometry, x: int) -> tuple[int, int]:
    out = b.same(Kind.LOGISTIC, b.linear(*b.normalised(x), "output"))
    return b.columns(out, 0, g.bins), b.columns(out, g.bins, g.bins + len(HEAD))


def add_release(b: FlatGraph, mask: int, gains: int) -> int:
    closing = b.add(gains, b.mul(b.sub(mask, gains), b.vector(geometry.RELEASE)))
    return b.larger(mask, closing)


def write(rate: int, untrained: bool) -> None:
    """Writes `edge_<rate>k.tflite` beside the ONNX graph, and enters it into that one's card."""
    net, _ = export.load("edge", rate, untrained)
    written, name = build(net.geometry, net.weights()), export.graph_name("edge", rate)
    with replacing(export.FOLDER / f"{name}.tflite") as part:
        part.write_bytes(written)
    card = export.FOLDER / f"{name}.json"
    if card.exists():
        entry = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
        export.write_card(name, {**json.loads(card.read_text()), "tflite": entry})
    print(f"{name}.tflite: {len(written)} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, choices=(8000, 16000), action="append", help="default: both")
    parser.add_argument("--untrained", action="store_true", help="random weights, for building against")
    args = parser.parse_args()
    for rate in args.rate or (8000, 16000):
        write(rate, args.untrained)


if __name__ == "__main__":
    main()

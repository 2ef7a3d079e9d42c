"""Builds the ONNX graph of the denoiser from a dictionary of weights: PCM in, PCM out, all memory in one state row.

Written operator by operator rather than traced, because this graph runs for every frame of every call: the norm's
gain is folded into the matrix after it, the three projections of a block are one product, and the Fourier transforms
are products too. Nothing mixes rows, and every element-wise operator works on a multiple of 16 columns, so that a
call's output does not depend on who shares its batch.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.geometry import (
    FEATURE_SCALE,
    HEAD,
    LANES,
    LEVEL_ATTACK,
    LEVEL_BAND,
    LEVEL_RELEASE,
    LOG_POWER_FLOOR,
    REFERENCE_LOG_POWER,
    Geometry,
    analysis_matrix,
    synthesis_matrix,
)

OPSET = 17
Weights = dict[str, np.ndarray]


class Builder:
    """Collects nodes and constants; every method returns the name of the tensor it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def scalar(self, value: float) -> str:
        return self.constant(f"c{value:g}", np.array(value, np.float32))

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: int | float | str) -> str:
        name = out or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def split(self, value: str, widths: tuple[int, ...]) -> list[str]:
        names = [f"{value}_{i}" for i in range(len(widths))]
        sizes = self.constant(f"{value}_sizes", np.array(widths, np.int64))
        self.nodes.append(helper.make_node("Split", [value, sizes], names, name=f"Split_{value}", axis=1))
        return names

    def linear(self, value: str, weights: Weights, name: str) -> str:
        matrix = self.constant(f"{name}.weight", weights[f"{name}.weight"].astype(np.float32))
        bias = self.constant(f"{name}.bias", weights[f"{name}.bias"].astype(np.float32))
        return self.op("Gemm", value, matrix, bias)

    def add_block(self, x: str, memory: str, weights: Weights, name: str, width: int) -> tuple[str, str]:
        """One residual block; returns (its output, its new memory)."""
        power = self.op("ReduceMean", self.op("Mul", x, x), axes=[1], keepdims=1)
        norm = self.op("Sqrt", self.op("Add", power, self.scalar(1e-6)))
        projected = self.linear(self.op("Div", x, norm), weights, f"{name}.inner")
        update, candidate, gate = self.split(projected, (width, width, width))
        step = self.op("Mul", self.op("Sigmoid", update), self.op("Sub", candidate, memory))
        memory = self.op("Add", memory, step)
        opened = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), memory)
        return self.op("Add", x, self.linear(opened, weights, f"{name}.outer")), memory


def build(g: Geometry, weights: Weights) -> onnx.ModelProto:
    """The graph of one rate. weights: float32 arrays, matrices as [inputs, outputs]; names as in `network.Denoiser`."""
    b = Builder()
    old, tail, level, *memories = b.split("state", g.state_parts)
    keep = b.split("control", (1, 1))
    frame = b.op("Concat", old, "pcm", axis=1)
    spectrum = b.op("MatMul", frame, b.constant("analysis", analysis_matrix(g).astype(np.float32)))
    log_power = add_log_power(b, g, spectrum)
    level = add_level(b, g, log_power, level)
    x = add_input(b, g, log_power, level, keep[1], weights)
    for i in range(g.blocks):
        x, memories[i] = b.add_block(x, memories[i], weights, f"blocks.{i}", g.width)
    mask, head = b.split(b.op("Sigmoid", b.linear(x, weights, "output")), (g.bins, LANES))
    add_slice(b, head, 0, len(HEAD), "prob")
    mask = b.op("Max", mask, keep[0])
    new_tail = add_synthesis(b, g, spectrum, mask, tail)
    newest = add_slice(b, frame, g.hop, g.window)
    b.op("Concat", newest, new_tail, level, *memories, axis=1, out="state_out")
    return finish(b, g)


def add_slice(b: Builder, value: str, start: int, stop: int, out: str | None = None) -> str:
    """Columns start..stop of a matrix."""
    ends = [b.constant(f"i{k}", np.array([k], np.int64)) for k in (start, stop, 1)]
    return b.op("Slice", value, ends[0], ends[1], ends[2], out=out)


def add_log_power(b: Builder, g: Geometry, spectrum: str) -> str:
    real, imaginary = b.split(b.op("Mul", spectrum, spectrum), (g.bins, g.bins))
    power = b.op("Add", b.op("Add", real, imaginary), b.scalar(LOG_POWER_FLOOR))
    return b.op("Log", power)


def add_level(b: Builder, g: Geometry, log_power: str, level: str) -> str:
    """Follows the mean log power of the telephone band, quickly up and slowly down. All 16 columns carry the same."""
    share = np.zeros((g.bins, LANES), np.float32)
    share[LEVEL_BAND[0] : LEVEL_BAND[1]] = 1.0 / (LEVEL_BAND[1] - LEVEL_BAND[0])
    loudness = b.op("MatMul", log_power, b.constant("level_band", share))
    difference = b.op("Sub", b.op("Sub", loudness, b.scalar(REFERENCE_LOG_POWER)), level)
    rise = b.op("Mul", difference, b.scalar(LEVEL_ATTACK))
    fall = b.op("Mul", difference, b.scalar(LEVEL_RELEASE))
    return b.op("Add", level, b.op("Max", rise, fall))


def add_input(b: Builder, g: Geometry, log_power: str, level: str, keep_music: str, weights: Weights) -> str:
    """First projection. The feature's scale and reference are folded into it; level and control come in as vectors."""
    matrix = weights["input.weight"].astype(np.float64) * FEATURE_SCALE
    bias = weights["input.bias"] - REFERENCE_LOG_POWER * matrix.sum(axis=0)
    folded = {"input.weight": matrix, "input.bias": bias}
    down = np.zeros((LANES, g.width))
    down[0] = -matrix.sum(axis=0)
    by_level = b.op("MatMul", level, b.constant("level_weight", down.astype(np.float32)))
    keep = b.op("Mul", keep_music, b.constant("keep_music", weights["keep_music"].astype(np.float32)))
    return b.op("Add", b.op("Add", b.linear(log_power, folded, "input"), by_level), keep)


def add_synthesis(b: Builder, g: Geometry, spectrum: str, mask: str, tail: str) -> str:
    """Masks the spectrum, writes the finished hop to the output `pcm_out`, and returns the new overlap tail."""
    masked = b.op("Mul", spectrum, b.op("Concat", mask, mask, axis=1))
    matrix = b.constant("synthesis", synthesis_matrix(g).astype(np.float32))
    first, second = b.split(b.op("MatMul", masked, matrix), (g.hop, g.hop))
    b.op("Add", first, tail, out="pcm_out")
    return second


def finish(b: Builder, g: Geometry) -> onnx.ModelProto:
    def tensor(name: str, width: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])

    inputs = [tensor("pcm", g.hop), tensor("state", g.state), tensor("control", 2)]
    outputs = [tensor("pcm_out", g.hop), tensor("state_out", g.state), tensor("prob", len(HEAD))]
    graph = helper.make_graph(b.nodes, "denoiser", inputs, outputs, list(b.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="models")
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model

"""Builds the ONNX graph of the denoiser from a dictionary of weights: PCM in, PCM out, all memory in one state row.

Written operator by operator rather than traced, because this graph runs for every frame of every call: the Fourier
transforms are products, and the network's own products run in int8 with *static* scales, three times as fast as float32
where the CPU has VNNI. Nothing mixes rows, and element-wise operators that are not exactly rounded work on multiples
of 16 columns, so a call's output does not depend on who shares its batch. Memories, gates and audio stay float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.networks import geometry
from models.networks.geometry import FEATURE_SCALE, HEAD, LANES, REFERENCE_LOG_POWER, Geometry

OPSET = 17
FEATURE_RANGE, NORM_RANGE, MEMORY_RANGE = 3.0, 5.0, 4.0
"""What the inputs of products are clamped to, in training and here."""
Weights = dict[str, np.ndarray]


class Builder:
    """Collects nodes and constants; every method returns the name of the tensor it makes."""

    def __init__(self, weights: Weights, int8: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.weights, self.int8 = weights, int8

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def scalar(self, value: float) -> str:
        return self.constant(f"c{value:g}", np.array(value, np.float32))

    def op(self, kind: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: float) -> str:
        name = out or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def split(self, value: str, widths: tuple[int, ...]) -> list[str]:
        names = [f"{value}_{i}" for i in range(len(widths))]
        sizes = self.constant(f"sizes{'_'.join(map(str, widths))}", np.array(widths, np.int64))
        self.nodes.append(helper.make_node("Split", [value, sizes], names, name=f"Split_{value}", axis=1))
        return names

    def columns(self, value: str, start: int, stop: int, step: int = 1, out: str | None = None) -> str:
        """Columns start..stop of a matrix."""
        ends = [self.constant(f"i{k}", np.array([k], np.int64)) for k in (start, stop, 1, step)]
        return self.op("Slice", value, *ends, out=out)

    def linear(self, value: str, reach: float, *names: str) -> list[str]:
        """Clamps the value to +-reach and multiplies it with each of the named layers.

        Inputs share one scale, weights have one for each output. Inputs are stored unsigned with zero at 128, because
        that is the pair of types the CPU's dot product takes.
        """
        if not self.int8:
            clamped = self.op("Clip", value, self.scalar(-reach), self.scalar(reach))
            return [self.op("Gemm", clamped, *self.layer(name)) for name in names]
        step, zero = self.scalar(reach / 127), self.constant("zero", np.array(128, np.uint8))
        codes = self.op("QuantizeLinear", value, step, zero)
        return [self.integer_product(codes, step, zero, name) for name in names]

    def parts(self, name: str, widths: tuple[int, ...]) -> list[str]:
        """Cuts a layer's outputs into layers of their own: several products are cheaper than cutting their result."""
        ends = np.cumsum(widths)[:-1]
        for kind in ("weight", "bias"):
            for i, part in enumerate(np.split(self.weights[f"{name}.{kind}"], ends, axis=-1)):
                self.weights[f"{name}.{i}.{kind}"] = part
        return [f"{name}.{i}" for i in range(len(widths))]

    def layer(self, name: str) -> tuple[str, str]:
        matrix = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].astype(np.float32))
        return matrix, self.constant(f"{name}.bias", self.weights[f"{name}.bias"].astype(np.float32))

    def integer_product(self, codes: str, step: str, zero: str, name: str) -> str:
        weight = self.weights[f"{name}.weight"].astype(np.float64)
        scales = weight_scales(weight)
        matrix = self.constant(f"{name}.codes", np.rint(weight / scales).astype(np.int8))
        scale = self.constant(f"{name}.scales", scales.astype(np.float32))
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"].astype(np.float32))
        inputs = (codes, matrix, step, scale, zero, "", bias)
        return self.op("MatMulIntegerToFloat", *inputs, domain="com.microsoft")

    def normalised(self, x: str) -> str:
        """Divides each row by its RMS."""
        ones = self.constant("ones", np.ones(self.weights["keep_music"].shape[1], np.float32))
        return self.op("SimplifiedLayerNormalization", x, ones, axis=-1, epsilon=1e-6)

    def block(self, x: str, memory: str, name: str, width: int) -> tuple[str, str]:
        """One residual block; returns (its output, its new memory)."""
        parts = self.parts(f"{name}.inner", (width, width, width))
        update, candidate, gate = self.linear(self.normalised(x), NORM_RANGE, *parts)
        step = self.op("Mul", self.op("Sigmoid", update), self.op("Sub", candidate, memory))
        memory = self.op("Add", memory, step)
        opened = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), memory)
        return self.op("Add", x, self.linear(opened, MEMORY_RANGE, f"{name}.outer")[0]), memory


Block = Callable[[Builder, Geometry, str, list[str], str], tuple[str, list[str]]]
"""(builder, geometry, input, parts of its memory, its name) -> (output, new memory, cut as it likes)."""


def recurrent_block(b: Builder, g: Geometry, x: str, memory: list[str], name: str) -> tuple[str, list[str]]:
    x, new = b.block(x, memory[0], name, g.width)
    return x, [new]


def weight_scales(weight: np.ndarray) -> np.ndarray:
    """Steps of the weights' codes, float64 [outputs]; weight [inputs, outputs], inputs even in number.

    CPUs without VNNI add the products of two neighbouring inputs in 16 bits, and clip: at most 255 * 128 of one sign
    fits. So codes of one sign in such a pair may add up to 128, and every CPU gets the same, exact integers. (Seven
    bits would do as well, but cost 3 dB more rounding noise: most pairs are of opposite signs, or small.)
    """
    pairs = weight.reshape(-1, 2, weight.shape[1])
    sums = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    return sums.max(axis=0) / 127 + 1e-12


def build(g: Geometry, weights: Weights, int8: bool = True, block: Block = recurrent_block) -> onnx.ModelProto:
    """The graph of one rate. weights: float32 arrays, matrices as [inputs, outputs], names as in `network.Denoiser`.

    int8=False keeps the products in float32, to compare the graph with the torch network. block: another kind of block,
    whose memories `g.state_parts` lists.
    """
    b = Builder(dict(weights), int8)
    history, tail, recent, level, before, gains, *memories = b.split("state", g.state_parts)
    least, keep_music = b.split("control", (1, 1))
    cosine, sine, recent = add_analysis(b, g, history, recent)
    log_power = add_log_power(b, cosine, sine)
    level = add_level(b, g, log_power, level)
    x, before = add_input(b, log_power, level, before, keep_music)
    x, memories = add_blocks(b, g, x, memories, block)
    gains = add_heads(b, g, x, gains)
    tail = add_synthesis(b, g, (cosine, sine), b.op("Max", gains, least), tail)
    history = b.columns(history, g.hop, g.history)
    b.op("Concat", history, "pcm", tail, recent, level, before, gains, *memories, axis=1, out="state_out")
    return finish(b, g)


def add_blocks(b: Builder, g: Geometry, x: str, memories: list[str], block: Block) -> tuple[str, list[str]]:
    each, new = len(memories) // g.blocks, []
    for i in range(g.blocks):
        x, parts = block(b, g, x, memories[i * each : (i + 1) * each], f"blocks.{i}")
        new += parts
    return x, new


def add_heads(b: Builder, g: Geometry, x: str, gains: str) -> str:
    """Writes the output `prob` and returns each bin's gain, which falls no faster than the release lets it."""
    outputs = b.linear(b.normalised(x), NORM_RANGE, *b.parts("output", (g.bins, LANES)))
    mask, head = (b.op("Sigmoid", value) for value in outputs)
    release = b.constant("gain_release", np.array(geometry.RELEASE, np.float32))
    closing = b.op("Add", gains, b.op("Mul", b.op("Sub", mask, gains), release))
    b.columns(head, 0, len(HEAD), out="prob")
    return b.op("Max", mask, closing)


def add_analysis(b: Builder, g: Geometry, history: str, recent: str) -> tuple[str, str, str]:
    """(cosine parts, sine parts [n, bins], newest history reversed), by the symmetry of the transform."""
    window, cosines, sines = geometry.analysis_window(g), *geometry.folded_analysis(g)
    backwards = b.constant("backwards", np.eye(g.hop, dtype=np.float32)[::-1].copy())  # Gather is five times as slow
    newer = b.op("Concat", b.op("MatMul", "pcm", backwards), recent, axis=1)
    rising = b.constant("older_window", window[: g.bins].astype(np.float32))
    falling = b.constant("newer_window", window[g.bins :][::-1].astype(np.float32))
    old = b.op("Mul", b.columns(history, 0, g.bins), rising)
    new = b.op("Mul", newer, falling)
    cosine = b.op("MatMul", b.op("Add", old, new), b.constant("cosines", cosines.astype(np.float32)))
    sine = b.op("MatMul", b.op("Sub", old, new), b.constant("sines", sines.astype(np.float32)))
    return cosine, sine, b.columns(newer, 0, g.bins - g.hop)


def add_log_power(b: Builder, cosine: str, sine: str) -> str:
    power = b.op("Add", b.op("Mul", cosine, cosine), b.op("Mul", sine, sine))
    return b.op("Log", b.op("Add", power, b.scalar(geometry.LOG_POWER_FLOOR)))


def add_level(b: Builder, g: Geometry, log_power: str, level: str) -> str:
    """Follows the mean log power of the telephone band, quickly up and slowly down. All 16 columns carry the same."""
    low, high = geometry.LEVEL_BAND
    share = np.zeros((g.bins, LANES), np.float32)
    share[low:high] = 1.0 / (high - low)
    loudness = b.op("MatMul", log_power, b.constant("level_band", share))
    difference = b.op("Sub", b.op("Sub", loudness, b.scalar(REFERENCE_LOG_POWER)), level)
    rise = b.op("Mul", difference, b.scalar(geometry.LEVEL_ATTACK))
    fall = b.op("Mul", difference, b.scalar(geometry.LEVEL_RELEASE))
    return b.op("Add", level, b.op("Max", rise, fall))


def add_input(b: Builder, log_power: str, level: str, before: str, keep_music: str) -> tuple[str, str]:
    """(first projection of log power above the level, now and a frame ago, and of the wish for music; the former)."""
    above = b.op("Add", b.columns(level, 0, 1), b.scalar(REFERENCE_LOG_POWER))
    features = b.op("Mul", b.op("Sub", log_power, above), b.scalar(FEATURE_SCALE))
    keep = b.op("Mul", keep_music, b.constant("keep_music", b.weights["keep_music"].astype(np.float32)))
    both = b.op("Concat", features, before, axis=1)
    return b.op("Add", b.linear(both, FEATURE_RANGE, "input")[0], keep), features


def add_synthesis(b: Builder, g: Geometry, spectrum: tuple[str, str], mask: str, tail: str) -> str:
    """Masks the spectrum, writes the finished hop to the output `pcm_out`, and returns the new overlap tail."""
    masked = b.op("Concat", *(b.op("Mul", part, mask) for part in spectrum), axis=1)
    matrix = b.constant("synthesis", geometry.synthesis_matrix(g).astype(np.float32))
    first, second = b.split(b.op("MatMul", masked, matrix), (g.hop, g.hop))
    b.op("Add", first, tail, out="pcm_out")
    return second


def finish(b: Builder, g: Geometry) -> onnx.ModelProto:
    def tensor(name: str, width: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])

    inputs = [tensor("pcm", g.hop), tensor("state", g.state), tensor("control", 2)]
    outputs = [tensor("pcm_out", g.hop), tensor("state_out", g.state), tensor("prob", len(HEAD))]
    graph = helper.make_graph(b.nodes, "denoiser", inputs, outputs, list(b.constants.values()))
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, producer_name="models")
    model.ir_version = 9
    return model

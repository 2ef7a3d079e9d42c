"""The denoiser for headsets and microcontrollers: a small network of the same family in a file under 100,000 bytes.

Two exports. The ONNX graph is PCM in and PCM out like every other; its Fourier tables would be larger than the network,
so they are computed when the graph is loaded (runtimes fold them into constants) and only the windows are stored.
The TFLite file (`models/tflite.py`) is the network proper, for one stream: log powers in, mask out, memories as inputs
and outputs. A microcontroller makes the spectrum with its vendor's own transform (say, `arm_rfft_fast_f32` of CMSIS):

1. Multiply the last 32 ms by `geometry.analysis_window`, transform, divide by the sum of the window. The family's
   transform has its time zero half a sample off the middle of the window, which only turns phases: powers are the
   same, and a mask is a real factor. Bin 0 is the sum of the powers of DC and of the Nyquist frequency.
2. Feed log(power + 1e-9) of bins 0 to window / 2 - 1 and the memories, zero at first, that the last call returned.
3. Multiply the spectrum by the mask (at least the smallest gain; the Nyquist bin by bin 0's), transform back, multiply
   the last 20 ms by `geometry.synthesis_window` and the window's sum, and overlap-add with a hop of 10 ms.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper

from models.networks import geometry
from models.networks.geometry import LANES, LEVEL_BAND, Geometry
from models.networks.graph import Builder
from models.networks.network import Denoiser

LARGEST_FILE = 100_000
BLOCKS, WIDTHS = 2, {8000: 80, 16000: 64}
"""Twice the bins leave less room for the blocks."""


class Edge(Denoiser):
    """`Denoiser`, smaller."""

    def __init__(self, rate: int) -> None:
        super().__init__(Geometry(rate, BLOCKS, WIDTHS[rate]))

    def graph(self, int8: bool = True) -> onnx.ModelProto:
        return compact(self.geometry, super().graph(int8))


def compact(g: Geometry, model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, but the tables of transforms are computed at load and inner names are short."""
    tables = computed_tables(g)
    made = {node.output[0] for node in tables.nodes}
    stored = {i.name: i for i in model.graph.initializer if i.name not in made} | tables.constants
    nodes = [*tables.nodes, *model.graph.node]
    outside = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    short: dict[str, str] = {name: name for name in outside}
    for node in nodes:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [short.setdefault(name, np.base_repr(len(short), 36)) for name in names]
    small = onnx.ModelProto()
    small.CopyFrom(model)
    for field, values in (("node", nodes), ("initializer", stored.values())):
        small.graph.ClearField(field)
        getattr(small.graph, field).extend(values)
    for tensor in small.graph.initializer:
        tensor.name = short[tensor.name]
    return small


def computed_tables(g: Geometry) -> Builder:
    """Nodes without inputs that make the big constants of `graph.build` under their own names."""
    b = Tables({}, int8=False)
    bins, window = b.range(0, g.bins, 1), g.window
    sine_bins = b.op("Concat", b.vector(window // 2), b.range(-1, -g.bins, -1), axis=0)
    times, total = b.range(1 - window, 1, 2), float(geometry.analysis_window(g).sum())
    b.op("Div", b.wave("Cos", times, bins, window), b.real(total), out="cosines")
    b.op("Div", b.wave("Sin", times, sine_bins, window), b.real(total), out="sines")
    late = b.range(window - 4 * g.hop + 1, window + 1, 2)
    both = [b.wave(kind, late, k, window) for kind, k in (("Cos", bins), ("Sin", sine_bins))]
    share = b.op("Add", b.op("Min", b.op("Cast", bins, to=onnx.TensorProto.FLOAT), b.real(1.0)), b.real(1.0))
    weighed = [b.op("Mul", part, b.op("Mul", share, b.real(total / window))) for part in both]
    inverse = b.op("Transpose", b.op("Concat", *weighed, axis=1), perm=[1, 0])
    synthesis = b.constant("load_window", geometry.synthesis_window(g).astype(np.float32))
    b.op("Mul", inverse, synthesis, out="synthesis")
    mirrored = b.op("Equal", b.column(b.range(0, g.hop, 1)), b.range(g.hop - 1, -1, -1))
    b.op("Cast", mirrored, out="backwards", to=onnx.TensorProto.FLOAT)
    in_band = b.op(
        "And", b.op("GreaterOrEqual", bins, b.whole(LEVEL_BAND[0])), b.op("Less", bins, b.whole(LEVEL_BAND[1]))
    )
    share = b.op("Mul", b.op("Cast", in_band, to=onnx.TensorProto.FLOAT), b.real(1 / (LEVEL_BAND[1] - LEVEL_BAND[0])))
    lanes = b.constant("load_lanes", np.array([g.bins, LANES], np.int64))
    b.op("Expand", b.column(share), lanes, out="level_band")
    return b


class Tables(Builder):
    """A builder whose names do not meet those of the graph it is joined to. Integers are int32."""

    def op(self, kind: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: object) -> str:
        return super().op(kind, *inputs, out=out or f"load{len(self.nodes)}", domain=domain, **attributes)

    def whole(self, value: int) -> str:
        name = f"load_i{value}"
        self.constants[name] = onnx.numpy_helper.from_array(np.array(value, np.int32), name)  # of rank 0, for Range
        return name

    def vector(self, value: int) -> str:
        return self.constant(f"load_v{value}", np.array([value], np.int32))

    def real(self, value: float) -> str:
        return self.constant(f"load_f{value!r}", np.array(value, np.float32))

    def range(self, start: int, stop: int, step: int) -> str:
        return self.op("Range", self.whole(start), self.whole(stop), self.whole(step))

    def column(self, vector: str) -> str:
        return self.op("Unsqueeze", vector, self.constant("load_axis", np.array([1], np.int64)))

    def wave(self, kind: str, times: str, bins: str, window: int) -> str:
        """cos or sin of pi * time * bin / window, [times, bins]; whole turns are dropped while numbers are whole."""
        turns = self.op("Mod", self.op("Mul", self.column(times), bins), self.whole(2 * window))
        return self.op(
            kind, self.op("Mul", self.op("Cast", turns, to=onnx.TensorProto.FLOAT), self.real(np.pi / window))
        )

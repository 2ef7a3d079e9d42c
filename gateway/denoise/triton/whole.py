"""A graph with its int8 products in floating point again, with the same weights: for devices without such products."""

from typing import Any

import numpy as np


def in_floats(graph: Any, narrow: bool = False, imitate: bool = False) -> None:
    """Replace each QuantizeLinear and MatMulIntegerToFloat of an onnx.GraphProto by Clip, MatMul and Add.

    Inputs of the products are clamped to where their codes ended; only the rounding to codes is left out. narrow: these
    products, and those of a graph in float32, take and give bfloat16; everything else stays float32. imitate: they are
    computed in float32 from values that fit bfloat16, for CPUs, which lack the products.
    """
    from onnx import helper, numpy_helper

    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    products = _Products(narrow, imitate)
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            step = constants[node.input[1]].item()
            products.clip(node.input[0], node.output[0], -128 * step, 127 * step)
        elif node.op_type == "MatMulIntegerToFloat":
            codes, scales, bias = (constants[node.input[i]] for i in (1, 3, 6))
            products.linear(node.input[0], codes.astype(np.float32) * scales, bias, node.output[0])
        elif node.op_type == "Gemm":
            products.linear(node.input[0], constants[node.input[1]], constants[node.input[2]], node.output[0])
        else:
            products.nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(products.nodes)
    used = {name for node in products.nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in products.constants.items())
    if narrow and not imitate:
        graph.initializer.extend(helper.make_tensor(*each, raw=True) for each in products.narrow_constants())


class _Products:
    """The new nodes and constants."""

    def __init__(self, narrow: bool, imitate: bool) -> None:
        self.narrow, self.imitate = narrow, imitate
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._narrow: dict[str, Any] = {}

    def op(self, kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [out], name=f"{kind} {out}", **attributes))
        return out

    def clip(self, value: str, out: str, low: float, high: float) -> None:
        self.constants[f"{out}.low"], self.constants[f"{out}.high"] = (
            np.asarray(end, np.float32) for end in (low, high)
        )
        self.op("Clip", [value, f"{out}.low", f"{out}.high"], out)

    def linear(self, value: str, matrix: Any, bias: Any, out: str) -> None:
        """value [n, inputs] times matrix [inputs, outputs], plus bias."""
        self.constants[f"{out}.bias"] = np.asarray(bias, np.float32)
        weight = f"{out}.matrix"
        if not self.narrow:
            self.constants[weight] = np.asarray(matrix, np.float32)
            self.op("Gemm", [value, weight, f"{out}.bias"], out)
            return
        if self.imitate:
            self.constants[weight] = to_bfloat16(matrix)
        else:
            self._narrow[weight] = matrix
        product = self.op("MatMul", [self._rounded(value, f"{out}.in"), weight], f"{out}.product")
        self.op("Add", [self._widened(product, f"{out}.wide"), f"{out}.bias"], out)

    def _rounded(self, value: str, out: str) -> str:
        from onnx import TensorProto

        small = self.op("Cast", [value], f"{out}.small", to=TensorProto.BFLOAT16)
        return self.op("Cast", [small], out, to=TensorProto.FLOAT) if self.imitate else small

    def _widened(self, value: str, out: str) -> str:
        from onnx import TensorProto

        return self._rounded(value, out) if self.imitate else self.op("Cast", [value], out, to=TensorProto.FLOAT)

    def narrow_constants(self) -> list[tuple[str, int, Any, bytes]]:
        """(name, type, shape, bytes) of each matrix in bfloat16."""
        from onnx import TensorProto

        return [
            (
                name,
                TensorProto.BFLOAT16,
                matrix.shape,
                (to_bfloat16(matrix).view(np.uint32) >> 16).astype("<u2").tobytes(),
            )
            for name, matrix in self._narrow.items()
        ]


def to_bfloat16(values: Any) -> Any:
    """float32 rounded to what bfloat16 holds, to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)

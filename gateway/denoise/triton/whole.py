"""A graph with its int8 products in float32 again, with the same weights: for devices that have no such products."""

from typing import Any

import numpy as np


def in_float32(graph: Any) -> None:
    """Replace each QuantizeLinear and MatMulIntegerToFloat of an onnx.GraphProto by Clip, MatMul and Add.

    Inputs of the products are clamped to where their codes ended; only the rounding to codes is left out.
    """
    from onnx import helper, numpy_helper

    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    nodes: list[Any] = []
    added: dict[str, Any] = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            step = constants[node.input[1]].item()
            for end, value in (("low", -128 * step), ("high", 127 * step)):
                added[f"{node.output[0]}.{end}"] = np.float32(value)
            ends = [f"{node.output[0]}.low", f"{node.output[0]}.high"]
            nodes.append(helper.make_node("Clip", [node.input[0], *ends], [node.output[0]], name=node.output[0]))
        elif node.op_type == "MatMulIntegerToFloat":
            codes, scales, bias = (constants[node.input[i]] for i in (1, 3, 6))
            matrix = f"{node.input[1]}.whole"
            added[matrix] = codes.astype(np.float32) * scales.astype(np.float32)
            added[f"{node.input[6]}.whole"] = bias
            product = [node.input[0], matrix, f"{node.input[6]}.whole"]
            nodes.append(helper.make_node("Gemm", product, list(node.output), name=node.output[0]))
        else:
            nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in added.items())

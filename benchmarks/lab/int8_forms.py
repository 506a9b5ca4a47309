"""Other forms of a bundle's INT8 graph, for comparisons in `benchmarks/lab/processors.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from export.graphs.cpu_graph import change, dequantised


def seven_bits(model: onnx.ModelProto) -> None:
    """Reduce weights to 7 bits, in place, so that pairs of products fit in 16 bits; biases are scaled too."""
    for kind in (TensorProto.INT8, TensorProto.INT32):
        for node in dequantised(model, kind):
            change(model, node.input[0], lambda values: np.round(values / 2).astype(values.dtype))
            change(model, node.input[1], lambda values: values * np.float32(2))


def in_float(model: onnx.ModelProto) -> None:
    """Remove all quantisation, in place: the same weights in float32, to time FP32."""
    constants = {item.name for item in model.graph.initializer}
    same: dict[str, str] = {}
    for node in list(model.graph.node):
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            _fold(model, node)
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            same[node.output[0]] = node.input[0]
        else:
            continue
        model.graph.node.remove(node)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            while name in same:
                name = same[name]
            node.input[place] = name
    del model.graph.value_info[:]


def _fold(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    values, scale, zero = (_constant(model, name).astype(np.float32) for name in node.input)
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    if scale.ndim:
        shape = [1] * values.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    model.graph.initializer.append(numpy_helper.from_array((values - zero) * scale, node.output[0]))


def _constant(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    found = next(item for item in model.graph.initializer if item.name == name)
    return np.asarray(numpy_helper.to_array(found))

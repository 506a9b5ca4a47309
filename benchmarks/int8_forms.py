"""Other forms of a bundle's INT8 graph, to compare with the one that ships: for `benchmarks/processors.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper


def unsigned_weights(model: onnx.ModelProto) -> None:
    """Write weights as unsigned numbers around 128, in place: the same values, whose x86 kernels never saturate."""
    for node in _dequantised(model, TensorProto.INT8):
        for name in (node.input[0], node.input[2]):
            _change(model, name, lambda values: (values.astype(np.int16) + 128).astype(np.uint8))


def seven_bits(model: onnx.ModelProto) -> None:
    """Write weights in 7 bits, in place: pairs of products then fit 16 bits. Biases follow their scale."""
    for kind in (TensorProto.INT8, TensorProto.INT32):
        for node in _dequantised(model, kind):
            _change(model, node.input[0], lambda values: np.round(values / 2).astype(values.dtype))
            _change(model, node.input[1], lambda values: values * np.float32(2))


def in_float(model: onnx.ModelProto) -> None:
    """Take all rounding out, in place: the same weights in float32, for the time that FP32 takes."""
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


def _dequantised(model: onnx.ModelProto, kind: int) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that turn constants of a kind into float."""
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and kinds.get(node.input[0]) == kind:
            yield node


def _constant(model: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    found = next(item for item in model.graph.initializer if item.name == name)
    return np.asarray(numpy_helper.to_array(found))


def _change(model: onnx.ModelProto, name: str, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
    item = next(item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(item))), name))

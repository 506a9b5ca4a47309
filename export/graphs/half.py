"""The encoder between its quantised layers in FP16, types written into the graph.

A strongly typed TensorRT network computes in the types of the graph, so the file must be in FP16 where FP16 is to be
used. Only plain arithmetic of the encoder is changed. These stay in float32, with casts before and after:

* level and log-mel, whose logarithm turns small absolute errors into large ones, and the waveform before a norm over
  time (HuBERT's InstanceNormalization);
* sums over many values: LayerNorm, InstanceNorm, Softmax, means and powers;
* everything after the encoder: mean and deviation over time are differences of large sums, and the head is cheap;
* a node with a constant that FP16 cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graphs.policy import FRONT_END, QUANTISED_OPERATORS

HALF_OPSET = 19
"""The first whose QuantizeLinear and DequantizeLinear have FP16 scales; ONNX Runtime reads it from 1.17 on."""
SMALLEST_SCALE = float(np.finfo(np.float16).smallest_normal)
"""Below it FP16 loses digits: smaller scales of weight channels are raised to it, and their weights rescaled."""
_ARITHMETIC = frozenset(
    {*QUANTISED_OPERATORS, "Add", "Sub", "Mul", "Div", "Erf", "Gelu", "Relu", "Tanh", "Sigmoid", "Neg"}
    | {"Transpose", "Reshape", "Slice", "Concat", "Split", "Squeeze", "Unsqueeze", "Expand", "Gather", "Pad", "Where"}
)


def to_half(model: onnx.ModelProto) -> int:
    """Write FP16 into a float graph or one in TensorRT's INT8 form, in place; inputs and outputs stay float32.

    Return how many MatMul, Gemm and Conv nodes work in FP16 or, if quantised, output FP16.
    """
    return _Conversion(model).run()


def write_half(source: Path, target: Path) -> int:
    """Write the FP16 form of a float graph; return what `to_half` does."""
    model = onnx.load(source)
    count = to_half(model)
    onnx.save(model, target)
    return count


class _Conversion:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        graph = model.graph
        self._constants = {item.name: item for item in graph.initializer}
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)
        typed = onnx.shape_inference.infer_shapes(model).graph
        self._float = {
            value.name
            for value in [*typed.value_info, *typed.input, *typed.output]
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        } | {name for name, item in self._constants.items() if item.data_type == TensorProto.FLOAT}
        self._raw = self._before_norms_over_time()
        self._half = {node.name for node in graph.node if self._becomes_half(node)}
        # A dequantised tensor has the type of its scale: FP16 where every reader works in FP16.
        self._half |= {
            node.name
            for node in graph.node
            if node.op_type == "DequantizeLinear" and all(taker.name in self._half for taker in self._readers(node))
        }

    def run(self) -> int:
        graph = self._model.graph
        nodes: list[onnx.NodeProto] = []
        done: set[str] = set()
        for node in graph.node:
            if node.name in self._half and node.op_type == "DequantizeLinear":
                self._scale_to_half(node)
            elif node.name in self._half:
                nodes += self._inputs(node, TensorProto.FLOAT16, done)
            elif node.op_type != "DequantizeLinear":
                nodes += self._inputs(node, TensorProto.FLOAT, done)
            nodes.append(node)
        for value in graph.output:
            assert not self._made_half(value.name), "the head works in float32"
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
        self._drop_unused_constants()
        for entry in self._model.opset_import:
            if entry.domain == "":
                entry.version = max(entry.version, HALF_OPSET)
        onnx.checker.check_model(self._model, full_check=True)
        return sum(node.op_type in QUANTISED_OPERATORS and node.name in self._half for node in nodes)

    def _readers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [taker for name in node.output for taker in self._takers.get(name, [])]

    def _before_norms_over_time(self) -> set[str]:
        """Return the names of all nodes that an InstanceNormalization depends on."""
        found: set[str] = set()
        waiting = [node for node in self._model.graph.node if node.op_type == "InstanceNormalization"]
        while waiting:
            node = waiting.pop()
            for name in node.input:
                maker = self._made_by.get(name)
                if maker is not None and maker.name not in found:
                    found.add(maker.name)
                    waiting.append(maker)
        return found

    def _becomes_half(self, node: onnx.NodeProto) -> bool:
        module = node.name.partition("/")[0].split(".")
        if node.op_type not in _ARITHMETIC or module[0] != "encoder" or FRONT_END.intersection(module):
            return False
        if node.name in self._raw or node.output[0] not in self._float:
            return False
        return all(fits_half(numpy_helper.to_array(self._constants[name])) for name in self._float_constants(node))

    def _float_constants(self, node: onnx.NodeProto) -> Iterator[str]:
        return (name for name in node.input if name in self._constants and name in self._float)

    def _made_half(self, name: str) -> bool:
        return name in self._made_by and self._made_by[name].name in self._half

    def _inputs(self, node: onnx.NodeProto, wanted: int, done: set[str]) -> Iterator[onnx.NodeProto]:
        """Connect a node's float inputs to tensors of the wanted type; yield new casts."""
        half = wanted == TensorProto.FLOAT16
        for index, name in enumerate(node.input):
            if name not in self._float or (name in self._constants and not half):
                continue
            if name not in self._constants and self._made_half(name) == half:
                continue
            converted = f"{name}_{'half' if half else 'float'}"
            node.input[index] = converted
            if converted in done:
                continue
            done.add(converted)
            if name in self._constants:
                value = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._model.graph.initializer.append(numpy_helper.from_array(value, converted))
            else:
                yield helper.make_node(
                    "Cast", [name], [converted], f"{node.name.partition('/')[0]}/{converted}", to=wanted
                )

    def _scale_to_half(self, node: onnx.NodeProto) -> None:
        stored, scale = self._constants.get(node.input[0]), self._constants[node.input[1]]
        values = np.asarray(numpy_helper.to_array(scale), np.float32)
        name = f"{node.name}_scale_half"
        raised = np.maximum(values, SMALLEST_SCALE)
        if stored is not None and (raised > values).any():
            axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
            levels = numpy_helper.to_array(stored)
            shape = [-1 if index == axis % levels.ndim else 1 for index in range(levels.ndim)]
            factor = (values / raised).reshape(shape if values.size > 1 else ())
            fitted = np.rint(levels * factor).astype(np.int8)
            self._model.graph.initializer.append(numpy_helper.from_array(fitted, f"{node.name}_fitted"))
            node.input[0] = f"{node.name}_fitted"
        self._model.graph.initializer.append(numpy_helper.from_array(raised.astype(np.float16), name))
        node.input[1] = name

    def _drop_unused_constants(self) -> None:
        used = {name for node in self._model.graph.node for name in node.input}
        kept = [item for item in self._model.graph.initializer if item.name in used]
        del self._model.graph.initializer[:]
        self._model.graph.initializer.extend(kept)


def fits_half(value: npt.NDArray[np.float32]) -> bool:
    """Return whether FP16 can represent a constant: no overflow, and not all values rounded to zero."""
    size = np.abs(value)
    return bool(np.isfinite(value).all() and (size <= np.finfo(np.float16).max).all()) and not bool(
        size.any() and size.max() < SMALLEST_SCALE
    )

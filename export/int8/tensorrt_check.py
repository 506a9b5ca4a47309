"""Check ahead of time that TensorRT will run a graph well: our rules for its form, then NVIDIA's parser and builder.

The builder accepts per-channel activations, and Q/DQ on Add or LayerNorm, without a message; TensorRT 10 on a Jetson
stops at some of it, runs the rest slowly, or loses accuracy. Each rule is one of these cases. They need the package
``onnx``, which devices lack, and once is enough: a graph cannot change after its export without its hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edge_runtime.bundles.manifest import GRAPHS
from edge_runtime.bundles.onnx_file import check_opset
from edge_runtime.errors import EdgeemoError, GateError
from edge_runtime.tensorrt.builder import build
from edge_runtime.tensorrt.library import installed
from edge_runtime.windows import WindowPolicy
from export.graphs.policy import QUANTISED_OPERATORS
from export.options import Progress


def check_form(folder: Path) -> None:
    """Check the form of all graphs for TensorRT in a directory (`lint`)."""
    for name in _for_tensorrt(folder):
        lint(folder / name)


def check_builds(folder: Path, policy: WindowPolicy, progress: Progress, *, sparse: bool) -> list[dict[str, Any]]:
    """Build the graphs for TensorRT ahead of time, if ``tensorrt_rtx`` is installed, and describe each build.

    Raises:
        EdgeemoError: NVIDIA's parser or builder fails on a graph.
        GateError: the INT8 graph has no INT8 layer once it is built.
    """
    if not installed("tensorrt_rtx"):
        progress('TensorRT check left out; to have it, run: pip install "edgeemo[rtx]"')
        return []
    progress("TensorRT check: NVIDIA's parser and builder, no GPU")
    builds = [build(folder / name, policy, "tensorrt_rtx", sparse=sparse) for name in _for_tensorrt(folder)]
    for each in builds:
        if GRAPHS[each.graph] == "int8-trt" and each.int8_layers == 0:
            raise GateError(
                f"{each.library} built {each.graph} with no INT8 layer at all: it would run in float on the device, "
                "no bundle was written"
            )
    return [each.summary() for each in builds]


def _for_tensorrt(folder: Path) -> list[str]:
    return [name for name, precision in GRAPHS.items() if precision != "int8-cpu" and (folder / name).is_file()]


def lint(path: Path) -> None:
    """Check that a graph is in the form that TensorRT runs in INT8; a float graph passes.

    Raises:
        EdgeemoError: with the first fault, the node that has it, and how many more there are.
    """
    check_opset(path)
    faults = list(graph_faults(onnx.load(path)))
    if faults:
        more = f" (and {len(faults) - 1} more such faults)" if len(faults) > 1 else ""
        raise EdgeemoError(f"{path}: is not in TensorRT's INT8 form: {faults[0]}{more}")


def graph_faults(model: onnx.ModelProto) -> Iterator[str]:
    """Yield one phrase for each fault of a graph, in graph order."""
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield f"it uses operators of '{entry.domain}', for which TensorRT would look for a plug-in"
    graph = _Graph(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            yield from _pair_faults(node, graph, weight=False)
        elif node.op_type == "DequantizeLinear":
            yield from _dequantise_faults(node, graph)
        elif node.op_type in QUANTISED_OPERATORS:
            yield from _operator_faults(node, graph)


class _Graph:
    """Constants, producers and consumers by tensor name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = {item.name: item for item in model.graph.initializer}
        self.made_by = {name: node for node in model.graph.node for name in node.output}
        self.takers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)

    def constant(self, node: onnx.NodeProto, index: int) -> npt.NDArray[np.generic] | None:
        """Return a constant input; None where it is left out or computed."""
        if len(node.input) <= index or node.input[index] not in self.constants:
            return None
        return np.asarray(onnx.numpy_helper.to_array(self.constants[node.input[index]]))

    def dequantised(self, name: str) -> bool:
        return name in self.made_by and self.made_by[name].op_type == "DequantizeLinear"


def _dequantise_faults(node: onnx.NodeProto, graph: _Graph) -> Iterator[str]:
    stored = graph.constants.get(node.input[0])
    if stored is not None and stored.data_type == onnx.TensorProto.INT32:
        yield f"node '{node.name}' is a quantised bias; TensorRT wants biases in float"
        return
    if stored is not None and stored.data_type != onnx.TensorProto.INT8:
        kind = onnx.TensorProto.DataType.Name(stored.data_type).lower()
        yield f"node '{node.name}' holds {kind} weights; TensorRT's are int8"
    maker = graph.made_by.get(node.input[0])
    if stored is None and (maker is None or maker.op_type != "QuantizeLinear"):
        yield f"node '{node.name}' dequantises what nothing quantised"
    yield from _pair_faults(node, graph, weight=stored is not None)
    for taker in graph.takers.get(node.output[0], []):
        if taker.op_type not in QUANTISED_OPERATORS:
            yield f"node '{taker.name}' ({taker.op_type}) is quantised; only {', '.join(QUANTISED_OPERATORS)} may be"


def _pair_faults(node: onnx.NodeProto, graph: _Graph, *, weight: bool) -> Iterator[str]:
    """Evaluate scale and zero point of one Q or DQ node."""
    scale = graph.constant(node, 1)
    if scale is None:
        yield f"node '{node.name}' has a scale that is computed; TensorRT wants a constant"
        return
    if not np.all(np.isfinite(scale) & (np.asarray(scale, np.float64) > 0)):
        yield f"node '{node.name}' has a scale that is not a positive number"
    if scale.size > 1 and not weight:
        yield f"node '{node.name}' quantises an activation per channel; TensorRT takes one scale for a whole activation"
    zero = graph.constant(node, 2)
    if zero is None:
        if node.op_type == "QuantizeLinear":
            yield f"node '{node.name}' gives uint8 activations (it has no zero point); TensorRT's are int8"
    elif zero.dtype != np.int8:
        yield f"node '{node.name}' is of {zero.dtype}; TensorRT's INT8 is signed"
    elif zero.any():
        yield f"node '{node.name}' has a zero point other than 0; TensorRT's INT8 is symmetric"


def _operator_faults(node: onnx.NodeProto, graph: _Graph) -> Iterator[str]:
    quantised = [graph.dequantised(name) for name in node.input]
    if not any(quantised):
        return
    attributes = {item.name: item.i for item in node.attribute}
    if node.op_type == "Conv" and attributes.get("group", 1) > 1:
        yield f"node '{node.name}' is a grouped convolution in INT8, which is slower than in float"
    if not all(quantised[:2]):
        yield f"node '{node.name}' has only one of its two factors in INT8, so that it runs in float"
        return
    pair = graph.made_by[node.input[1]]
    scale = graph.constant(pair, 1)
    if pair.input[0] in graph.constants and scale is not None and scale.size > 1:
        axes = len(graph.constants[pair.input[0]].dims)
        axis = next((item.i for item in pair.attribute if item.name == "axis"), 1) % axes
        if axis != (0 if node.op_type == "Conv" or attributes.get("transB") else axes - 1):
            yield f"node '{node.name}' has weight scales along axis {axis}, not along its output channels"

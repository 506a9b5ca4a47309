"""Rewrites of the graph for CPUs that make it faster, smaller, or exact in any session.

ONNX Runtime does not fuse the exporter's five-node GELU (measured with 1.32: 8 of 8), five passes over the widest
tensors of the student. ``Gelu`` of opset 20 is one pass, fused with the bias before it; a runtime without a kernel for
it expands it to the five nodes. The other graphs keep the five nodes, which every TensorRT reads.

Position embeddings would be a thirtieth of the default INT8 file in float32. They are stored in FP16, and ONNX Runtime
converts them once, when the session opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from export.graphs.half import fits_half

_GELU_OPSET = 20
_GELU = ("Div", "Erf", "Add", "Mul", "Mul")
_SELECTIONS = frozenset({"Slice", "Gather"})
SMALLEST_TABLE = 1024
"""Values of a constant that is worth a node of its own."""


def fuse_gelu(model: onnx.ModelProto) -> int:
    """Write ``x * (0.5 * (1 + erf(x / sqrt 2)))`` as one node, in place; return how many there were."""
    found = _gelus(model)
    for nodes in found:
        place = list(model.graph.node).index(nodes[-1])
        gelu = onnx.helper.make_node("Gelu", [nodes[0].input[0]], list(nodes[-1].output), name=f"{nodes[-1].name}_gelu")
        model.graph.node.insert(place, gelu)
        for node in nodes:
            model.graph.node.remove(node)
    if found:
        entry = next(entry for entry in model.opset_import if entry.domain == "")
        entry.version = max(entry.version, _GELU_OPSET)
        read = {name for node in model.graph.node for name in node.input}
        for item in [item for item in model.graph.initializer if item.name not in read]:
            model.graph.initializer.remove(item)
    return len(found)


def _gelus(model: onnx.ModelProto) -> list[list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    writers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for erf in [node for node in model.graph.node if node.op_type == "Erf"]:
        chain = [writers[erf.input[0]], erf] if erf.input[0] in writers else []
        while 2 <= len(chain) < len(_GELU) and len(readers.get(chain[-1].output[0], [])) == 1:
            chain.append(readers[chain[-1].output[0]][0])
        whole = tuple(node.op_type for node in chain) == _GELU
        if whole and chain[0].input[0] in chain[-1].input and len(readers[chain[0].output[0]]) == 1:
            found.append(chain)
    return found


def store_tables_in_half(model: onnx.ModelProto) -> int:
    """Store tables in FP16, with a Cast to float32 that keeps their name, in place; return how many there were.

    A table is a large float constant that nodes take rows of only, such as position embeddings. Weights of products,
    scales and biases are none. Values change by at most a 2048th of their size (by 3e-8 below 6e-5).
    """
    graph = model.graph
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, index))
    casts = []
    for item in graph.initializer:
        taken = readers.get(item.name, [])
        if item.data_type != TensorProto.FLOAT or len(item.dims) < 2 or np.prod(item.dims) < SMALLEST_TABLE:
            continue
        if not taken or any(node.op_type not in _SELECTIONS or index for node, index in taken):
            continue
        values = numpy_helper.to_array(item)
        if not fits_half(values):
            continue
        name, stored = item.name, f"{item.name}_half"
        item.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        module = taken[0][0].name.partition("/")[0]
        casts.append(onnx.helper.make_node("Cast", [stored], [name], f"{module}/{stored}_Cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(casts)


def exact_in_any_session(graph: bytes) -> bytes:
    """Return the INT8 graph for CPUs in a form that is exact in sessions without the entry for exact products.

    It is slower on processors with VNNI (``benchmarks/results/processors.json``), so it is not the form of a bundle.
    """
    model = onnx.load_from_string(graph)
    unsigned_weights(model)
    return bytes(model.SerializeToString())


def unsigned_weights(model: onnx.ModelProto) -> None:
    """Write weights as unsigned numbers around 128, in place: the same values, whose x86 kernels never saturate."""
    names = {name for node in dequantised(model, TensorProto.INT8) for name in (node.input[0], node.input[2])}
    for name in names:
        change(model, name, lambda values: (values.astype(np.int16) + 128).astype(np.uint8))


def dequantised(model: onnx.ModelProto, kind: int) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that turn constants of a kind into float."""
    kinds = {item.name: item.data_type for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and kinds.get(node.input[0]) == kind:
            yield node


def change(model: onnx.ModelProto, name: str, edit: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
    """Change a constant of a graph, in place."""
    item = next(item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(edit(numpy_helper.to_array(item))), name))

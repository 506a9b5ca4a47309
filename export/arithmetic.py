"""Judge INT8 graphs with the arithmetic of the deployed engine, whatever machine exports.

Devices compute the CPU form exactly (`edge_runtime/engines/engine.py`), and an engine that does not is refused there.
An export therefore judges with INT8 kernels where those of this processor are exact, and in float where they are not.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.engine import OnnxEngine, session_options
from edge_runtime.machine import instruction_sets, processor
from export.quantise import write_int8

_CHANNELS = 64
_FRAMES = 16
_EXACT = 1e-4
"""Largest share by which a sum may be off, since both ways end in float32."""


def open_graph(path: Path, reference: npt.NDArray[np.float32], precision: Precision) -> OnnxEngine:
    """Return the engine that a graph is judged with.

    Args:
        path: the graph.
        reference: ``[1, D]`` default reference.
        precision: of the graph.
    """
    return OnnxEngine(path, reference, precision, simulated=precision == "int8-cpu" and not kernels_are_exact())


def how_int8_is_judged() -> str:
    """Return a sentence on the arithmetic that this machine judges the CPU form with."""
    here = f"{processor()}: {instruction_sets() or 'no instructions for INT8'}"
    if kernels_are_exact():
        return f"INT8 for CPUs is judged with the INT8 kernels of this processor, which are exact ({here})"
    return f"INT8 for CPUs is judged in float: the INT8 kernels of this processor are not exact ({here})"


@functools.cache
def kernels_are_exact() -> bool:
    """Return whether INT8 products of the largest numbers are exact here, in all operators that are quantised.

    One convolution, one matrix product and one Gemm in the form of the CPU graph, of inputs and weights that make
    16-bit sums saturate, against the same graph computed in float.
    """
    model = _largest_products()
    ranges = dict.fromkeys(("input", "convolved", "rows", "products", "gemm"), (np.float32(0), np.float32(255)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_int8(model, path, "int8-cpu", ranges)
        feeds = {"input": np.full((1, _CHANNELS, _FRAMES), 255, np.float32)}
        given, exact = (
            onnxruntime.InferenceSession(
                str(path), session_options("int8-cpu", simulated=simulated), providers=["CPUExecutionProvider"]
            ).run(None, feeds)
            for simulated in (False, True)
        )
    return all(np.allclose(one, other, rtol=_EXACT) for one, other in zip(given, exact, strict=True))


def _largest_products() -> onnx.ModelProto:
    """Return a float graph whose sums are as large as eight bits allow."""
    value = helper.make_tensor_value_info
    # As large as any weight of its channel, so that it becomes 127; small enough to keep the next input at 255.
    weights = np.full((_CHANNELS, _CHANNELS), 1 / _CHANNELS, np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["convolved"], name="encoder.conv1/Conv_0"),
        helper.make_node("Transpose", ["convolved"], ["moved"], perm=[0, 2, 1], name="encoder/Transpose_1"),
        helper.make_node("Reshape", ["moved", "shape"], ["rows"], name="encoder/Reshape_2"),
        helper.make_node("MatMul", ["rows", "weights"], ["products"], name="encoder.layers.0.fc1/MatMul_3"),
        helper.make_node("Gemm", ["rows", "gemm_weights"], ["gemm"], name="linguistic/Gemm_4"),
        helper.make_node("Identity", ["products"], ["from_matmul"], name="encoder/Identity_5"),
        helper.make_node("Identity", ["gemm"], ["from_gemm"], name="encoder/Identity_6"),
    ]
    graph = helper.make_graph(
        nodes,
        "largest_products",
        [value("input", TensorProto.FLOAT, [1, _CHANNELS, _FRAMES])],
        [value(name, TensorProto.FLOAT, [_FRAMES, _CHANNELS]) for name in ("from_matmul", "from_gemm")],
        [
            numpy_helper.from_array(weights[:, :, None].copy(), "kernel"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(weights, "gemm_weights"),
            numpy_helper.from_array(np.array([_FRAMES, _CHANNELS], np.int64), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

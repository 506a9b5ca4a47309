"""Write the graph that shows whether INT8 products are exact on a processor: ``python -m tests.largest_products``.

It is made by the quantiser that makes the CPU graph, so that its operators are those of a bundle.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.engines.kernels import CHANNELS, FRAMES, PRODUCTS
from export.int8.quantise import write_int8


def write_largest_products(path: Path) -> None:
    """Write the graph; its input and its outputs are float32."""
    ranges = dict.fromkeys(("input", "convolved", "rows", "products", "gemm"), (np.float32(0), np.float32(255)))
    write_int8(_float_graph(), path, "int8-cpu", ranges)


def _float_graph() -> onnx.ModelProto:
    """Return a float graph whose sums are as large as 8 bits allow."""
    value = helper.make_tensor_value_info
    # As large as any weight of its channel, so that it becomes 127; small enough to keep the next input at 255.
    weights = np.full((CHANNELS, CHANNELS), 1 / CHANNELS, np.float32)
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
        [value("input", TensorProto.FLOAT, [1, CHANNELS, FRAMES])],
        [value(name, TensorProto.FLOAT, [FRAMES, CHANNELS]) for name in ("from_matmul", "from_gemm")],
        [
            numpy_helper.from_array(weights[:, :, None].copy(), "kernel"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(weights, "gemm_weights"),
            numpy_helper.from_array(np.array([FRAMES, CHANNELS], np.int64), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


if __name__ == "__main__":
    write_largest_products(PRODUCTS)

"""The float graph to INT8: one Q/DQ form for ONNX Runtime on CPUs, another for TensorRT."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

from edge_runtime.bundles.manifest import Precision
from export.graphs.cpu_graph import fuse_gelu, store_tables_in_half
from export.graphs.half import to_half
from export.graphs.policy import QUANTISED_OPERATORS, choose
from export.int8.calibrate import Ranges

# Fastest on CPUs with VNNI: unsigned activations with a zero point, signed weights, 32-bit bias. Outputs of matrix
# products stay in float: ONNX Runtime then uses one node from INT8 to float, which is faster than rounding the output,
# nearer to the float graph, and keeps Softmax in float. A convolution has no such node.
_CPU: dict[str, Any] = {
    "activation_qType": QuantType.QUInt8,
    "weight_qType": QuantType.QInt8,
    "extra_options": {"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
}
# TensorRT's parser accepts only this: symmetric and signed, no quantised bias, a separate Q/DQ pair at every consumer.
_TENSORRT: dict[str, Any] = {
    "activation_qType": QuantType.QInt8,
    "weight_qType": QuantType.QInt8,
    "extra_options": {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "DedicatedQDQPair": True,
        "OpTypesToExcludeOutputQuantization": list(QUANTISED_OPERATORS),
        "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "MatMul": 1, "Gemm": 0},
    },
}
FORMS: dict[Precision, dict[str, Any]] = {"int8-cpu": _CPU, "int8-trt": _TENSORRT}


def write_int8(
    model: onnx.ModelProto,
    target: Path,
    precision: Precision,
    ranges: Ranges,
    keep_float: Collection[str] = (),
    *,
    half: bool = True,
) -> dict[str, Any]:
    """Write an INT8 Q/DQ graph with measured ranges.

    Args:
        model: the float graph; not changed.
        target: where to write.
        precision: ``int8-cpu`` or ``int8-trt``.
        ranges: of every activation that a quantised node reads or writes.
        keep_float: groups of `export.graphs.policy` that stay in float.
        half: TensorRT's form computes in FP16 between its INT8 layers; in float32 without it, for comparisons.

    Returns:
        Number of quantised nodes, and nodes in float with the reason.
    """
    choices = choose(model, keep_float)
    form = FORMS[precision]
    # Inferred shapes of the float graph would contradict the new one.
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    del clean.graph.value_info[:]
    if precision == "int8-cpu":
        fuse_gelu(clean)
    with _without_advice():
        quantiser = QDQQuantizer(
            save_and_reload_model_with_shape_infer(clean),
            per_channel=True,
            reduce_range=False,
            weight_qType=form["weight_qType"],
            activation_qType=form["activation_qType"],
            tensors_range=TensorsData(
                CalibrationMethod.MinMax,
                {name: TensorData(lowest=low, highest=high) for name, (low, high) in _typed(ranges).items()},
            ),
            nodes_to_quantize=[choice.node for choice in choices if choice.quantise],
            nodes_to_exclude=[],
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            # The quantiser adds to them.
            extra_options=dict(form["extra_options"]),
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
    quantised = quantiser.model.model
    quantised.ir_version = model.ir_version
    if precision == "int8-cpu":
        store_tables_in_half(quantised)
    else:
        restore_float_routes(quantised)
        if half:
            to_half(quantised)
    # The quantiser adds com.microsoft even where no node is of it; TensorRT would look for a plug-in.
    used = {node.domain for node in quantised.graph.node}
    for entry in [entry for entry in quantised.opset_import if entry.domain not in used]:
        quantised.opset_import.remove(entry)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, target)
    return {
        "quantised": sum(choice.quantise for choice in choices),
        "left_in_float": {choice.node: choice.reason for choice in choices if not choice.quantise},
    }


def _typed(ranges: Ranges) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    return {name: (np.asarray(low, np.float32), np.asarray(high, np.float32)) for name, (low, high) in ranges.items()}


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the advice to run ONNX Runtime's pre-processing, which undoes what TensorRT needs."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def restore_float_routes(model: onnx.ModelProto) -> int:
    """Let every node that stays in float read the tensor before its Q/DQ pair, in place; return how many changed.

    Where a quantised MatMul shares its input with other nodes, ONNX Runtime's quantiser passes the dequantised tensor
    to all of them. In a post-norm encoder (HuBERT, wav2vec2) one is the residual Add, whose sum must stay in float;
    behind the branches one is the regression of dimensions.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    before = {}
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        maker = made_by.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if maker is not None and maker.op_type == "QuantizeLinear":
            before[node.output[0]] = maker.input[0]
    changed = 0
    for node in model.graph.node:
        if node.op_type not in QUANTISED_OPERATORS or not dequantised.issuperset(node.input[:2]):
            for index, name in enumerate(node.input):
                if name in before:
                    node.input[index] = before[name]
                    changed += 1
    return changed

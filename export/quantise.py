"""The float graph to INT8: one Q/DQ form for ONNX Runtime on CPUs, another for TensorRT."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from edge_runtime.audio import Pcm
from edge_runtime.errors import EdgeemoError
from edge_runtime.manifest import Precision
from export.half import to_half
from export.policy import QUANTISED_OPERATORS, choose
from export.routes import restore_float_routes

# Fastest on CPUs with VNNI: unsigned activations with a zero point, signed weights, 32-bit bias.
_CPU: dict[str, Any] = {
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "extra_options": {},
}
# All that TensorRT's parser takes: symmetric and signed, no quantised bias, a Q/DQ pair of its own at every consumer.
_TENSORRT: dict[str, Any] = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
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


def quantise(
    source: Path,
    target: Path,
    precision: Precision,
    windows: Iterable[Pcm],
    reference: npt.NDArray[np.float32],
) -> dict[str, Any]:
    """Write an INT8 Q/DQ graph.

    Args:
        source: the float graph.
        target: where to write.
        precision: ``int8-cpu`` or ``int8-trt``.
        windows: calibration windows ``[samples]``, from training folds only.
        reference: ``[1, D]`` that goes with them.

    Returns:
        What was done, for the bundle: method, number of windows, nodes quantised, nodes left in float and why.

    Raises:
        EdgeemoError: there are no calibration windows, or one holds NaN.
    """
    model = onnx.load(source)
    choices = choose(model)
    reader = _Windows(windows, reference)
    form = FORMS[precision]
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        # Inferred shapes of the float graph would contradict the new one.
        del model.graph.value_info[:]
        clean = Path(folder) / "float.onnx"
        onnx.save(model, clean)
        quantize_static(
            clean,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            nodes_to_quantize=[choice.node for choice in choices if choice.quantise],
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            **form,
        )
    quantised = onnx.load(target)
    quantised.ir_version = model.ir_version
    if precision == "int8-trt":
        restore_float_routes(quantised)
        to_half(quantised)
    # The quantiser adds com.microsoft even where no node is of it; TensorRT would look for a plug-in.
    used = {node.domain for node in quantised.graph.node}
    for entry in [entry for entry in quantised.opset_import if entry.domain not in used]:
        quantised.opset_import.remove(entry)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, target)
    return {
        "calibration": "minmax",
        "windows": reader.count,
        "quantised": sum(choice.quantise for choice in choices),
        "left_in_float": {choice.node: choice.reason for choice in choices if not choice.quantise},
    }


class _Windows(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration windows to ONNX Runtime's calibrator, one at a time."""

    def __init__(self, windows: Iterable[Pcm], reference: npt.NDArray[np.float32]) -> None:
        self._windows: Iterator[Pcm] = iter(windows)
        self._reference = reference
        self.count = 0

    def get_next(self) -> dict[str, Any] | None:
        window = next(self._windows, None)
        if window is None:
            if self.count == 0:
                raise EdgeemoError("there are no windows to calibrate INT8 with; the training part of the run is empty")
            return None
        if not np.isfinite(window).all():
            raise EdgeemoError(f"calibration window {self.count} holds samples that are not numbers (NaN or infinity)")
        self.count += 1
        return {"pcm": window[np.newaxis], "reference": self._reference}


class _without_advice:  # noqa: N801  (used like a function)
    """Silence the advice to run ONNX Runtime's pre-processing, which undoes what TensorRT needs."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)

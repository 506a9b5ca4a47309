"""The machine's limit: the best matrix products of the same ONNX Runtime on the same cores in the same run.

A graph's multiply-accumulates per second relative to that limit are comparable across machines.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime

from benchmarks.bench.device.device_sections import GraphRate, MachineLimit, MatrixProduct
from edge_runtime.bundles.manifest import Manifest
from edge_runtime.engines.engine import session_options

if TYPE_CHECKING:
    import onnx

SIZES = ((150, 512, 512), (150, 512, 2048), (512, 512, 512), (512, 1024, 1024))
"""Products ``[m, k] x [k, n]``: two of a student of base width for three seconds, and two that fill the caches."""
OPERATORS: tuple[tuple[Literal["fp32", "int8"], str], ...] = (
    ("fp32", "MatMul"),
    ("int8", "MatMulInteger"),
    ("int8", "QLinearMatMul"),
)
FRAMES_PER_SECOND = 50
"""Frames of the attention layers, one every 20 ms, in Whisper (two frames of 10 ms each) and in the wav2vec2 family."""
_BUDGET_SECONDS = 0.15
_FEWEST = 5
_HEAD = "branches and head"
"""Name in `distill.pruning.macs` of the part that runs once per window."""


def measure_limit(threads: int, sizes: Sequence[tuple[int, int, int]] = SIZES) -> MachineLimit:
    """Time generated matrix products; the best of each kind is the limit.

    INT8 is unsigned by signed, as in the graphs for CPUs. Weights are constants, so that ONNX Runtime packs them.

    Args:
        threads: within one operator.
        sizes: ``(m, k, n)`` of each product.
    """
    if importlib.util.find_spec("onnx") is None:
        return MachineLimit(not_measured='not measured (pip install "edgeemo[export]" brings the package onnx)')
    products = [_measure(kind, operator, size, threads) for kind, operator in OPERATORS for size in sizes]

    def best(kind: str) -> float:
        return max(each.gmacs_per_second for each in products if each.kind == kind)

    return MachineLimit(threads=threads, best_fp32_gmacs=best("fp32"), best_int8_gmacs=best("int8"), products=products)


def graph_rate(
    limit: MachineLimit, manifest: Manifest, precision: str, window_seconds: float, p50_ms: float, best_ms: float
) -> GraphRate | None:
    """Return the rate of a graph relative to the limit; None where the limit or the graph's count is unknown.

    Args:
        limit: measured with the same number of threads.
        manifest: of the bundle, with its counts.
        precision: of the graph.
        window_seconds: length of the timed windows.
        p50_ms: median time of one.
        best_ms: time of the fastest one.
    """
    macs = window_macs(manifest, window_seconds)
    kind: Literal["fp32", "int8"] = "int8" if precision.startswith("int8") else "fp32"
    best = limit.best_int8_gmacs if kind == "int8" else limit.best_fp32_gmacs
    if macs is None or best is None:
        return None
    rate = macs / p50_ms / 1e6
    return GraphRate(
        precision=precision,
        macs=macs,
        window_seconds=window_seconds,
        p50_ms=round(p50_ms, 3),
        gmacs_per_second=round(rate, 2),
        limit=kind,
        share=round(rate / best, 4),
        best_ms=round(best_ms, 3),
        best_share=round(macs / best_ms / 1e6 / best, 4),
    )


def window_macs(manifest: Manifest, seconds: float) -> int | None:
    """Return the multiply-accumulates of one window; None where the bundle has no count.

    The bundle has the counts for its window. For another length they are scaled: parts that run once per window keep
    theirs, those that run per frame grow with the frames ``f``, and the part ``2 f w`` of attention with their square
    (`distill/encoders/interface.py`: ``f (4 h w + 2 f w)`` for a hidden size ``h`` and a total width of heads ``w``).
    """
    if not manifest.macs:
        return None
    own = manifest.window.seconds
    if seconds == own:
        return sum(manifest.macs.values())
    ratio = seconds / own
    if manifest.window.chunk:
        # Each chunk costs the same.
        return round(sum(manifest.macs.values()) * ratio)
    hidden, frames = manifest.encoder.d_model, FRAMES_PER_SECOND * own
    squared = (4 * hidden + 2 * frames * ratio) / (4 * hidden + 2 * frames)
    total = 0.0
    for part, count in manifest.macs.items():
        if part == _HEAD:
            total += count
        elif part.endswith(".attention"):
            total += count * ratio * squared
        else:
            total += count * ratio
    return round(total)


def _measure(kind: Literal["fp32", "int8"], operator: str, size: tuple[int, int, int], threads: int) -> MatrixProduct:
    m, k, n = size
    model = _model(operator, k, n)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options("fp32", threads), providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    left = (
        random.normal(size=(m, k)).astype(np.float32) if kind == "fp32" else random.integers(0, 256, (m, k), np.uint8)
    )
    best = _best_seconds(session, {"left": left})
    return MatrixProduct(
        kind=kind,
        operator=operator,
        m=m,
        k=k,
        n=n,
        best_ms=round(best * 1000, 4),
        gmacs_per_second=round(m * k * n / best / 1e9, 2),
    )


def _best_seconds(session: Any, feeds: dict[str, Any]) -> float:
    for _ in range(2):
        session.run(None, feeds)
    best, count, ends = float("inf"), 0, time.perf_counter() + _BUDGET_SECONDS
    while count < _FEWEST or time.perf_counter() < ends:
        began = time.perf_counter()
        session.run(None, feeds)
        best = min(best, time.perf_counter() - began)
        count += 1
    return best


def _model(operator: str, k: int, n: int) -> onnx.ModelProto:
    """Return a graph of one product of ``left`` with a constant ``[k, n]``."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    if operator == "MatMul":
        weights = random.normal(size=(k, n)).astype(np.float32)
    else:
        # 7 bits: on processors without VNNI two products of 8 bits would overflow 16.
        weights = random.integers(-64, 64, (k, n), np.int8)
    constants = [numpy_helper.from_array(weights, "right")]
    inputs = ["left", "right"]
    left, out = TensorProto.FLOAT, TensorProto.FLOAT
    if operator == "MatMulInteger":
        left, out = TensorProto.UINT8, TensorProto.INT32
        constants += [_scalar("left_zero", 128, np.uint8), _scalar("right_zero", 0, np.int8)]
        inputs += ["left_zero", "right_zero"]
    elif operator == "QLinearMatMul":
        left, out = TensorProto.UINT8, TensorProto.UINT8
        for name, zero, kind in (("left", 128, np.uint8), ("right", 0, np.int8), ("out", 128, np.uint8)):
            constants += [_scalar(f"{name}_scale", 0.01, np.float32), _scalar(f"{name}_zero", zero, kind)]
        inputs = ["left", "left_scale", "left_zero", "right", "right_scale", "right_zero", "out_scale", "out_zero"]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["product"])],
        "product",
        [helper.make_tensor_value_info("left", left, ["m", k])],
        [helper.make_tensor_value_info("product", out, ["m", n])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _scalar(name: str, value: float, kind: type[np.generic]) -> onnx.TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(value, kind), name)

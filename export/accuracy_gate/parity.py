"""Parity: how far each graph is from the one that it should equal, and the limit of each comparison.

    PyTorch -> FP32 ONNX -> INT8 ONNX (CPU form), INT8 ONNX (TensorRT form, FP16 between), FP16 ONNX
    TensorRT engine, on the device -> the graph that it was built from (`edge_runtime/tensorrt/check.py`)

The TensorRT form is compared as a float simulation of its Q/DQ nodes in ONNX Runtime, graph optimisation off, which
depends neither on the processor nor on a GPU. Each graph is compared on speech, and on the edge cases of
`edge_windows`. On these INT8 need only give finite logits: calibration has no such sounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from distill.scoring import student_score
from distill.student import Student
from edge_runtime.bundles.manifest import Precision
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import OnnxEngine, Outputs
from edge_runtime.engines.parity import Inputs, Parity, measure
from edge_runtime.errors import EdgeemoError, GateError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.windows import SHORTEST
from export.loaded_run import LoadedRun

PARITY_WINDOWS = 64
MEAN_FLOAT_DIFFERENCE = 5e-4
"""Float graphs compute the same thing: more than rounding is a fault of the export. About ten times what was measured
on 160 windows of RAVDESS through three blocks of Whisper-base: 3e-5 with branches and head, 6e-5 with an LDA head."""
MAX_FLOAT_DIFFERENCE = 0.02
"""Four times what was measured there: 0.0047 in the worst window, 0.002 at the 99th percentile, 1e-6 in the best. Of
the worst windows about half is near-silent (down to 98 dB under full scale): rounding decides what so little power adds
up to, and the logarithm of the mel spectrum makes a large difference of it."""
MIN_FP16_COSINE = 0.999
"""FP16 keeps three digits, and what it cannot hold is left in float32."""
MIN_INT8_COSINE = 0.97
"""Whole encoders wrecked by INT8 in the wrong places were seen at 0.61 to 0.95; sound ones at 0.999."""


def edge_windows(longest: int, shortest: int = SHORTEST) -> dict[str, Pcm]:
    """Return sounds at the limits of what a device may record, ``[samples]`` at 16 kHz by name."""
    random = np.random.default_rng(0)
    second = min(SAMPLE_RATE, longest)
    impulse = np.zeros(second, np.float32)
    impulse[second // 2] = 1.0
    return {
        "digital silence": np.zeros(second, np.float32),
        "a single impulse": impulse,
        "direct current": np.full(second, 0.5, np.float32),
        "full-scale noise": random.uniform(-1, 1, second).astype(np.float32),
        "the shortest window": random.normal(0, 0.05, shortest).astype(np.float32),
        "the longest window": random.normal(0, 0.05, longest).astype(np.float32),
    }


def compare(lower: str, logits: Floats, upper: str, wanted: Floats, inputs: Inputs = "speech") -> Parity:
    """Compare the logits ``[windows, classes]`` of two graphs.

    Raises:
        GateError: they are further apart than allowed.
    """
    found = measure(lower, logits, upper, wanted, inputs)
    refuse_faulty(found, f"on {inputs}, the exported graph differs from PyTorch", "mean logit")
    least = MIN_FP16_COSINE if lower == "fp16" else MIN_INT8_COSINE
    if lower != "fp32" and inputs == "speech" and not found.mean_cosine >= least:
        raise GateError(
            f"the {lower} graph's logits have a mean cosine of {found.mean_cosine:.3f} with FP32 "
            f"(limit {least}): {lower.partition('-')[0].upper()} breaks this student on every processor, "
            "no bundle was written"
        )
    return found


class _Differences(Protocol):
    lower: str
    mean_difference: float
    largest_difference: float


def refuse_faulty(found: _Differences, differs: str, mean: str) -> None:
    """Refuse a float graph that differs from PyTorch by more than rounding; NaN is more.

    Args:
        found: the comparison; of another graph nothing is refused.
        differs: how the message begins.
        mean: what the mean is of.

    Raises:
        GateError: it does.
    """
    sound = found.mean_difference <= MEAN_FLOAT_DIFFERENCE and found.largest_difference <= MAX_FLOAT_DIFFERENCE
    if found.lower == "fp32" and not sound:
        raise GateError(
            f"{differs} by {found.mean_difference:.2g} in the {mean} and {found.largest_difference:.2g} in the worst "
            f"(limits {MEAN_FLOAT_DIFFERENCE} and {MAX_FLOAT_DIFFERENCE}): the export is faulty, no bundle was written"
        )


class Ladder(NamedTuple):
    """What `check_parity` found.

    Attributes:
        parity: each comparison of logits.
        speech: outputs for validation windows: of PyTorch, then of each graph.
    """

    parity: list[Parity]
    speech: dict[str, Outputs]


def check_parity(run: LoadedRun, student: Student, engines: Mapping[Precision, OnnxEngine]) -> Ladder:
    """Compare every graph with the one that it should equal, on speech and on edge cases.

    Raises:
        GateError: two are further apart than allowed, or logits are not finite.
    """
    edges = edge_windows(run.policy.samples, max(SHORTEST, student.encoder.minimum_samples))
    speech = run.windows("validation", PARITY_WINDOWS)
    score = student_score(student)
    upper = "pytorch"
    outputs = {upper: score(speech)}
    wanted, wanted_edges = outputs[upper].logits, np.concatenate([score([pcm]).logits for pcm in edges.values()])
    found = []
    for precision, engine in engines.items():
        outputs[precision] = engine.outputs(speech)
        logits, at_edges = outputs[precision].logits, _finite(engine, edges, precision)
        found.append(compare(precision, logits, upper, wanted))
        found.append(compare(precision, at_edges, upper, wanted_edges, "edge cases"))
        if precision == "fp32":
            upper, wanted, wanted_edges = "fp32", logits, at_edges
    return Ladder(found, outputs)


def _finite(engine: OnnxEngine, windows: Mapping[str, Pcm], precision: Precision) -> Floats:
    """Return the logits of edge cases; `GateError` if one of them is not finite."""

    def logits(name: str, pcm: Pcm) -> Floats:
        try:
            return engine.score(pcm).logits
        except EdgeemoError as error:
            raise GateError(
                f"the {precision} graph fails on {name} ({error.message}): the export is faulty, no bundle was written"
            ) from error

    return np.stack([logits(name, pcm) for name, pcm in windows.items()])

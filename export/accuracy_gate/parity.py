"""The parity ladder: how far each graph is from the one before it, with a rule to stop at every rung.

    PyTorch -> FP32 ONNX -> INT8 ONNX (CPU form), INT8 ONNX (TensorRT form, FP16 between), FP16 ONNX
    TensorRT engine, on the device -> the graph that it was built from (`edge_runtime/tensorrt/check.py`)

The TensorRT form is judged as a float simulation of its Q/DQ nodes in ONNX Runtime, graph optimisation off, which
depends neither on the processor nor on a GPU. Each rung is climbed twice: with speech, and with the edge cases of
`edge_windows`, for which only finite logits are required of INT8: calibration has seen no such sound.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.decision import Floats
from edge_runtime.engines.parity import Inputs, Parity, measure
from edge_runtime.errors import GateError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.windows import SHORTEST

MEAN_FLOAT_DIFFERENCE = 5e-4
"""Float graphs compute the same thing: more than rounding is a fault of the export. About ten times what was measured
on 160 windows of RAVDESS through three blocks of Whisper-base: 3e-5 with branches and head, 6e-5 with a direct map."""
LARGEST_FLOAT_DIFFERENCE = 0.02
"""Four times what was measured there: 0.0047 in the worst window, 0.002 at the 99th percentile, 1e-6 in the best. Of
the worst windows about half is near-silent (down to 98 dB under full scale): rounding decides what so little power adds
up to, and the logarithm of the mel spectrum makes a large difference of it."""
LEAST_FP16_COSINE = 0.999
"""FP16 keeps three digits, and what it cannot hold is left in float32."""
LEAST_INT8_COSINE = 0.97
"""Whole encoders wrecked by INT8 in the wrong places were seen at 0.61 to 0.95; sound ones at 0.999."""


def edge_windows(longest: int, shortest: int = SHORTEST) -> dict[str, Pcm]:
    """Return sounds at the edges of what a device may give, ``[samples]`` at 16 kHz by name.

    Args:
        longest: samples of the longest window.
        shortest: samples of the shortest one that is scored.
    """
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


def compare(lower: str, judged: Floats, upper: str, wanted: Floats, inputs: Inputs = "speech") -> Parity:
    """Compare the logits ``[windows, classes]`` of two graphs.

    Raises:
        GateError: they are further apart than the rung allows.
    """
    rung = measure(lower, judged, upper, wanted, inputs)
    sound = rung.mean_difference <= MEAN_FLOAT_DIFFERENCE and rung.largest_difference <= LARGEST_FLOAT_DIFFERENCE
    if lower == "fp32" and not sound:
        raise GateError(
            f"on {inputs}, the exported graph differs from PyTorch by {rung.mean_difference:.2g} in the mean logit and "
            f"{rung.largest_difference:.2g} in the worst (limits {MEAN_FLOAT_DIFFERENCE} and "
            f"{LARGEST_FLOAT_DIFFERENCE}): the export is faulty, no bundle was written"
        )
    least = LEAST_FP16_COSINE if lower == "fp16" else LEAST_INT8_COSINE
    if lower != "fp32" and inputs == "speech" and not rung.mean_cosine >= least:
        raise GateError(
            f"the {lower} graph's logits have a mean cosine of {rung.mean_cosine:.3f} with FP32 "
            f"(limit {least}): {lower.partition('-')[0].upper()} breaks this student on every processor, "
            "no bundle was written"
        )
    return rung

"""Known answers of a bundle: a sound, its logits in exact arithmetic, and the error that an engine may have.

Exact arithmetic is the graph computed in float without INT8 kernels: the rounding to 8 bits is in the graph's own
nodes, and float holds the sums of their products without saturation.

The tolerance is derived from the effect of an error on decisions. Let the logits of a window have an independent error
of standard deviation s. The two best logits, apart by a margin m, change places with probability Phi(-m / (s sqrt 2)),
and the expected accuracy then falls by the difference of their calibrated probabilities. The tolerance is the s at
which the mean fall over validation windows is half a point.

Of predicted dimensions, an independent error of standard deviation e adds e^2 to the denominator of the concordance
correlation coefficient. Where predictions and targets have variance v, it falls by e^2 / (2 v) of its value: by half a
hundredth at ``e = sqrt(v) / 10``, the tolerance.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_runtime.bundles.known_answers import entry_of, synthetic_signal, windows_of
from edge_runtime.bundles.manifest import GRAPHS, KNOWN_ANSWERS, KnownAnswersEntry, Precision, graph_name
from edge_runtime.decision import Floats, softmax
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.engines.kernels import products_are_exact
from edge_runtime.files import replacing
from edge_runtime.windows import WindowPolicy

MAX_LOSS = 0.005
"""Expected loss of accuracy at the tolerance: half a point, the design's limit for any processor."""
_MAX_SHARE = 0.5
"""The tolerance is never over this share of the logits' deviation: for a student that decides almost by chance no
error costs half a point, and an engine with other results must still fail."""
_DIMENSION_SHARE = 0.1
_MIN_ERROR = 1e-4
"""For a student that gives the same logits for everything."""
_ROUNDING = 4
"""The tolerance is never under this multiple of what exact INT8 kernels differ by: a float sum in another order moves
some values to the next step of 8 bits. This error differs by a factor of two between processors and versions."""


def write_known_answers(
    folder: Path, reference: Floats, policy: WindowPolicy, validation: Floats, temperature: float
) -> KnownAnswersEntry:
    """Write the sound into a staged bundle that holds its graphs, and return its entry for ``bundle.json``.

    Args:
        folder: the staging directory.
        reference: ``[1, D]`` default reference of the student.
        policy: of the student's windows.
        validation: float logits ``[windows, classes]`` of validation speakers.
        temperature: calibration temperature.
    """
    sound, stretches = synthetic_signal(policy.samples, policy.chunk)
    with replacing(folder / KNOWN_ANSWERS) as temporary:
        temporary.write_bytes(sound.astype("<i2").tobytes())
    windows = list(windows_of(sound, stretches))
    logits: dict[Precision, Floats] = {
        precision: OnnxEngine(folder / name, reference, precision, simulated=True).score_windows(windows)
        for name, precision in GRAPHS.items()
        if (folder / name).is_file()
    }
    allowed = tolerance(validation, temperature)
    if "int8-cpu" in logits and products_are_exact():
        kernels = OnnxEngine(folder / graph_name("int8-cpu"), reference, "int8-cpu").score_windows(windows)
        allowed = max(allowed, _ROUNDING * float(np.sqrt(np.square(kernels - logits["int8-cpu"]).mean())))
    return entry_of(stretches, logits, allowed)


def tolerance(logits: Floats, temperature: float) -> float:
    """Return the standard deviation of an error of the logits ``[windows, classes]`` that costs `MAX_LOSS`."""
    ranked = np.sort(np.asarray(logits, np.float64), axis=1)
    margins = ranked[:, -1] - ranked[:, -2]
    sure = np.sort(softmax(logits, temperature), axis=1)
    gaps = sure[:, -1] - sure[:, -2]
    low, high = 0.0, max(_MAX_SHARE * float(np.std(logits)), _MIN_ERROR)
    # The loss grows with the error, so halving finds it; 60 times is beyond a float's digits.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _expected_loss(margins, gaps, middle) > MAX_LOSS else (middle, high)
    return high


def _expected_loss(margins: Floats, gaps: Floats, error: float) -> float:
    # Phi(-m / (s sqrt 2)) is erfc(m / (2 s)) / 2.
    changed = [0.5 * math.erfc(float(margin) / (2 * error)) for margin in margins]
    return float(np.mean(np.array(changed) * gaps))


class DimensionAnswers(NamedTuple):
    """Known answers of predicted dimensions: ``[stretches, K]`` of each graph, and the tolerance."""

    answers: dict[Precision, Floats]
    tolerance: float


def dimension_answers(folder: Path, reference: Floats, policy: WindowPolicy, validation: Floats) -> DimensionAnswers:
    """Return the dimensions that the graphs of a staged bundle give for the sound of the known answers.

    Args:
        folder: the staging directory.
        reference: ``[1, D]`` default reference of the student.
        policy: of the student's windows.
        validation: float dimensions ``[windows, K]`` of validation speakers.
    """
    windows = list(windows_of(*synthetic_signal(policy.samples, policy.chunk)))
    answers: dict[Precision, Floats] = {
        precision: OnnxEngine(folder / name, reference, precision, simulated=True).outputs(windows).dimensions
        for name, precision in GRAPHS.items()
        if (folder / name).is_file()
    }
    allowed = max(_DIMENSION_SHARE * float(validation.std(axis=0).min()), _MIN_ERROR)
    if "int8-cpu" in answers and products_are_exact():
        kernels = OnnxEngine(folder / graph_name("int8-cpu"), reference, "int8-cpu").outputs(windows).dimensions
        allowed = max(allowed, _ROUNDING * float(np.sqrt(np.square(kernels - answers["int8-cpu"]).mean())))
    return DimensionAnswers(answers, allowed)

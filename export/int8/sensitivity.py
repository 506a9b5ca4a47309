"""Cost of INT8 by part of a student: each group of nodes in float in turn, on validation speakers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from pydantic import BaseModel, ConfigDict

from edge_runtime.bundles.manifest import Precision
from edge_runtime.decision import Floats
from export.graphs.policy import choose, groups
from export.int8.calibrate import Ranges
from export.int8.quantise import write_int8

Evaluate = Callable[[Path, Precision], "WindowScores"]


class WindowScores(NamedTuple):
    """Of an INT8 graph on validation windows: logit error (`logit_error`) and unweighted accuracy."""

    error: float
    ua: float


class Sensitivity(BaseModel):
    """Effect of one group (`export.graphs.policy.group_of`) in float, all others in INT8.

    ``error`` and ``ua`` are as in `WindowScores`; ``gain`` is by how much the error is less than with all in INT8.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str
    nodes: int
    error: float
    gain: float
    ua: float


def logit_error(logits: Floats, wanted: Floats) -> float:
    """Return the root mean square difference of logits ``[N, C]``, relative to the deviation of the wanted ones."""
    return float(np.sqrt(np.square(logits - wanted).mean()) / max(float(wanted.std()), 1e-12))


def measure_sensitivity(
    model: onnx.ModelProto,
    ranges: Ranges,
    precision: Precision,
    evaluate: Evaluate,
    *,
    tick: Callable[[str], None] = lambda group: None,
) -> list[Sensitivity]:
    """Leave each group in float in turn; return a row for each group, the most costly first.

    ``tick`` is called with each group before it is measured.
    """

    def error_without(kept: Collection[str]) -> WindowScores:
        with tempfile.TemporaryDirectory() as folder:
            write_int8(model, Path(folder) / "model.onnx", precision, ranges, kept)
            return evaluate(Path(folder) / "model.onnx", precision)

    everything = error_without(())
    rows = []
    for group, nodes in groups(choose(model)).items():
        tick(group)
        found = error_without([group])
        rows.append(
            Sensitivity(group=group, nodes=nodes, error=found.error, gain=everything.error - found.error, ua=found.ua)
        )
    return sorted(rows, key=lambda row: -row.gain)

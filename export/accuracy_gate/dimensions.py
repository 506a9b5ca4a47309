"""Predicted dimensions of an export: parity between graphs, and the gate by concordance (CCC).

Beside the accuracy gate: a graph fails where the upper end of the interval of its loss of CCC, for one of the
dimensions, exceeds the limit. Without an interval, for too few speakers, it fails.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from distill.evaluation.concordance import Concordance, drop
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.intervals import Interval, with_ends
from edge_runtime.bundles.manifest import Precision
from edge_runtime.decision import Floats
from edge_runtime.dimensions import Dimension
from edge_runtime.errors import GateError
from export.accuracy_gate.parity import refuse_faulty

_EVERY_LOSS = 2.0
"""A loss that no CCC can exceed."""


class DimensionParity(BaseModel):
    """How far the dimensions of two graphs are apart on the same windows of speech.

    ``largest_difference`` is the largest absolute one, ``mean_difference`` the mean.
    """

    lower: str
    upper: str
    windows: int
    largest_difference: float
    mean_difference: float


class DimensionDrop(BaseModel):
    """Loss of CCC against the baseline on the same utterances, negative for a gain.

    ``interval`` is the 95 % interval over speakers; None for too few speakers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ccc: float
    interval: Interval | None

    @property
    def most(self) -> float:
        """The largest loss that is not excluded."""
        return _EVERY_LOSS if self.interval is None else self.interval.high

    @property
    def text(self) -> str:
        """The loss with its interval, or why it has none."""
        low, high = (None, None) if self.interval is None else (self.interval.low, self.interval.high)
        return with_ends(self.ccc, low, high, "+.3f")


class DimensionGate(BaseModel):
    """Verdict of the gate by CCC.

    Attributes:
        baseline: what graphs are compared with: ``fp32``, or ``unpruned`` if the student itself was changed.
        max_drop: the largest loss of CCC that the upper end of an interval may have.
        drops: loss of each graph by dimension; without dimensions that the tested utterances have no targets of.
        failed: graphs that lose more than allowed.
        overridden: the bundle was written although graphs failed (``--allow-drop``).
    """

    model_config = ConfigDict(extra="forbid")

    baseline: str
    max_drop: float
    drops: dict[Precision, dict[Dimension, DimensionDrop]]
    failed: tuple[Precision, ...]
    overridden: bool = False

    @property
    def refused(self) -> bool:
        """Whether no bundle may be written."""
        return bool(self.failed) and not self.overridden


class DimensionReport(BaseModel):
    """What an export measured of the predicted dimensions.

    Attributes:
        names: in the order of the graph's output.
        concordance: on held-out speakers, by graph.
        gate: verdict of the gate.
        parity: distance of each graph from the one before it.
    """

    model_config = ConfigDict(extra="forbid")

    names: tuple[Dimension, ...]
    concordance: dict[str, dict[Dimension, Concordance]]
    gate: DimensionGate
    parity: list[DimensionParity]


def compare_dimensions(lower: str, found: Floats, upper: str, wanted: Floats) -> DimensionParity:
    """Compare the dimensions ``[windows, K]`` of two graphs.

    Raises:
        GateError: the float graph differs from PyTorch by more than rounding.
    """
    difference = np.abs(found - wanted)
    parity = DimensionParity(
        lower=lower,
        upper=upper,
        windows=len(found),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
    )
    refuse_faulty(parity, "the exported graph's dimensions differ from PyTorch's", "mean")
    return parity


def apply_dimension_gate(
    evaluations: Mapping[str, Evaluation],
    baseline: str,
    precisions: tuple[Precision, ...],
    *,
    max_drop: float,
    allow: bool,
) -> DimensionGate:
    """Return the verdict on the dimensions of graphs.

    Args:
        evaluations: decisions of each graph, with dimensions.
        baseline: the one that others are compared with.
        precisions: of the graphs that are judged.
        max_drop: the largest loss of CCC.
        allow: a failure does not refuse the bundle.
    """
    first = evaluations[baseline].dimensions
    assert first is not None
    drops: dict[Precision, dict[Dimension, DimensionDrop]] = {}
    for precision in precisions:
        other = evaluations[precision].dimensions
        assert other is not None
        drops[precision] = {}
        for name in first.concordance:
            ccc, interval = drop(first, other, name)
            drops[precision][name] = DimensionDrop(ccc=ccc, interval=interval)
    failed = tuple(
        precision for precision, each in drops.items() if not all(one.most <= max_drop for one in each.values())
    )
    return DimensionGate(
        baseline=baseline, max_drop=max_drop, drops=drops, failed=failed, overridden=bool(failed) and allow
    )


def dimension_gate_error(gate: DimensionGate, report: str) -> GateError:
    """Return the error for graphs that failed."""
    losses = ", ".join(
        f"{precision} {name} {each.text}"
        for precision in gate.failed
        for name, each in gate.drops[precision].items()
        if not each.most <= gate.max_drop
    )
    worst = max(each.most for precision in gate.failed for each in gate.drops[precision].values())
    accept = "--allow-drop" if worst >= _EVERY_LOSS else f"--max-ccc-drop {worst + 0.0005:.3f}"
    return GateError(
        f"the loss of concordance (CCC) may exceed {gate.max_drop:g}: {losses}; no bundle was written, the report is "
        f"{report}; test on more speakers, or accept the loss with {accept}"
    )

"""The accuracy gate: the loss of unweighted accuracy that an export may have at the upper end of its interval.

Every graph is compared with the run's student as it was trained, on the same held-out speakers. The interval is a
bootstrap over speakers: with few of them it is wide, and a sound graph may fail. For a single speaker, utterances are
resampled instead, which underestimates the variation between speakers; the report has the number of speakers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from edge_runtime.bundles.manifest import Precision
from edge_runtime.errors import GateError

MIN_SPEAKERS = 10


class Drop(BaseModel):
    """Loss of unweighted accuracy against the baseline on the same utterances, negative for a gain.

    ``low`` and ``high`` are the ends of its 95 % interval over speakers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ua: float
    low: float
    high: float


class AccuracyGate(BaseModel):
    """Verdict of the gate; in the bundle, or in the report of an export that failed it.

    Attributes:
        baseline: what graphs are compared with: ``fp32``, or ``unpruned`` if the student itself was changed.
        baseline_ua: its unweighted accuracy.
        max_drop: the largest loss that the upper end of an interval may have.
        speakers: how many held-out speakers.
        utterances: how many utterances of them.
        drops: loss of each graph.
        reference_utterances: utterances of the speaker before each tested one in `reference_drops`.
        reference_drops: the same after some utterances of the speaker, baseline and graph alike, for a student with a
            speaker model; the larger one counts.
        failed: graphs that lose more than allowed.
        overridden: the bundle was written although graphs failed (``--allow-drop``).
    """

    model_config = ConfigDict(extra="forbid")

    baseline: str
    baseline_ua: float
    max_drop: float
    speakers: int
    utterances: int
    drops: dict[Precision, Drop]
    reference_utterances: int = 0
    reference_drops: dict[Precision, Drop] = {}
    failed: tuple[Precision, ...]
    overridden: bool = False

    @property
    def passed(self) -> bool:
        """Whether no graph loses too much."""
        return not self.failed

    def worst(self, precision: Precision) -> Drop:
        """Return the loss of a graph that decides, of an unknown or a known speaker."""
        both = [self.drops[precision], self.reference_drops.get(precision, self.drops[precision])]
        return next((drop for drop in both if not drop.high <= self.max_drop), both[0])


def apply_gate(
    drops: Mapping[Precision, Drop],
    *,
    reference_drops: Mapping[Precision, Drop] | None = None,
    max_drop: float,
    allow: bool,
    **facts: Any,
) -> AccuracyGate:
    """Return the verdict on the losses of all graphs; NaN fails. ``facts`` are its other fields."""
    referenced = dict(reference_drops or {})
    failed = tuple(
        precision
        for precision, drop in drops.items()
        if not all(each.high <= max_drop for each in (drop, referenced.get(precision, drop)))
    )
    return AccuracyGate(
        max_drop=max_drop,
        drops=dict(drops),
        reference_drops=referenced,
        failed=failed,
        overridden=bool(failed) and allow,
        **facts,
    )


def gate_error(gate: AccuracyGate, report: str) -> GateError:
    """Return the error for graphs that failed."""
    losses = ", ".join(
        f"{precision} {drop.ua * 100:+.1f} points (95 % interval {drop.low * 100:+.1f} to {drop.high * 100:+.1f})"
        for precision in gate.failed
        for drop in [gate.worst(precision)]
    )
    people = "speaker" if gate.speakers == 1 else "speakers"
    few = (
        "; so few speakers make the interval wide: test on more of them, or accept the loss with "
        f"--max-drop {_suggested(gate)}"
        if gate.speakers < MIN_SPEAKERS
        else ""
    )
    return GateError(
        f"the loss of unweighted accuracy may exceed {gate.max_drop * 100:g} points on {gate.utterances} utterances of "
        f"{gate.speakers} held-out {people}: {losses}; no bundle was written, the report is {report}{few}"
    )


def _suggested(gate: AccuracyGate) -> str:
    worst = max(gate.worst(precision).high for precision in gate.failed)
    return f"{worst + 0.0005:.3f}"

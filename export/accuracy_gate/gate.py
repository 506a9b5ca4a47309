"""The accuracy gate: whether a graph decides better than by chance, and how much its export may have lost.

Both are judged on the same held-out speakers: the run's test part; for a student of all speakers, the test parts of its
folds together.

* Chance: the unweighted accuracy of each graph of the bundle against that of chance (`distill.evaluation.chance`).
* Loss: every graph is compared with the run's student as it was trained, utterance by utterance (with FP32, or with the
  unpruned student if the exported one was changed). The upper end of the loss' 95 % interval, a bootstrap over
  speakers, may be ``max_drop``. With few speakers the interval is wide, and a sound graph may fail. With fewer than
  three there is none: no loss is excluded then, and only ``max_drop`` = 1, which is every loss, passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill.evaluation.chance import Chance
from distill.evaluation.intervals import MIN_SPEAKERS, no_interval, with_ends
from edge_runtime.bundles.manifest import Precision
from edge_runtime.errors import GateError

FEW_SPEAKERS = 10
_EVERY_LOSS = 1.0


class Drop(BaseModel):
    """Loss of unweighted accuracy against the baseline on the same utterances, negative for a gain.

    ``low`` and ``high`` are the ends of its 95 % interval over speakers; None for too few speakers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ua: float
    low: float | None
    high: float | None

    @property
    def most(self) -> float:
        """The largest loss that is not excluded."""
        return _EVERY_LOSS if self.high is None else self.high

    def show(self, form: str, factor: float = 1.0) -> str:
        """Return the loss with its interval, or why it has none."""
        return with_ends(self.ua, self.low, self.high, form, factor)


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
        overridden: the bundle was written although graphs lose more (``--allow-drop``).
        chance: of each graph of the bundle, for unknown speakers.
        at_chance: graphs whose accuracy is at chance level.
        chance_allowed: the bundle was written although graphs are at chance level (``--allow-chance``).
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
    chance: dict[Precision, Chance] = {}
    at_chance: tuple[Precision, ...] = ()
    chance_allowed: bool = False

    @property
    def passed(self) -> bool:
        """Whether no graph loses too much or is at chance level."""
        return not (self.failed or self.at_chance)

    @property
    def refused(self) -> bool:
        """Whether no bundle may be written."""
        return bool(self.failed and not self.overridden) or bool(self.at_chance and not self.chance_allowed)

    def worst(self, precision: Precision) -> Drop:
        """Return the loss of a graph that decides, of an unknown or a known speaker."""
        both = [self.drops[precision], self.reference_drops.get(precision, self.drops[precision])]
        return next((drop for drop in both if not drop.most <= self.max_drop), both[0])


def apply_gate(
    drops: Mapping[Precision, Drop],
    *,
    reference_drops: Mapping[Precision, Drop] | None = None,
    chance: Mapping[Precision, Chance] | None = None,
    max_drop: float,
    allow_drop: bool,
    allow_chance: bool = False,
    **facts: Any,
) -> AccuracyGate:
    """Return the verdict on all graphs; NaN fails. ``facts`` are its other fields."""
    referenced = dict(reference_drops or {})
    failed = tuple(
        precision
        for precision, drop in drops.items()
        if not all(each.most <= max_drop for each in (drop, referenced.get(precision, drop)))
    )
    at_chance = tuple(precision for precision, found in (chance or {}).items() if found.at_chance)
    return AccuracyGate(
        max_drop=max_drop,
        drops=dict(drops),
        reference_drops=referenced,
        failed=failed,
        overridden=bool(failed) and allow_drop,
        chance=dict(chance or {}),
        at_chance=at_chance,
        chance_allowed=bool(at_chance) and allow_chance,
        **facts,
    )


def gate_error(gate: AccuracyGate, report: str) -> GateError:
    """Return the error for graphs that were refused."""
    people = "speaker" if gate.speakers == 1 else "speakers"
    tested = f"on {gate.utterances} utterances of {gate.speakers} held-out {people}"
    if gate.at_chance and not gate.chance_allowed:
        return GateError(
            f"the unweighted accuracy of {', '.join(gate.at_chance)} {tested} is at chance level "
            f"({next(iter(gate.chance.values())).ua:.3f}); no bundle was written, the report is {report}; train on "
            "more speech or for longer, or write the bundle nevertheless with --allow-chance"
        )
    losses = ", ".join(
        f"{precision} {drop.ua * 100:+.1f} points ({_between(drop, gate.speakers)})"
        for precision in gate.failed
        for drop in [gate.worst(precision)]
    )
    few = ""
    if gate.speakers < FEW_SPEAKERS:
        wide = "" if gate.speakers < MIN_SPEAKERS else "so few speakers make the interval wide: "
        few = f"; {wide}test on more speakers, or accept the loss with {_suggested(gate)}"
    return GateError(
        f"the loss of unweighted accuracy may exceed {gate.max_drop * 100:g} points {tested}: {losses}; no bundle was "
        f"written, the report is {report}{few}"
    )


def _between(drop: Drop, speakers: int) -> str:
    if drop.low is None or drop.high is None:
        return no_interval(speakers)
    return f"95 % interval {drop.low * 100:+.1f} to {drop.high * 100:+.1f}"


def _suggested(gate: AccuracyGate) -> str:
    worst = max(gate.worst(precision).most for precision in gate.failed)
    return "--allow-drop" if worst >= _EVERY_LOSS else f"--max-drop {worst + 0.0005:.3f}"

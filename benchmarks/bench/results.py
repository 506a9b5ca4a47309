"""Results files: one JSON file per run, with rows of one schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from benchmarks.bench.accuracy.conditions import ConditionsSection
from benchmarks.bench.accuracy.dimensions import DimensionsSection
from benchmarks.bench.accuracy.fairness import FairnessSection
from benchmarks.bench.accuracy.risk_coverage import RiskSection
from benchmarks.bench.accuracy.streaming import StreamingSection
from benchmarks.bench.device.device_sections import (
    ColdStart,
    Decisions,
    Energy,
    EngineBuild,
    MachineLimit,
    MachineState,
    OperatorProfile,
    Section,
    Stage,
    Sweep,
    Timing,
)
from benchmarks.bench.device.environment import describe
from benchmarks.bench.estimate import Estimate, estimate, rounded
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import Accuracy, Difference
from distill.runs.cross_validation import FoldScore
from edge_runtime.files import write_text
from edge_runtime.provenance import command_line, commit, now

SCHEMA = "edgeemo-results/1"


class Ratio(Section):
    """Speed relative to another system of the same run, by medians.

    Attributes:
        to: the other system.
        value: its latency divided by that of the row's system.
        low: lower end of the 95 % interval, by a bootstrap over rounds (`benchmarks.bench.compare.ratios`), if any.
        high: upper end.
    """

    to: str
    value: float
    low: float | None = None
    high: float | None = None


class PairedDifference(Section):
    """Difference in accuracy to another system on the same utterances, with 95 % intervals over speakers, if any."""

    to: str
    ua: Estimate
    wa: Estimate

    @classmethod
    def of(cls, to: str, difference: Difference) -> PairedDifference:
        """Return the difference to the system named ``to``."""
        return cls(
            to=to,
            ua=estimate(difference.ua, difference.ua_interval),
            wa=estimate(difference.wa, difference.wa_interval),
        )


class LanguageScore(Section):
    """One system on the utterances of one language.

    Attributes:
        utterances: tested.
        speakers: tested.
        ua: unweighted accuracy.
        wa: weighted accuracy.
        difference: to another system of the same run, on these utterances.
    """

    utterances: int
    speakers: int
    ua: Estimate
    wa: Estimate
    difference: PairedDifference | None = None


class Row(Section):
    """One system on one corpus; columns that were not measured are None.

    Attributes:
        system: name of the system, such as ``student``.
        corpus: name of the corpus.
        classes: number of emotions.
        folds: how the test part was held out.
        processor: its kind, a key of `edge_runtime.machine.KERNELS`, where several were measured.
        speaker_independent: whether no tested speaker was in the training data.
        held_out: what the tested speech differs in from all that was trained on: ``speaker`` or ``corpus``.
        reference_utterances: unlabelled utterances of the speaker that each one is scored after; 0 for none.
        labelled_per_class: labelled clips of each emotion of the speaker that each one is scored after.
        order: of a stream: ``random`` or ``sorted`` by emotion.
        condition: acoustic condition of the tested speech.
        precision: of the graph or checkpoint.
        seed: of the run; figures over several seeds have a row each and one without.
        sweep: name of the sweep that the row is a point of.
        settings: of the point of a sweep.
        ua_spread: sample standard deviation of `ua` over seeds.
        ua_target: the unweighted accuracy to reach.
        ece_before: calibration error before temperature scaling.
        recall: of each class that occurs.
        confusion: counts, rows the truth, columns the decision, in the order of the sorted classes.
        shares: of correct decisions, by the values of a column of the corpus.
        difference: to another system of the same run.
        languages: accuracy by language, where there are several.
        teacher_weights: by language of the utterance and then by teacher, the mean weight of each monolingual teacher
            over validation utterances, per epoch.
        fold_scores: accuracy of each fold, where the row pools several.
        figures: measured numbers without a column, by name.
        note: remarks for the reader.
    """

    system: str
    corpus: str
    classes: int | None = None
    folds: str = ""
    processor: str | None = None
    speaker_independent: bool | None = None
    held_out: str | None = None
    reference_utterances: int | None = None
    labelled_per_class: int | None = None
    order: str | None = None
    condition: str | None = None
    precision: str | None = None
    seed: int | None = None
    sweep: str | None = None
    settings: dict[str, Any] | None = None
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    utterances: int | None = None
    speakers: int | None = None
    ua: float | None = None
    ua_low: float | None = None
    ua_high: float | None = None
    ua_spread: float | None = None
    ua_target: float | None = None
    wa: float | None = None
    wa_low: float | None = None
    wa_high: float | None = None
    macro_f1: float | None = None
    macro_f1_low: float | None = None
    macro_f1_high: float | None = None
    ece: float | None = None
    ece_low: float | None = None
    ece_high: float | None = None
    ece_before: float | None = None
    ece_before_low: float | None = None
    ece_before_high: float | None = None
    recall: dict[str, Estimate] | None = None
    confusion: list[list[int]] | None = None
    shares: dict[str, float] | None = None
    difference: PairedDifference | None = None
    languages: dict[str, LanguageScore] | None = None
    teacher_weights: dict[str, dict[str, list[float]]] | None = None
    fold_scores: list[FoldScore] | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    real_time_factor: float | None = None
    ratio: Ratio | None = None
    figures: dict[str, float] | None = None
    note: str = ""


def accuracy_columns(accuracy: Accuracy) -> dict[str, Any]:
    """Return the columns of a `Row` for an accuracy, with more digits than any table shows."""
    columns: dict[str, Any] = accuracy.model_dump(include={"utterances", "speakers", "confusion"})
    for name in ("ua", "wa", "macro_f1", "ece", "ece_before"):
        value, interval = getattr(accuracy, name), getattr(accuracy, f"{name}_interval")
        if value is not None:
            columns |= {name: rounded(value)} | interval_columns(name, interval)
    columns["recall"] = {
        label: estimate(value, accuracy.recall_intervals[label])
        for label, value in accuracy.recall.items()
        if value is not None
    }
    return columns


def interval_columns(name: str, interval: Interval | None) -> dict[str, float]:
    """Return the columns ``NAME_low`` and ``NAME_high`` of a `Row`; none without an interval."""
    if interval is None:
        return {}
    return {f"{name}_low": rounded(interval.low), f"{name}_high": rounded(interval.high)}


class Results(Section, extra="forbid", populate_by_name=True):
    """One run of a measurement; its JSON form is `benchmarks/bench/results.schema.json`.

    Attributes:
        schema_name: name and version of this form; new fields are optional, so that older files stay valid.
        command: that wrote it.
        date: of the run, ISO 8601 in UTC.
        commit: of the source tree; empty outside a checkout.
        environment: machine and versions, by name.
        hours: duration.
        seeds: of the measured runs.
        bundle: hash of the bundle, where one was measured.
        rows: one for each system on each corpus.
        timings: latency of each system, with its samples.
        sweep: latency of each graph over lengths of the window and threads.
        cold_starts: of each graph.
        engine_build: of TensorRT.
        stages: of the runtime.
        operators: of each graph.
        machine_limit: best matrix products, and the rates of the graphs relative to them.
        energy: of paced windows.
        machine: state before and after.
        decisions: on every tested utterance.
        fairness: accuracy by speaker and group.
        risk: risk and coverage of abstention.
        dimensions: concordance of predicted dimensions.
        conditions: accuracy by acoustic condition.
        streaming: accuracy in a stream compared with that on clips.
    """

    schema_name: str = Field(default=SCHEMA, alias="schema")
    command: str
    date: str
    commit: str
    environment: dict[str, str]
    hours: float
    seeds: list[int]
    bundle: str | None = None
    rows: list[Row]
    # Sections; their templates are listed in `benchmarks.bench.report.pages`.
    timings: list[Timing] | None = None
    sweep: Sweep | None = None
    cold_starts: list[ColdStart] | None = None
    engine_build: EngineBuild | None = None
    stages: list[Stage] | None = None
    operators: list[OperatorProfile] | None = None
    machine_limit: MachineLimit | None = None
    energy: Energy | None = None
    machine: MachineState | None = None
    decisions: Decisions | None = None
    fairness: FairnessSection | None = None
    risk: RiskSection | None = None
    dimensions: DimensionsSection | None = None
    conditions: ConditionsSection | None = None
    streaming: StreamingSection | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file, ``schema`` first, without what was not measured."""
        return self.model_dump(exclude_none=True, by_alias=True)

    def write(self, path: Path) -> None:
        """Write the file as a whole."""
        write_text(path, json.dumps(self.as_json(), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a results file."""
        return cls.model_validate(json.loads(path.read_bytes()))


def new_results(rows: list[Row], *, seconds: float, seeds: list[int]) -> Results:
    """Return results of this process, now, on this machine."""
    return Results(
        command=command_line(),
        date=now(),
        commit=commit(),
        environment=describe(),
        hours=round(seconds / 3600, 4),
        seeds=seeds,
        rows=rows,
    )

"""The form of every published figure: one JSON file a run, rows of one schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.accuracy.conditions import ConditionsSection
from benchmarks.accuracy.fairness import FairnessSection
from benchmarks.accuracy.risk_coverage import RiskSection
from benchmarks.accuracy.streaming import StreamingSection
from benchmarks.device.device_sections import (
    ColdStart,
    Decisions,
    Energy,
    EngineBuild,
    MachineLimit,
    MachineState,
    OperatorProfile,
    Stage,
    Sweep,
    Timing,
)
from benchmarks.device.environment import describe
from benchmarks.estimate import Estimate, estimate, rounded
from distill.evaluation.metrics import Accuracy, Difference, Interval
from distill.runs.cross_validation import FoldScore
from edge_runtime.files import write_text
from edge_runtime.provenance import command_line, commit, now

SCHEMA = "edgeemo-results/1"


class Ratio(BaseModel):
    """How many times faster than another system of the same run, by medians.

    Attributes:
        to: the other system.
        value: its time over that of the row's system.
        low: lower end of the 95 % interval, by a bootstrap over rounds (`benchmarks.comparison.ratios`), if any.
        high: upper end.
    """

    model_config = ConfigDict(extra="forbid")

    to: str
    value: float
    low: float | None = None
    high: float | None = None


class PairedDifference(BaseModel):
    """How much better than another system of the same run on the same utterances, with 95 % intervals over speakers."""

    model_config = ConfigDict(extra="forbid")

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


class LanguageScore(BaseModel):
    """One system on the utterances of one language.

    Attributes:
        utterances: how many were tested.
        speakers: how many were tested.
        ua: unweighted accuracy.
        wa: weighted accuracy.
        difference: to another system of the same run, on these utterances.
    """

    model_config = ConfigDict(extra="forbid")

    utterances: int
    speakers: int
    ua: Estimate
    wa: Estimate
    difference: PairedDifference | None = None


class Row(BaseModel):
    """One system on one corpus. What was not measured is left out.

    Attributes:
        system: name of the system, such as ``student``.
        corpus: name of the corpus.
        classes: number of emotions.
        folds: how the test part was held out.
        processor: its kind, a key of `edge_runtime.machine.KERNELS`, where several were measured.
        speaker_independent: no tested speaker was learnt from.
        reference_utterances: unlabelled utterances behind the speaker's reference; 0 for the default reference.
        precision: of the graph or checkpoint.
        seed: of the run; figures over several seeds have a row each and one without.
        sweep: name of the sweep that the row is a point of.
        settings: what the point of a sweep was told to do.
        ua_spread: sample standard deviation of `ua` over seeds.
        ua_target: the unweighted accuracy to reach.
        ece_before: calibration error before temperature scaling.
        recall: of each class that occurs.
        confusion: counts, rows the truth, columns the decision, in the order of the sorted classes.
        shares: of right decisions, by the values of a column of the corpus.
        difference: to another system of the same run.
        languages: accuracy by language, where there are several.
        teacher_weights: by language of the utterance and then by teacher, what each monolingual teacher counts for it
            on average over validation utterances, epoch by epoch.
        fold_scores: accuracy of each fold, where the row pools several.
        figures: measured numbers that have no column of their own, by name.
        note: anything that a reader must know.
    """

    model_config = ConfigDict(extra="forbid")

    system: str
    corpus: str
    classes: int | None = None
    folds: str = ""
    processor: str | None = None
    speaker_independent: bool | None = None
    reference_utterances: int | None = None
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
    """Return the columns of a `Row` that an accuracy fills; digits enough to be rounded once more in a table."""
    columns: dict[str, Any] = accuracy.model_dump(include={"utterances", "speakers", "confusion"})
    for name in ("ua", "wa", "macro_f1", "ece", "ece_before"):
        value, interval = getattr(accuracy, name), getattr(accuracy, f"{name}_interval")
        if value is not None:
            columns |= {name: rounded(value)} | interval_columns(name, interval)
    columns["recall"] = {
        label: estimate(value, interval)
        for label, value in accuracy.recall.items()
        if value is not None and (interval := accuracy.recall_intervals[label]) is not None
    }
    return columns


def interval_columns(name: str, interval: Interval) -> dict[str, float]:
    """Return the columns ``NAME_low`` and ``NAME_high`` of a `Row`."""
    return {f"{name}_low": rounded(interval.low), f"{name}_high": rounded(interval.high)}


class Results(BaseModel):
    """One run of a measurement; its JSON form is `benchmarks/results.schema.json`.

    Attributes:
        schema_name: name and version of this form; it only ever gets new fields, which may all be missing.
        command: how it was started.
        date: when it was done, ISO 8601 in UTC.
        commit: of the source tree; empty outside a checkout.
        environment: what it ran on, by name.
        hours: how long it took.
        seeds: of the runs that were measured.
        bundle: hash of the bundle, where one was measured.
        rows: one for each system on each corpus.
        timings: latency of each system, with its samples.
        sweep: latency of each graph over lengths of the window and threads.
        cold_starts: of each graph.
        engine_build: of TensorRT.
        stages: of the runtime.
        operators: of each graph.
        machine_limit: and what the graphs reach of it.
        energy: of paced windows.
        machine: before and after.
        decisions: on every tested utterance.
        fairness: accuracy by speaker and group.
        risk: what abstention gives.
        conditions: accuracy by acoustic condition.
        streaming: accuracy of the stream beside that of clips.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_name: str = Field(default=SCHEMA, alias="schema")
    command: str
    date: str
    commit: str
    environment: dict[str, str]
    hours: float
    seeds: list[int]
    bundle: str | None = None
    rows: list[Row]
    # Sections: a model in `device_sections.py` or beside what measures it, and templates (`report.py`).
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

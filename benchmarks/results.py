"""The form of every published figure: one JSON file a run, rows of one schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks.environment import describe
from distill.metrics import Accuracy
from edge_runtime.files import write_text
from edge_runtime.provenance import command_line, commit, now

SCHEMA = "edgeemo-results/1"


class Ratio(BaseModel):
    """How many times faster than another system of the same run."""

    model_config = ConfigDict(extra="forbid")

    to: str
    value: float


class Row(BaseModel):
    """One system on one corpus. What was not measured is left out.

    Attributes:
        system: name of the system, such as ``student``.
        corpus: name of the corpus.
        classes: number of emotions.
        folds: how the test part was held out.
        speaker_independent: no tested speaker was learnt from.
        reference_utterances: unlabelled utterances behind the speaker's reference; 0 for the default reference.
        precision: of the graph or checkpoint.
        seed: of the run; figures over several seeds have a row each and one without.
        ua_spread: sample standard deviation of `ua` over seeds.
        note: anything that a reader must know.
    """

    model_config = ConfigDict(extra="forbid")

    system: str
    corpus: str
    classes: int | None = None
    folds: str = ""
    speaker_independent: bool | None = None
    reference_utterances: int | None = None
    precision: str | None = None
    seed: int | None = None
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    utterances: int | None = None
    speakers: int | None = None
    ua: float | None = None
    ua_low: float | None = None
    ua_high: float | None = None
    ua_spread: float | None = None
    wa: float | None = None
    macro_f1: float | None = None
    ece: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    real_time_factor: float | None = None
    ratio: Ratio | None = None
    note: str = ""


def accuracy_columns(accuracy: Accuracy) -> dict[str, Any]:
    """Return the columns of a `Row` that an accuracy fills; digits enough to be rounded once more in a table."""
    scores = ("ua", "ua_low", "ua_high", "wa", "macro_f1", "ece")
    counts = accuracy.model_dump(include={"utterances", "speakers"})
    return counts | {name: round(getattr(accuracy, name), 6) for name in scores}


class Results(BaseModel):
    """One run of a measurement."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_name: str = SCHEMA
    command: str
    date: str
    commit: str
    environment: dict[str, str]
    hours: float
    seeds: list[int]
    rows: list[Row]

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file, ``schema`` first, without what was not measured."""
        content = self.model_dump(exclude_none=True)
        return {"schema": content.pop("schema_name"), **content}

    def write(self, path: Path) -> None:
        """Write the file as a whole."""
        write_text(path, json.dumps(self.as_json(), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a results file."""
        content = json.loads(path.read_bytes())
        return cls(schema_name=content.pop("schema"), **content)


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

"""Several folds of one system and what they give together: a directory that holds a run of each fold.

::

    RUN/fold-K/                a run directory (`distill/runs/run_directory.py`), or a baseline's predictions.csv alone
    RUN/fold-K.log             its messages, where folds ran side by side
    RUN/cross-validation.json  every utterance tested by the one fold that was not trained on its speaker, pooled

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from distill.evaluation.concordance import Concordance
from distill.evaluation.metrics import Accuracy
from distill.evaluation.predictions import PREDICTIONS, Predictions, predictions_of
from distill.folds import FoldSpec
from distill.runs.run_directory import (
    CorpusRecord,
    Provenance,
    RunRecord,
    RunReport,
    SystemReport,
    read_record,
    read_report,
    read_run,
)
from edge_runtime.dimensions import Dimension
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import write_text

SCHEMA = 1
CROSS_VALIDATION = "cross-validation.json"
STUDENT = "student"


class _Record(BaseModel, extra="forbid"):
    """Unknown keys are errors."""


class FoldScore(_Record):
    """One system on the test part of one fold.

    Attributes:
        fold: number of the fold.
        utterances: how many are tested.
        speakers: how many are tested.
        ua: unweighted accuracy.
        wa: weighted accuracy.
        validation_ua: unweighted accuracy on the validation part; None for a system that was not validated.
    """

    fold: int
    utterances: int
    speakers: int
    ua: float
    wa: float
    validation_ua: float | None = None


class PooledSystem(_Record):
    """One system on the test parts of all folds.

    Attributes:
        test: accuracy over all tested utterances together, with intervals over all tested speakers.
        folds: accuracy of each fold.
        dimensions: concordance of the predicted dimensions over all tested utterances; empty for a system without.
    """

    test: Accuracy
    folds: list[FoldScore]
    dimensions: dict[Dimension, Concordance] = {}


class CrossValidation(_Record):
    """Content of ``cross-validation.json``.

    Attributes:
        schema_version: major version of this form.
        system: the system that ``predictions.csv`` of each fold belongs to.
        settings: the recipe, or a baseline's settings.
        seed: of the runs; None for a system without chance.
        spec: how the corpus is cut.
        folds: the folds that were run.
        labels: class names in the order of the probabilities.
        corpus: that was trained and tested on.
        note: a caution for figures on this corpus.
        parameters: of the system; None where it was not counted.
        seconds: of all runs together.
        commits: of the code of the runs.
        provenance: of this file.
        systems: by name; `system` first, then the teachers.
    """

    schema_version: int = SCHEMA
    system: str
    settings: dict[str, Any]
    seed: int | None
    spec: FoldSpec
    folds: list[int]
    labels: tuple[str, ...]
    corpus: CorpusRecord
    note: str
    parameters: int | None
    seconds: float
    commits: list[str]
    provenance: Provenance
    systems: dict[str, PooledSystem]

    def predictions(self, run: Path, system: str | None = None) -> Predictions:
        """Return what a system decided on all tested utterances, sorted by file.

        Args:
            run: the directory that this was read from.
            system: a key of `systems`; the main one if not given.

        Raises:
            EdgeemoError: a file of predictions is missing or broken.
        """
        name = PREDICTIONS if system in (None, self.system) else predictions_of(str(system))
        return Predictions.pool([Predictions.read(fold_folder(run, fold) / name) for fold in self.folds])


def fold_folder(run: Path, fold: int) -> Path:
    """Return where the run of one fold lies."""
    return run / f"fold-{fold}"


def describe_folds(spec: FoldSpec, folds: Sequence[int]) -> str:
    """Return in words what the folds hold out, for reports."""
    if len(folds) == 1:
        return spec.describe(folds[0])
    held = spec.describe(folds[0]).partition(", ")[2]
    return f"{len(folds)} folds, {held}"


def refuse_other_content(run: Path) -> None:
    """Refuse a directory that holds something else than folds.

    Raises:
        WrongUseError: it does.
    """
    if not run.exists():
        return
    if not run.is_dir() or (any(run.iterdir()) and not any(run.glob("fold-*"))):
        raise WrongUseError(f"{run}: is in use and holds no folds; give another --out")


def pool(parts: Mapping[int, Predictions], validation: Mapping[int, float | None]) -> PooledSystem:
    """Measure one system over its folds.

    Args:
        parts: what it decided on the test part of each fold.
        validation: its unweighted accuracy on the validation part of each fold.
    """
    scores = [
        FoldScore(
            fold=fold,
            utterances=part.accuracy.utterances,
            speakers=part.accuracy.speakers,
            ua=part.accuracy.ua,
            wa=part.accuracy.wa,
            validation_ua=validation[fold],
        )
        for fold, part in parts.items()
    ]
    pooled = Predictions.pool(list(parts.values()))
    dimensions = pooled.dimensions.concordance if pooled.dimensions is not None else {}
    return PooledSystem(test=pooled.accuracy, folds=scores, dimensions=dimensions)


def gather(run: Path, folds: Sequence[int]) -> CrossValidation:
    """Pool finished runs of ``RUN/fold-K`` and write ``RUN/cross-validation.json``.

    Raises:
        EdgeemoError: a fold is not finished, or the folds belong to different runs.
    """
    records = {fold: read_run(fold_folder(run, fold)) for fold in folds}
    reports = {fold: read_report(fold_folder(run, fold)) for fold in folds}
    first, report = records[folds[0]], reports[folds[0]]
    _refuse_unlike(run, records)
    # Where languages are left out in turn, no fold has a teacher of the tested one.
    shared = [name for name in report.teachers if all(name in each.teachers for each in reports.values())]
    names = {STUDENT: PREDICTIONS} | {name: predictions_of(name) for name in shared}
    systems = {}
    for system, file in names.items():
        parts = {fold: Predictions.read(fold_folder(run, fold) / file) for fold in folds}
        validation = {fold: _system(each, system).validation.ua for fold, each in reports.items()}
        systems[system] = pool(parts, validation)
    found = CrossValidation(
        system=STUDENT,
        settings=first.recipe.model_dump(mode="json", exclude_none=True),
        seed=first.recipe.seed,
        spec=first.recipe.folds,
        folds=list(folds),
        labels=first.labels,
        corpus=first.corpus,
        note=report.note,
        parameters=report.parameters,
        seconds=round(sum(each.seconds for each in reports.values()), 1),
        commits=sorted({record.provenance.commit for record in records.values()}),
        provenance=Provenance.of_this_process(tuple(first.provenance.versions)),
        systems=systems,
    )
    write_cross_validation(run, found)
    return found


def join(run: Path, parts: Sequence[Path]) -> CrossValidation:
    """Put together students that each tested other utterances, as of one language each, as if they were one.

    Writes ``RUN/fold-K/predictions.csv`` and ``RUN/cross-validation.json``.

    Args:
        run: where to.
        parts: directories of the same folds, pooled already.

    Raises:
        EdgeemoError: they were tested on the same utterances, or on other folds.
    """
    each = [read_cross_validation(part) for part in parts]
    first = each[0]
    if any((other.folds, other.spec, other.labels) != (first.folds, first.spec, first.labels) for other in each):
        raise EdgeemoError(f"{run}: its parts were tested in different folds; run all with one recipe and corpus")
    tested = {
        fold: Predictions.pool([Predictions.read(fold_folder(part, fold) / PREDICTIONS) for part in parts])
        for fold in first.folds
    }
    for fold, predictions in tested.items():
        predictions.write(fold_folder(run, fold) / PREDICTIONS)
    found = first.model_copy(
        update={
            "seconds": round(sum(other.seconds for other in each), 1),
            "commits": sorted({commit for other in each for commit in other.commits}),
            "provenance": Provenance.of_this_process(tuple(first.provenance.versions)),
            "systems": {STUDENT: pool(tested, dict.fromkeys(first.folds))},
        }
    )
    write_cross_validation(run, found)
    return found


def write_cross_validation(run: Path, content: CrossValidation) -> None:
    """Write ``RUN/cross-validation.json`` as a whole."""
    write_text(run / CROSS_VALIDATION, content.model_dump_json(indent=2) + "\n")


def read_cross_validation(run: Path) -> CrossValidation:
    """Read ``RUN/cross-validation.json``.

    Raises:
        EdgeemoError: there is none, or it is of another schema.
    """
    return read_record(run, CROSS_VALIDATION, CrossValidation)


def _system(report: RunReport, name: str) -> SystemReport:
    return report.student if name == STUDENT else report.teachers[name]


def _refuse_unlike(run: Path, records: Mapping[int, RunRecord]) -> None:
    first, *others = records.values()
    for what, same in (
        ("recipe", all(record.recipe == first.recipe for record in others)),
        ("corpus", all(record.corpus.fingerprint == first.corpus.fingerprint for record in others)),
        ("label", all(record.labels == first.labels for record in others)),
        ("unlabelled speech", all(record.unlabelled_states == first.unlabelled_states for record in others)),
    ):
        if not same:
            raise EdgeemoError(f"{run}: its folds differ in their {what}; remove those that do not belong to it")

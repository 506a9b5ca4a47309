"""Rows of published figures from the runs of a grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmarks.bench.compare.compare_runs import Tested, read_tested, refuse_unlike
from benchmarks.bench.estimate import Estimate, estimate
from benchmarks.bench.results import PairedDifference, Row, accuracy_columns, interval_columns
from benchmarks.lab.by_language import by_language, teacher_weights
from benchmarks.lab.grid_description import Grid
from benchmarks.lab.grid_plan import Plan
from distill.corpus import Corpus
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import Difference, Floats, mean_difference, resample, resample_calibration
from distill.evaluation.predictions import Predictions
from distill.folds import make_fold
from distill.runs.cross_validation import (
    STUDENT,
    CrossValidation,
    FoldScore,
    describe_folds,
    fold_folder,
    read_cross_validation,
)
from distill.runs.run_directory import read_report
from edge_runtime.errors import EdgeemoError


@dataclass(frozen=True)
class Measured:
    """A finished run of one system."""

    system: str
    found: CrossValidation
    tested: Tested


def rows_of(plan: Plan, corpus: Corpus, baselines: Sequence[Path]) -> list[Row]:
    """Return a row for every system and seed, and one for the mean over seeds.

    Raises:
        EdgeemoError: runs differ in more than their settings and seed.
    """
    grid = plan.grid
    systems = {name: [_measured(name, run.folder) for run in runs.values()] for name, runs in plan.systems.items()}
    points = [
        (point, [_measured(point.sweep.system, run.folder) for run in point.runs.values()]) for point in plan.points
    ]
    plain = {name: [_measured(name, folder)] for name, folder in zip(grid.baselines, baselines, strict=True)}
    everything = [each for runs in (*systems.values(), *(runs for _, runs in points)) for each in runs]
    _refuse_unlike(grid, everything, [each for runs in plain.values() for each in runs])
    against = (systems | plain).get(grid.against or "")
    rows: list[Row] = []
    for name, runs in (systems | plain).items():
        target = grid.target_ua if name == next(iter(systems)) else None
        rows += _with_mean(grid, corpus, runs, against, {"ua_target": target})
    for teacher in next(iter(systems.values()))[0].found.systems:
        if teacher != STUDENT:
            rows += _teacher_rows(corpus, teacher, next(iter(systems.values())), against)
    for point, runs in points:
        facts = {"sweep": point.sweep.name, "settings": {point.sweep.key: point.value}}
        rows += _with_mean(grid, corpus, runs, None, facts)
    independent = _speaker_independent(plan, corpus)
    return [row.model_copy(update={"speaker_independent": independent}) for row in rows]


def _speaker_independent(plan: Plan, corpus: Corpus) -> bool:
    """Return whether in every fold training and test part have no speaker in common."""
    spec = next(iter(plan.systems[next(iter(plan.systems))].values())).recipe.folds
    for number in plan.folds:
        fold = make_fold(corpus, spec, number)
        trained = {item.speaker for item in (*fold.train, *fold.validation)}
        if trained & {item.speaker for item in fold.test}:
            return False
    return True


def _measured(system: str, folder: Path) -> Measured:
    return Measured(system, read_cross_validation(folder), read_tested(folder))


def _refuse_unlike(grid: Grid, runs: Sequence[Measured], baselines: Sequence[Measured]) -> None:
    refuse_unlike([each.tested for each in (*runs, *baselines)])
    alike = [each for each in runs if not grid.systems[each.system].other_size]
    for what, found in (
        ("commits", {commit for each in (*runs, *baselines) for commit in each.found.commits}),
        ("numbers of parameters", {each.found.parameters for each in alike}),
    ):
        if len(found) > 1:
            raise EdgeemoError(
                f"grid {grid.name}: the runs have different {what} ({', '.join(map(str, sorted(found, key=str)))}), so "
                "they cannot be compared; give another --work"
            )


def _with_mean(
    grid: Grid, corpus: Corpus, runs: Sequence[Measured], against: Sequence[Measured] | None, facts: dict[str, Any]
) -> list[Row]:
    """Return one row per seed of a system and, for several seeds, one with their mean and spread."""
    rows = [_row(run.system, run.found, STUDENT if STUDENT in run.found.systems else run.found.system) for run in runs]
    shares = [_by_column(grid.by, corpus, run.tested) if grid.by else None for run in runs]
    rows = [row.model_copy(update=facts | {"shares": each}) for row, each in zip(rows, shares, strict=True)]
    predictions = [run.tested.predictions for run in runs]
    others = None
    if against is not None and against[0].system != runs[0].system:
        others = (against[0].system, [run.tested.predictions for run in against])
    whole = _comparison(corpus, predictions, others) | {"teacher_weights": _weights(runs)}
    if len(rows) == 1:
        return [rows[0].model_copy(update=whole)]
    return [*rows, _mean_row(rows, predictions).model_copy(update=whole)]


def _comparison(
    corpus: Corpus, runs: Sequence[Predictions], against: tuple[str, Sequence[Predictions]] | None
) -> dict[str, Any]:
    """Return the columns that compare all runs of a system with those of another."""
    difference = None if against is None else PairedDifference.of(against[0], _difference(against[1], runs))
    return {"difference": difference, "languages": by_language(corpus, runs, against)}


def _weights(runs: Sequence[Measured]) -> dict[str, dict[str, list[float]]] | None:
    """Return the weights of monolingual teachers, as means over folds and seeds."""
    folders = [fold_folder(run.tested.folder, fold) for run in runs for fold in run.found.folds]
    # Baselines and joined students have no report.
    if not all((folder / "report.json").is_file() for folder in folders):
        return None
    return teacher_weights([read_report(folder) for folder in folders])


def _difference(against: Sequence[Predictions], runs: Sequence[Predictions]) -> Difference:
    one = runs[0]
    sides = [[run.decided for run in side] for side in (against, runs)]
    return mean_difference(one.truth, sides[0], sides[1], one.speakers)


def _mean_row(rows: Sequence[Row], runs: Sequence[Predictions]) -> Row:
    """Return one row with the means of several that differ in their seed, and the intervals of those means."""
    samples = _resampled(runs)
    columns: dict[str, Any] = {}
    speakers = len(set(runs[0].speakers))
    for name, values in samples.items():
        average = mean(getattr(row, name) for row in rows)
        columns |= {name: round(average, 6)} | interval_columns(name, Interval.over_speakers(values, speakers))
    return rows[0].model_copy(
        update=columns
        | {
            "seed": None,
            "ua_spread": round(stdev(row.ua for row in rows if row.ua is not None), 6),
            "recall": _mean_recall(rows, runs),
            "confusion": None,
            "fold_scores": _average_folds(rows),
            "shares": _average_shares(rows),
            "note": f"mean of {len(rows)} seeds",
        }
    )


def _resampled(runs: Sequence[Predictions]) -> dict[str, Floats]:
    """Return the mean over runs of every figure, ``[draws]``, with the same resampled speakers for all runs."""
    found: dict[str, list[Floats]] = {}
    for run in runs:
        scores = resample(run.truth, run.decided, run.speakers, len(run.labels))
        each = {"ua": scores.ua, "wa": scores.wa, "macro_f1": scores.macro_f1}
        each["ece"] = resample_calibration(run.probabilities, run.truth, run.speakers)
        if run.before is not None:
            each["ece_before"] = resample_calibration(run.before, run.truth, run.speakers)
        for name, values in each.items():
            found.setdefault(name, []).append(values)
    return {name: np.asarray(np.mean(values, axis=0)) for name, values in found.items()}


def _mean_recall(rows: Sequence[Row], runs: Sequence[Predictions]) -> dict[str, Estimate]:
    drawn = [resample(run.truth, run.decided, run.speakers, len(run.labels)).recall for run in runs]
    samples, one = np.mean(drawn, axis=0), runs[0]
    people = Counter(label for label, _ in set(zip(one.emotions, one.speakers, strict=True)))
    return {
        label: estimate(
            mean((row.recall or {})[label].value for row in rows),
            Interval.over_speakers(samples[:, one.labels.index(label)], people[label]),
        )
        for label in rows[0].recall or {}
    }


def _average_shares(rows: Sequence[Row]) -> dict[str, float] | None:
    each = [row.shares for row in rows if row.shares is not None]
    return {value: round(mean(shares[value] for shares in each), 6) for value in each[0]} if each else None


def _average_folds(rows: Sequence[Row]) -> list[FoldScore] | None:
    each = [row.fold_scores or [] for row in rows]
    found = []
    for same in zip(*each, strict=True):
        validated = [score.validation_ua for score in same if score.validation_ua is not None]
        found.append(
            same[0].model_copy(
                update={
                    "ua": mean(score.ua for score in same),
                    "wa": mean(score.wa for score in same),
                    "validation_ua": mean(validated) if validated else None,
                }
            )
        )
    return found or None


def _row(system: str, found: CrossValidation, name: str) -> Row:
    pooled = found.systems[name]
    student = name == STUDENT
    return Row(
        system=system,
        corpus=found.corpus.facts.name,
        classes=len(found.labels),
        folds=describe_folds(found.spec, found.folds),
        reference_utterances=0 if student else None,
        precision="fp32" if student else None,
        seed=found.seed,
        parameters=found.parameters if student else None,
        **accuracy_columns(pooled.test),
        fold_scores=pooled.folds if len(pooled.folds) > 1 else None,
    )


def _by_column(name: str, corpus: Corpus, tested: Tested) -> dict[str, float]:
    """Return the share of correct decisions by the values of a column of the corpus."""
    column = {item.name: item.column(name) for item in corpus.utterances}
    right = tested.predictions.truth == tested.predictions.decided
    values = np.array([column[file] for file in tested.predictions.names])
    return {str(value): round(float(right[values == value].mean()), 6) for value in np.unique(values)}


def _teacher_rows(
    corpus: Corpus, teacher: str, runs: Sequence[Measured], against: Sequence[Measured] | None
) -> list[Row]:
    """Return the rows of a teacher, measured on the same utterances as the students."""
    rows = [_row(f"{teacher}-teacher", run.found, teacher) for run in runs]
    predictions = [run.found.predictions(run.tested.folder, teacher) for run in runs]
    others = None
    # In a corpus of one language, teachers are not compared.
    if against is not None and len(corpus.languages) > 1:
        others = (against[0].system, [run.tested.predictions for run in against])
    whole = _comparison(corpus, predictions, others)
    if len(rows) == 1:
        return [rows[0].model_copy(update=whole)]
    return [*rows, _mean_row(rows, predictions).model_copy(update=whole)]

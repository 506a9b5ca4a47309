"""The report of a run: student and teachers on the validation and the test part."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.corpus import Corpus
from distill.distillation.train_student import Trained
from distill.evaluation.calibration import COVERAGE, abstention_threshold, fit_temperature
from distill.evaluation.concordance import Concordance, DimensionScores
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats
from distill.evaluation.predictions import PREDICTIONS, Predictions, predictions_of
from distill.folds import Fold
from distill.recipe import Dimensions, Recipe
from distill.runs.run_directory import (
    RunReport,
    SystemReport,
)
from distill.training.outputs import Supervision
from edge_runtime.clips import ClipScores
from edge_runtime.dimensions import Dimension

_ON_ALL = "The student is trained on all speakers; these figures are of one that was not trained on those tested."
_ENCODER_ON_ALL = "Its encoder was fitted to their speech too, without labels."


class _TeacherLogits(NamedTuple):
    """A teacher's logits ``[N, C]`` for the validation and the test part, and its dimensions ``[N, K]`` for both."""

    name: str
    validation: Floats
    test: Floats
    history: list[dict[str, float]]
    validation_dimensions: Floats | None = None
    test_dimensions: Floats | None = None


def _teacher_logits(fold: Fold, supervision: Supervision) -> list[_TeacherLogits]:
    trained = len(fold.train)
    known = trained + len(fold.validation)
    end = known + len(fold.test)
    found = [
        _TeacherLogits(
            name,
            outputs.logits.block(trained, known),
            outputs.logits.block(known, end),
            outputs.history,
            None if outputs.dimensions is None else outputs.dimensions.block(trained, known),
            None if outputs.dimensions is None else outputs.dimensions.block(known, end),
        )
        for name, outputs in supervision.teachers.items()
    ]
    each = supervision.languages
    if each is None:
        return found
    # Each utterance by the teacher of its language, then each teacher in all languages.
    found.append(_TeacherLogits(each.name, each.of_own(trained, known), each.of_own(known, end), []))
    for number, (language, history) in enumerate(zip(each.languages, each.histories, strict=True)):
        validation, test = each.of_teacher(number, trained, known), each.of_teacher(number, known, end)
        found.append(_TeacherLogits(f"{each.name}-{language}", validation, test, history))
    return found


def make_report(
    recipe: Recipe, corpus: Corpus, fold: Fold, supervision: Supervision, trained: Trained, out: Path
) -> RunReport:
    """Score validation and test part by student and teachers, write their predictions, and return the report.

    Args:
        recipe: of the run.
        corpus: the tested corpus.
        fold: its parts.
        supervision: the teachers' outputs.
        trained: the student.
        out: run directory.
    """
    validation = trained.features.score(trained.validated, fold.validation, recipe.window)
    tested = trained.features.score(
        trained.validated if recipe.student.train_on_all else trained.student, fold.test, recipe.window
    )
    chosen = trained.features.calibration
    measure = partial(_measure, corpus, fold, recipe.student.dimensions)
    measured = measure(validation, tested, trained.history, chosen.temperature if chosen else None)
    Predictions.of(measured.test).write(out / PREDICTIONS)
    reports = {}
    for logits in _teacher_logits(fold, supervision):
        parts = (
            _whole(logits.validation, logits.validation_dimensions),
            _whole(logits.test, logits.test_dimensions),
        )
        teacher = measure(*parts, logits.history)
        Predictions.of(teacher.test).write(out / predictions_of(logits.name))
        reports[logits.name] = teacher.report
    how = recipe.student
    notes = [corpus.facts.note, *fold.notes]
    if how.train_on_all:
        notes.append(_ON_ALL)
        if how.pruning is not None:
            notes.append(_ENCODER_ON_ALL)
    return RunReport(
        note=" ".join(filter(None, notes)),
        parts={name: len(getattr(fold, name)) for name in ("train", "validation", "test")}
        | ({"unlabelled": len(fold.unlabelled)} if fold.unlabelled else {}),
        teachers=reports,
        student=measured.report,
        parameters=sum(parameter.numel() for parameter in trained.student.parameters()),
        temperature=measured.report.temperature,
        threshold=chosen.threshold
        if chosen
        else abstention_threshold(measured.validation.probabilities.max(axis=1), COVERAGE),
        seconds=0.0,
        choices_with_test_figures=recipe.choices_with_test_figures,
    )


class _Measured(NamedTuple):
    report: SystemReport
    validation: Evaluation
    test: Evaluation


def _measure(
    corpus: Corpus,
    fold: Fold,
    dimensions: Dimensions | None,
    validation: ClipScores,
    tested: ClipScores,
    history: list[dict[str, float]],
    temperature: float | None = None,
) -> _Measured:
    """Measure both parts with a temperature; with one fitted on the validation part if not given."""
    if temperature is None:
        truth = np.array([corpus.labels.index(item.emotion) for item in fold.validation])
        temperature = fit_temperature(validation.logits, truth[validation.owner])
    parts = [
        Evaluation(
            items,
            corpus.labels,
            scores.probabilities(temperature),
            before=scores.probabilities(),
            dimensions=None
            if dimensions is None or scores.dimensions is None
            else DimensionScores.of(items, dimensions.names, scores.clip_dimensions()),
        )
        for items, scores in ((fold.validation, validation), (fold.test, tested))
    ]
    report = SystemReport(
        validation=parts[0].accuracy,
        test=parts[1].accuracy,
        temperature=temperature,
        test_by=parts[1].by_column(),
        history=history,
        dimensions=_concordance(parts[1]),
        validation_dimensions=_concordance(parts[0]),
    )
    return _Measured(report, *parts)


def _concordance(evaluation: Evaluation) -> dict[Dimension, Concordance]:
    return {} if evaluation.dimensions is None else evaluation.dimensions.concordance


def _whole(logits: Floats, dimensions: Floats | None = None) -> ClipScores:
    """Return the scores of a teacher, which takes an utterance as a whole."""
    return ClipScores(logits, np.arange(len(logits)), dimensions)

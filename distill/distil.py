"""From corpus to finished run: teachers, student, calibration, test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError

from distill.checks.acceptance import accepted_note, accepted_problems
from distill.checks.corpus_checks import usable_corpus
from distill.checks.finding import Finding
from distill.checks.identity import identified
from distill.checks.leakage import Leak, count_of, without_leaks
from distill.checks.training_speech import sketches_of, write_sketches
from distill.corpora.auxiliary import (
    names_for,
    other_emotions,
    refuse_unused_or_missing,
    trained_on_too,
    with_auxiliary,
    with_unlabelled,
)
from distill.corpus import Corpus
from distill.distillation.build_student import build_student
from distill.distillation.train_student import Trained, train_student
from distill.evaluation.calibration import COVERAGE, abstention_threshold, fit_temperature
from distill.evaluation.concordance import Concordance, DimensionScores
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats
from distill.evaluation.predictions import PREDICTIONS, Predictions, predictions_of
from distill.folds import Fold, make_fold
from distill.recipe import Dimensions, Recipe
from distill.runs.run_directory import (
    WEIGHTS,
    CorpusRecord,
    Provenance,
    RunRecord,
    RunReport,
    SystemReport,
    read_report,
    start_or_resume,
)
from distill.speech.augmentation import Recordings
from distill.student import Student
from distill.teachers.supervise import branches_of, check_teachers, plugin_packages, refuse_gaps, supervise
from distill.training import processes
from distill.training.huggingface import only_errors
from distill.training.loop import reason, share_of
from distill.training.outputs import Supervision
from edge_runtime.clips import ClipScores
from edge_runtime.console import console
from edge_runtime.dimensions import Dimension
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import sha256, write_text
from edge_runtime.sources.audio import SAMPLE_RATE

PACKAGES = ("torch", "transformers", "accelerate", "opensmile", "scikit-learn", "numpy")


def distil(
    recipe: Recipe,
    corpus: Corpus,
    fold_index: int,
    out: Path,
    cache: Path,
    *,
    auxiliary: Sequence[Corpus] = (),
    unlabelled: Sequence[Corpus] = (),
    skip_broken: bool = False,
    accept: Collection[str] = (),
    exclude_leaks: bool = False,
) -> RunReport:
    """Train teachers and student on one fold and test them; an interrupted run goes on where it stopped.

    Args:
        recipe: everything to do.
        corpus: labelled speech; the recipe's labels choose from it.
        fold_index: which fold is tested.
        out: run directory.
        cache: directory for descriptors, teachers' outputs and what was found in audio files, which all processes see.
        auxiliary: other corpora, all of whose utterances are trained on; none is validated or tested on.
        unlabelled: speech without emotions (`read_unlabelled`), on which encoders are distilled and teachers' outputs
            are matched.
        skip_broken: leave out files that cannot be used instead of refusing them.
        accept: checks (`distill.checks.acceptance.ACCEPTABLE`) whose problems do not stop training.
        exclude_leaks: leave out utterances that are copies of tested recordings instead of refusing them.

    Raises:
        WrongUseError: ``out`` holds something else, or the processes cannot share a batch evenly.
        EdgeemoError: the corpus does not fit the recipe, or a model cannot be loaded.
    """
    with processes.together():
        # Copies within a part of the fold do no harm to its figures.
        accepted = (*accept, *(["duplicates"] if exclude_leaks else []))
        others = tuple(auxiliary), tuple(unlabelled)
        job = _Job(recipe, corpus, *others, fold_index, out, cache, skip_broken, accepted, exclude_leaks)
        return _distil(job)


_ON_ALL = "The student is trained on all speakers; these figures are of one that was not trained on those tested."
_ENCODER_ON_ALL = "Its encoder was fitted to their speech too, without labels."


class _Job(NamedTuple):
    recipe: Recipe
    corpus: Corpus
    auxiliary: tuple[Corpus, ...]
    unlabelled: tuple[Corpus, ...]
    fold_index: int
    out: Path
    cache: Path
    skip_broken: bool
    accept: tuple[str, ...]
    exclude_leaks: bool
    findings: tuple[Finding, ...] = ()
    leaks: tuple[Leak, ...] = ()
    others: tuple[Corpus, ...] = ()

    @property
    def whole_fold(self) -> Fold:
        """In all languages."""
        fold = with_auxiliary(self._tested_fold, self.auxiliary)
        fold = with_unlabelled(fold, self.unlabelled)
        more = tuple(item for each in self.others_trained_on for item in each.utterances)
        return replace(fold, unlabelled=fold.unlabelled + more).without({each.name for each in self.leaks})

    @property
    def others_trained_on(self) -> list[Corpus]:
        """Speech of training speakers in emotions that are no class."""
        fold, how = self._tested_fold, self.recipe.student
        trained = fold.trained_in_the_end(how.refit, how.train_on_all)
        names = {item.name for item in trained}
        apart = [item for item in fold.everything if item.name not in names]
        return trained_on_too(self.others, trained, apart, self.recipe.folds.columns)

    @property
    def _tested_fold(self) -> Fold:
        """Of the corpus that is cut into folds alone."""
        return make_fold(self.corpus, self.recipe.folds, self.fold_index)

    @property
    def fold(self) -> Fold:
        """In the student's languages."""
        return self.whole_fold.in_languages(self.recipe.languages)

    @property
    def unlabelled_left(self) -> list[Corpus]:
        """Unlabelled speech without copies of tested recordings."""
        names = {each.name for each in self.leaks}
        left = (
            each.without([item.name for item in each.utterances if f"{each.facts.name}/{item.name}" in names])
            for each in self.unlabelled
        )
        return [each for each in left if each.utterances]


def _distil(job: _Job) -> RunReport:
    started = time.monotonic()
    only_errors()
    torch.set_num_threads(job.recipe.threads)
    processes.repeatable()
    job, finished = processes.by_first(lambda: _start(job))
    if finished is not None:
        return finished
    recipe, corpus, fold = job.recipe, job.corpus, job.fold
    used = [corpus, *job.auxiliary]
    further = [*job.unlabelled_left, *job.others]
    if recipe.teachers:
        used, further = [*used, *further], []
    supervision = supervise(recipe, used, job.whole_fold, fold, job.fold_index, job.cache)
    corpora, distilled_on = ([each.utterances for each in group] for group in (used, further))
    checkpoints = job.out / "checkpoints"
    trained = train_student(
        recipe, corpus.labels, fold, corpora, supervision, checkpoints, job.cache, unlabelled=distilled_on
    )

    def finish() -> RunReport:
        report = _report(recipe, corpus, fold, _teacher_logits(fold, supervision), trained, job.out)
        report.findings = job.findings
        report.accepted = tuple(dict.fromkeys(each.check for each in accepted_problems(job.findings, job.accept)))
        report.leaks = job.leaks
        left_out = _left_out(job.leaks) if job.leaks else ""
        more = [*job.unlabelled_left, *job.others_trained_on]
        notes = report.note, _unlabelled_note(more), accepted_note(report.accepted), left_out
        report.note = " ".join(filter(None, notes))
        report.seconds = round(time.monotonic() - started, 1)
        known = fold.everything if recipe.student.train_on_all else fold.train + fold.validation
        sketches = (sketches_of([item.path for item in items], job.cache) for items in (known, fold.unlabelled))
        write_sketches(job.out, *sketches)
        _save_student(trained.student, job.out / "student")
        report.weights = sha256(job.out / "student" / WEIGHTS)
        write_text(job.out / "report.json", report.model_dump_json(indent=2) + "\n")
        shutil.rmtree(job.out / "checkpoints", ignore_errors=True)
        return report

    return processes.by_first(finish)


def _start(job: _Job) -> tuple[_Job, RunReport | None]:
    """Make the run directory when all checks have passed.

    Returns:
        The job with corpora whose files can all be used, and the report if it is finished already.
    """
    recipe = job.recipe
    refuse_unused_or_missing(recipe, given=bool(job.unlabelled))
    if recipe.student.training is not None:
        share_of(recipe.student.training, "student.training")
    Recordings.of(recipe.student.augmentation)  # reports what is wrong with its directories
    corpus = job.corpus.labelled(recipe.labels)
    make_fold(corpus, recipe.folds, job.fold_index)  # reports what is wrong with it before decoding
    student = build_student(recipe.student, corpus.labels, branches_of(recipe))
    shortest = max(student.encoder.minimum_samples, check_teachers(recipe, corpus.labels)) / SAMPLE_RATE
    names = [names_for(corpus, other, recipe.labels) for other in job.auxiliary]
    usable: list[Corpus] = []
    findings: list[Finding] = []
    auxiliary = [other.labelled(chosen) for other, chosen in zip(job.auxiliary, names, strict=True)]
    distillation = recipe.encoder_distillation
    with_others = distillation is not None and distillation.speech == "all" and distillation.other_emotions
    others = other_emotions(job.corpus, recipe.labels) if with_others else []
    for each in (corpus, *auxiliary, *job.unlabelled, *others):
        checked, found = usable_corpus(
            each,
            job.cache,
            shortest=shortest,
            skip_broken=job.skip_broken,
            accept=job.accept,
            tested=not usable,
            labelled=len(usable) <= len(auxiliary),
            hold_out=job.recipe.folds.hold_out,
        )
        usable.append(checked)
        for finding in found:
            named = finding.model_copy(update={"message": f"{each.facts.name}: {finding.message}"})
            level = "accepted problem" if finding.level == "problem" else finding.level
            console.print(f"{level}: {named.message}", style="yellow")
            findings.append(named)
        for problem in usable[-1].skipped[len(each.skipped) :]:
            console.print(f"left out {problem}", style="yellow")
    first, *more = (identified(each, job.cache) for each in usable)
    last = len(auxiliary) + len(job.unlabelled)
    job = job._replace(
        corpus=first,
        auxiliary=tuple(more[: len(auxiliary)]),
        unlabelled=tuple(more[len(auxiliary) : last]),
        others=tuple(more[last:]),
        findings=tuple(findings),
    )
    _, leaks = without_leaks(job.whole_fold, job.cache, exclude=job.exclude_leaks)
    job = job._replace(leaks=leaks)
    if leaks:
        console.print(_left_out(leaks), style="yellow")
    fold = job.fold
    for note in fold.notes:
        console.print(note, style="yellow")
    refuse_gaps(recipe, fold, job.whole_fold, job.corpus.labels)
    _refuse_missing_targets(recipe.student.dimensions, fold)
    record = RunRecord(
        recipe=recipe,
        fold=job.fold_index,
        labels=job.corpus.labels,
        corpus=CorpusRecord.of(job.corpus, recipe.labels),
        auxiliary=tuple(CorpusRecord.of(other, chosen) for other, chosen in zip(job.auxiliary, names, strict=True)),
        unlabelled=tuple(map(CorpusRecord.of, (*job.unlabelled, *job.others_trained_on))),
        left_out_copies=tuple(sorted(each.name for each in leaks)),
        provenance=Provenance.of_this_process((*PACKAGES, *plugin_packages(recipe))),
    )
    start_or_resume(job.out, record)
    if (job.out / "report.json").is_file():
        console.print(f"  {job.out}: this run is finished already")
        return job, read_report(job.out)
    return job, None


def _unlabelled_note(corpora: Sequence[Corpus]) -> str:
    if not corpora:
        return ""
    each = ", ".join(f"{one.facts.name} ({one.hours:.2f} hours, licence {one.facts.licence})" for one in corpora)
    return f"Trained on unlabelled speech too: {each}."


def _left_out(leaks: Sequence[Leak]) -> str:
    return f"Left out: {count_of(leaks)} of tested or validated recordings."


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


def _report(
    recipe: Recipe,
    corpus: Corpus,
    fold: Fold,
    teachers: Sequence[_TeacherLogits],
    trained: Trained,
    out: Path,
) -> RunReport:
    validation = trained.features.score(trained.validated, fold.validation, recipe.window)
    tested = trained.features.score(
        trained.validated if recipe.student.train_on_all else trained.student, fold.test, recipe.window
    )
    chosen = trained.features.calibration
    measure = partial(_measure, corpus, fold, recipe.student.dimensions)
    measured = measure(validation, tested, trained.history, chosen.temperature if chosen else None)
    Predictions.of(measured.test).write(out / PREDICTIONS)
    reports = {}
    for logits in teachers:
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


def _refuse_missing_targets(dimensions: Dimensions | None, fold: Fold) -> None:
    """Refuse dimensions that cannot be fitted to the training part."""
    for name in dimensions.names if dimensions is not None else ():
        values = {item.dimensions[name] for item in fold.train if name in item.dimensions}
        if len(values) < 2:
            held = "no targets" if not values else "a single value"
            raise EdgeemoError(
                f"student.dimensions: the training part holds {held} of '{name}'; add the column '{name}' to the "
                "metadata, name the dimensions that the corpus has in student.dimensions.names, or leave this table out"
            )


def _whole(logits: Floats, dimensions: Floats | None = None) -> ClipScores:
    """Return the scores of a teacher, which takes an utterance as a whole."""
    return ClipScores(logits, np.arange(len(logits)), dimensions)


def _save_student(student: Student, folder: Path) -> None:
    part = folder.with_name(".student.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        student.save_pretrained(part)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise EdgeemoError(
            f"{folder}: the student cannot be written ({reason(error)}); make room, and give the same command again"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)

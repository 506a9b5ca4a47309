"""From corpus to finished run: teachers, student, calibration, test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError

from distill.checks.corpus_checks import without_broken
from distill.corpora.auxiliary import learn_also, names_for
from distill.corpus import Corpus
from distill.distillation.build_student import build_student
from distill.distillation.train_student import Trained, train_student
from distill.evaluation.calibration import abstention_threshold, fit_temperature
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats
from distill.evaluation.predictions import PREDICTIONS, Predictions, predictions_of
from distill.folds import Fold, make_fold
from distill.recipe import EVERYONE, MONOLINGUAL, TEACHERS, Recipe
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
from distill.student import Student
from distill.teachers.acoustic import build_acoustic
from distill.teachers.linguistic import Transcripts, resolve_encoder
from distill.teachers.monolingual import supervise_languages
from distill.teachers.own import find_teacher
from distill.teachers.supervise import supervise
from distill.training import processes
from distill.training.huggingface import only_errors
from distill.training.loop import reason, share_of
from distill.training.outputs import MonolingualOutputs, TeacherOutputs
from edge_runtime.clips import ClipScores
from edge_runtime.console import console
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
    also: Sequence[Corpus] = (),
    skip_broken: bool = False,
) -> RunReport:
    """Train teachers and student on one fold and test them; an interrupted run goes on where it stopped.

    Args:
        recipe: everything to do.
        corpus: labelled speech; the recipe's labels choose from it.
        fold_index: which fold is tested.
        out: run directory.
        cache: directory for descriptors, teachers' outputs and what was found in audio files, which all processes see.
        also: other corpora to learn from, all of them; nothing of them is validated or tested on.
        skip_broken: leave out files that cannot be learnt from instead of refusing them.

    Raises:
        WrongUseError: ``out`` holds something else, or the processes cannot share a batch evenly.
        EdgeemoError: the corpus does not fit the recipe, or a model cannot be loaded.
    """
    with processes.together():
        return _distil(_Job(recipe, corpus, tuple(also), fold_index, out, cache, skip_broken))


_HEARD_ALL = "The student has learnt from all speakers; these figures are of one that has not heard those tested."


class _Job(NamedTuple):
    recipe: Recipe
    corpus: Corpus
    also: tuple[Corpus, ...]
    fold_index: int
    out: Path
    cache: Path
    skip_broken: bool

    @property
    def whole_fold(self) -> Fold:
        """In all languages."""
        return learn_also(make_fold(self.corpus, self.recipe.folds, self.fold_index), self.also)

    @property
    def fold(self) -> Fold:
        """In the student's languages."""
        return self.whole_fold.in_languages(self.recipe.languages)


def _distil(job: _Job) -> RunReport:
    started = time.monotonic()
    only_errors()
    torch.set_num_threads(job.recipe.threads)
    processes.repeatable()
    job, finished = processes.by_first(lambda: _start(job))
    if finished is not None:
        return finished
    recipe, corpus, fold = job.recipe, job.corpus, job.fold
    learnt_from = [corpus.fingerprint(), *(other.fingerprint() for other in job.also)]
    teachers = {
        name: supervise(name, recipe, corpus.labels, learnt_from, fold, job.fold_index, job.cache)
        for name in TEACHERS
        if getattr(recipe, name) is not None
    }
    corpora = [corpus.utterances, *(other.utterances for other in job.also)]
    monolingual = None
    if recipe.monolingual is not None:
        monolingual = supervise_languages(
            recipe, corpus.labels, corpora, learnt_from, job.whole_fold, fold, job.fold_index, job.cache
        )
    trained = train_student(
        recipe, corpus.labels, fold, corpora, teachers, job.out / "checkpoints", job.cache, monolingual
    )

    def finish() -> RunReport:
        said = _said(fold, teachers, monolingual)
        report = _report(recipe, corpus, fold, said, trained, job.out)
        report.seconds = round(time.monotonic() - started, 1)
        _save_student(trained.student, job.out / "student")
        report.weights = sha256(job.out / "student" / WEIGHTS)
        write_text(job.out / "report.json", report.model_dump_json(indent=2) + "\n")
        shutil.rmtree(job.out / "checkpoints", ignore_errors=True)
        return report

    return processes.by_first(finish)


def _start(job: _Job) -> tuple[_Job, RunReport | None]:
    """Make the run directory once nothing speaks against the run.

    Returns:
        The job with corpora that can be learnt from as they are, and the report if it is finished already.
    """
    recipe = job.recipe
    if recipe.student.training is not None:
        share_of(recipe.student.training, "student.training")
    corpus = job.corpus.labelled(recipe.labels)
    make_fold(corpus, recipe.folds, job.fold_index)  # what is wrong with it is told before decoding
    shortest = _shortest(recipe, corpus) / SAMPLE_RATE
    names = [names_for(corpus, other, recipe.labels) for other in job.also]
    usable = []
    for each in (corpus, *(other.labelled(chosen) for other, chosen in zip(job.also, names, strict=True))):
        usable.append(without_broken(each, job.cache, shortest=shortest, skip_broken=job.skip_broken))
        for problem in usable[-1].skipped[len(each.skipped) :]:
            console.print(f"left out {problem}", style="yellow")
    job = job._replace(corpus=usable[0], also=tuple(usable[1:]))
    fold = job.fold
    for note in fold.notes:
        console.print(note, style="yellow")
    if recipe.linguistic is not None:
        Transcripts(fold.everything, job.corpus.labels)
        resolve_encoder(recipe.linguistic.encoder)
    packages: tuple[str, ...] = PACKAGES
    if recipe.own is not None and (added := find_teacher(recipe.own)[0].dist) is not None:
        packages = (*packages, added.name)
    record = RunRecord(
        recipe=recipe,
        fold=job.fold_index,
        labels=job.corpus.labels,
        corpus=CorpusRecord.of(job.corpus, recipe.labels),
        also=tuple(CorpusRecord.of(other, chosen) for other, chosen in zip(job.also, names, strict=True)),
        provenance=Provenance.of_this_process(packages),
    )
    start_or_resume(job.out, record)
    if (job.out / "report.json").is_file():
        console.print(f"  {job.out}: this run is finished already")
        return job, read_report(job.out)
    return job, None


def _shortest(recipe: Recipe, corpus: Corpus) -> int:
    """Return the samples of the shortest waveform that all encoders take; the encoders are found to load, too."""
    shortest = build_student(recipe.student, corpus.labels).encoder.minimum_samples
    if recipe.acoustic is not None:
        shortest = max(shortest, build_acoustic(recipe.acoustic, len(corpus.labels)).encoder.minimum_samples)
    return shortest


class _Said(NamedTuple):
    """What one teacher says of the validation and the test part, ``[N, C]`` logits each."""

    name: str
    validation: Floats
    test: Floats
    history: list[dict[str, float]]


def _said(fold: Fold, teachers: dict[str, TeacherOutputs], monolingual: MonolingualOutputs | None) -> list[_Said]:
    learnt = len(fold.train)
    known = learnt + len(fold.validation)
    found = [
        _Said(name, outputs.logits.block(learnt, known), outputs.logits.block(known), outputs.history)
        for name, outputs in teachers.items()
    ]
    if monolingual is None:
        return found
    # Each utterance by the teacher of its language, then each teacher in all languages.
    found.append(_Said(MONOLINGUAL, monolingual.of_own(learnt, known), monolingual.of_own(known), []))
    for number, (language, history) in enumerate(zip(monolingual.languages, monolingual.histories, strict=True)):
        validation, test = monolingual.of_teacher(number, learnt, known), monolingual.of_teacher(number, known)
        found.append(_Said(f"{MONOLINGUAL}-{language}", validation, test, history))
    return found


def _report(
    recipe: Recipe,
    corpus: Corpus,
    fold: Fold,
    teachers: Sequence[_Said],
    trained: Trained,
    out: Path,
) -> RunReport:
    validation = trained.features.score(trained.validated, fold.validation, recipe.window)
    everyone = recipe.student.refit == EVERYONE
    tested = trained.features.score(trained.validated if everyone else trained.student, fold.test, recipe.window)
    measured = _measure(corpus, fold, validation, tested, trained.history)
    Predictions.of(measured.test).write(out / PREDICTIONS)
    reports = {}
    for said in teachers:
        teacher = _measure(corpus, fold, _whole(said.validation), _whole(said.test), said.history)
        Predictions.of(teacher.test).write(out / predictions_of(said.name))
        reports[said.name] = teacher.report
    return RunReport(
        note=" ".join(note for note in (corpus.facts.note, *fold.notes, _HEARD_ALL if everyone else "") if note),
        parts={"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)},
        teachers=reports,
        student=measured.report,
        parameters=sum(parameter.numel() for parameter in trained.student.parameters()),
        temperature=measured.report.temperature,
        threshold=abstention_threshold(measured.validation.probabilities.max(axis=1), recipe.student.coverage),
        seconds=0.0,
    )


class _Measured(NamedTuple):
    report: SystemReport
    validation: Evaluation
    test: Evaluation


def _measure(
    corpus: Corpus, fold: Fold, validation: ClipScores, tested: ClipScores, history: list[dict[str, float]]
) -> _Measured:
    """Fit the temperature on the validation part and measure both parts with it."""
    truth = np.array([corpus.labels.index(item.emotion) for item in fold.validation])
    temperature = fit_temperature(validation.logits, truth[validation.owner])
    parts = [
        Evaluation(items, corpus.labels, scores.probabilities(temperature), before=scores.probabilities())
        for items, scores in ((fold.validation, validation), (fold.test, tested))
    ]
    report = SystemReport(
        validation=parts[0].accuracy,
        test=parts[1].accuracy,
        temperature=temperature,
        test_by=parts[1].by_column(),
        history=history,
    )
    return _Measured(report, *parts)


def _whole(logits: Floats) -> ClipScores:
    """Return the scores of a teacher, which takes an utterance as a whole."""
    return ClipScores(logits, np.arange(len(logits)))


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

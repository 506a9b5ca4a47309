"""EmoDistill from corpus to finished run: teachers, student, calibration, test."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import set_seed

from distill import processes
from distill.audio_data import Windows, collate_windows
from distill.build_student import build_student
from distill.calibration import abstention_threshold, fit_temperature
from distill.corpus import Corpus
from distill.evaluation import Evaluation
from distill.folds import Fold, make_fold
from distill.huggingface import only_errors
from distill.metrics import Floats
from distill.objective import EmoDistill
from distill.predictions import PREDICTIONS, Predictions, predictions_of
from distill.recipe import TEACHERS, Recipe
from distill.run_directory import (
    CorpusRecord,
    Provenance,
    RunRecord,
    RunReport,
    SystemReport,
    read_report,
    start_or_resume,
)
from distill.scoring import student_score
from distill.student import Student
from distill.teachers.acoustic import build_acoustic
from distill.teachers.linguistic import Transcripts, resolve_encoder
from distill.teachers.supervise import TeacherOutputs, supervise
from distill.training import Task, fit, reason, share_of
from edge_runtime.audio import SAMPLE_RATE
from edge_runtime.clips import ClipScores, score_clips
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import write_text

PACKAGES = ("torch", "transformers", "accelerate", "opensmile", "scikit-learn", "numpy")


def distil(recipe: Recipe, corpus: Corpus, fold_index: int, out: Path, cache: Path) -> RunReport:
    """Train teachers and student on one fold and test them; an interrupted run goes on where it stopped.

    Args:
        recipe: everything to do.
        corpus: labelled speech.
        fold_index: which fold is tested.
        out: run directory.
        cache: directory for descriptors and teachers' outputs, which all processes see.

    Raises:
        WrongUseError: ``out`` holds something else, or the processes cannot share a batch evenly.
        EdgeemoError: the corpus does not fit the recipe, or a model cannot be loaded.
    """
    with processes.together():
        return _distil(recipe, corpus, fold_index, out, cache)


def _distil(recipe: Recipe, corpus: Corpus, fold_index: int, out: Path, cache: Path) -> RunReport:
    started = time.monotonic()
    only_errors()
    torch.set_num_threads(recipe.threads)
    finished = processes.by_first(lambda: _start(recipe, corpus, fold_index, out))
    if finished is not None:
        return finished
    fold = make_fold(corpus, recipe.folds, fold_index)
    teachers = {
        name: supervise(name, recipe, corpus, fold, fold_index, cache)
        for name in TEACHERS
        if getattr(recipe, name) is not None
    }
    student, history = _train_student(recipe, corpus, fold, teachers, out / "checkpoints")

    def finish() -> RunReport:
        report = _report(recipe, corpus, fold, teachers, student, history, out)
        report.seconds = round(time.monotonic() - started, 1)
        _save_student(student, out / "student")
        write_text(out / "report.json", report.model_dump_json(indent=2) + "\n")
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        return report

    return processes.by_first(finish)


def _start(recipe: Recipe, corpus: Corpus, fold_index: int, out: Path) -> RunReport | None:
    """Make the run directory once nothing speaks against the run, and return the report if it is finished already."""
    share_of(recipe.student.training, "student.training")
    fold = make_fold(corpus, recipe.folds, fold_index)
    _refuse_early(recipe, corpus, fold)
    record = RunRecord(
        recipe=recipe,
        fold=fold_index,
        labels=corpus.labels,
        corpus=CorpusRecord.of(corpus),
        provenance=Provenance.of_this_process(PACKAGES),
    )
    start_or_resume(out, record)
    if (out / "report.json").is_file():
        console.print(f"  {out}: this run is finished already")
        return read_report(out)
    return None


def _refuse_early(recipe: Recipe, corpus: Corpus, fold: Fold) -> None:
    """Raise what would stop the run later, while there is no run directory yet and no hour of training lost."""
    if recipe.linguistic is not None:
        Transcripts(fold.everything, corpus.labels)
        resolve_encoder(recipe.linguistic.encoder)
    shortest = build_student(recipe.student, corpus.labels).encoder.minimum_samples
    if recipe.acoustic is not None:
        shortest = max(shortest, build_acoustic(recipe.acoustic, len(corpus.labels)).encoder.minimum_samples)
    for item in fold.everything:
        if item.seconds * SAMPLE_RATE < shortest:
            raise EdgeemoError(
                f"{item.path}: is {item.seconds * 1000:.0f} ms long, too short to learn from; "
                "remove it from the metadata"
            )


def _train_student(
    recipe: Recipe, corpus: Corpus, fold: Fold, teachers: dict[str, TeacherOutputs], checkpoints: Path
) -> tuple[Student, list[dict[str, float]]]:
    set_seed(recipe.seed)
    sizes = {f"{name}_size": teachers[name].embedding.shape[1] if name in teachers else None for name in TEACHERS}
    student = build_student(recipe.student, corpus.labels, **sizes)
    targets = {}
    count = len(fold.train)
    for name, outputs in teachers.items():
        targets[f"{name}_logits"] = outputs.logits
        # Without centring, embeddings of one encoder all point the same way, and their cosines say little.
        targets[f"{name}_embedding"] = outputs.embedding.centred(count)
    train = Windows(fold.train, corpus.labels, recipe.window, targets=targets, seed=recipe.seed)
    validation = Windows(fold.validation, corpus.labels, recipe.window)
    signals = {name: getattr(recipe, name).signal for name in teachers}
    task = Task("student", collate_windows, recipe.student.training, recipe.seed, checkpoints / "student")
    history = fit(EmoDistill(student, recipe.student, signals), train, validation, task)
    return student, history


def _report(
    recipe: Recipe,
    corpus: Corpus,
    fold: Fold,
    teachers: dict[str, TeacherOutputs],
    student: Student,
    history: list[dict[str, float]],
    out: Path,
) -> RunReport:
    score = student_score(student)
    validation = score_clips(score, [item.path for item in fold.validation], recipe.window)
    tested = score_clips(score, [item.path for item in fold.test], recipe.window)
    measured = _measure(corpus, fold, validation, tested, history)
    Predictions.of(measured.test).write(out / PREDICTIONS)
    reports = {}
    learnt = len(fold.train)
    known = learnt + len(fold.validation)
    for name, outputs in teachers.items():
        logits = outputs.logits
        teacher = _measure(
            corpus, fold, _whole(logits.block(learnt, known)), _whole(logits.block(known)), outputs.history
        )
        Predictions.of(teacher.test).write(out / predictions_of(name))
        reports[name] = teacher.report
    return RunReport(
        note=corpus.facts.note,
        parts={"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)},
        teachers=reports,
        student=measured.report,
        parameters=sum(parameter.numel() for parameter in student.parameters()),
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

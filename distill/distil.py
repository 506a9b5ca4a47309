"""EmoDistill from corpus to finished run: teachers, student, calibration, test."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from transformers import set_seed

from distill.audio_data import Windows, collate_windows
from distill.build_student import build_student
from distill.calibration import abstention_threshold, fit_temperature
from distill.corpus import Corpus
from distill.corpus_checks import without_broken
from distill.evaluation import Evaluation
from distill.folds import Fold, make_fold
from distill.frontend import MINIMUM_SAMPLES
from distill.huggingface import only_errors
from distill.metrics import calibration_error
from distill.objective import EmoDistill
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
from distill.teachers.linguistic import Transcripts, resolve_encoder
from distill.teachers.supervise import TeacherOutputs, supervise
from distill.training import Task, fit
from edge_runtime.audio import SAMPLE_RATE
from edge_runtime.clips import score_clips
from edge_runtime.console import console
from edge_runtime.decision import softmax
from edge_runtime.files import replacing, write_text

PACKAGES = ("torch", "transformers", "accelerate", "opensmile", "scikit-learn", "numpy")


def distil(
    recipe: Recipe, corpus: Corpus, fold_index: int, out: Path, cache: Path, *, skip_broken: bool = False
) -> RunReport:
    """Train teachers and student on one fold and test them; an interrupted run goes on where it stopped.

    Args:
        recipe: everything to do.
        corpus: labelled speech; the recipe's labels choose from it.
        fold_index: which fold is tested.
        out: run directory.
        cache: directory for descriptors, teachers' outputs and what was found in audio files.
        skip_broken: leave out files that cannot be learnt from instead of refusing them.

    Raises:
        WrongUseError: ``out`` holds something else.
        EdgeemoError: the corpus does not fit the recipe, or a model cannot be loaded.
    """
    started = time.monotonic()
    only_errors()
    torch.set_num_threads(recipe.threads)
    make_fold(corpus.labelled(recipe.labels), recipe.folds, fold_index)  # what is wrong with it is told before decoding
    shortest = MINIMUM_SAMPLES / SAMPLE_RATE
    given = len(corpus.skipped)
    corpus = without_broken(corpus.labelled(recipe.labels), cache, shortest=shortest, skip_broken=skip_broken)
    for problem in corpus.skipped[given:]:
        console.print(f"left out {problem}", style="yellow")
    fold = make_fold(corpus, recipe.folds, fold_index)
    for note in fold.notes:
        console.print(note, style="yellow")
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

    teachers = {
        name: supervise(name, recipe, corpus, fold, fold_index, cache)
        for name in TEACHERS
        if getattr(recipe, name) is not None
    }
    student, history = _train_student(recipe, corpus, fold, teachers, out / "checkpoints")
    report = _report(recipe, corpus, fold, teachers, student, history, out)
    report.seconds = round(time.monotonic() - started, 1)
    _save_student(student, out / "student")
    write_text(out / "report.json", report.model_dump_json(indent=2) + "\n")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return report


def _refuse_early(recipe: Recipe, corpus: Corpus, fold: Fold) -> None:
    """Raise what would stop the run later, while there is no run directory yet and no hour of training lost."""
    if recipe.linguistic is not None:
        Transcripts(fold.everything, corpus.labels)
        resolve_encoder(recipe.linguistic.encoder)
    build_student(recipe.student, corpus.labels, linguistic_size=None, prosodic_size=None)


def _train_student(
    recipe: Recipe, corpus: Corpus, fold: Fold, teachers: dict[str, TeacherOutputs], checkpoints: Path
) -> tuple[Student, list[dict[str, float]]]:
    set_seed(recipe.seed)
    sizes = {f"{name}_size": teachers[name].embedding.shape[1] if name in teachers else None for name in TEACHERS}
    student = build_student(recipe.student, corpus.labels, **sizes)
    targets = {}
    count = len(fold.train)
    for name, outputs in teachers.items():
        targets[f"{name}_logits"] = outputs.logits[:count]
        # Without centring, embeddings of one encoder all point the same way, and their cosines say little.
        targets[f"{name}_embedding"] = outputs.embedding[:count] - outputs.embedding[:count].mean(axis=0)
    train = Windows(fold.train, corpus.labels, recipe.window, targets=targets, jitter=True)
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
    truth = np.array([corpus.labels.index(item.emotion) for item in fold.validation])
    temperature = fit_temperature(validation.logits, truth[validation.owner])
    calibrated = validation.probabilities(temperature)
    tested = score_clips(score, [item.path for item in fold.test], recipe.window)
    evaluation = Evaluation(fold.test, corpus.labels, tested.probabilities(temperature))
    _write_predictions(out / "predictions.csv", evaluation)
    before = len(fold.train), len(fold.train) + len(fold.validation)
    return RunReport(
        note=" ".join(note for note in (corpus.facts.note, *fold.notes) if note),
        parts={"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)},
        teachers={
            name: _system(
                Evaluation(fold.validation, corpus.labels, softmax(outputs.logits[before[0] : before[1]])),
                Evaluation(fold.test, corpus.labels, softmax(outputs.logits[before[1] :])),
                outputs.history,
            )
            for name, outputs in teachers.items()
        },
        student=_system(Evaluation(fold.validation, corpus.labels, calibrated), evaluation, history),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        temperature=temperature,
        threshold=abstention_threshold(calibrated.max(axis=1), recipe.student.coverage),
        ece_before_temperature=calibration_error(tested.probabilities(), evaluation.truth),
        seconds=0.0,
    )


def _system(validation: Evaluation, test: Evaluation, history: list[dict[str, float]]) -> SystemReport:
    return SystemReport(validation=validation.accuracy, test=test.accuracy, test_by=test.by_column(), history=history)


def _write_predictions(path: Path, evaluation: Evaluation) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "speaker", "emotion", "decided", *evaluation.labels])
        for item, decided, row in zip(evaluation.utterances, evaluation.decided, evaluation.probabilities, strict=True):
            label = evaluation.labels[int(decided)]
            writer.writerow([item.name, item.speaker, item.emotion, label, *(f"{value:.4f}" for value in row)])


def _save_student(student: Student, folder: Path) -> None:
    part = folder.with_name(".student.part")
    shutil.rmtree(part, ignore_errors=True)
    student.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)

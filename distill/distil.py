"""From corpus to finished run: teachers, student, calibration, test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from distill.checks.acceptance import accepted_note, accepted_problems
from distill.checks.training_speech import sketches_of, write_sketches
from distill.corpus import Corpus
from distill.distillation.train_student import train_student
from distill.job import Job, left_out_note, start
from distill.recipe import Recipe
from distill.run_report import make_report
from distill.runs.run_directory import WEIGHTS, RunReport
from distill.student import Student
from distill.teachers.supervise import supervise
from distill.training import processes
from distill.training.huggingface import only_errors
from distill.training.loop import reason
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import sha256, write_text


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
        job = Job(recipe, corpus, *others, fold_index, out, cache, skip_broken, accepted, exclude_leaks)
        return _distil(job)


def _distil(job: Job) -> RunReport:
    started = time.monotonic()
    only_errors()
    torch.set_num_threads(job.recipe.threads)
    processes.repeatable()
    job, finished = processes.by_first(lambda: start(job))
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
        report = make_report(recipe, corpus, fold, supervision, trained, job.out)
        report.findings = job.findings
        report.accepted = tuple(dict.fromkeys(each.check for each in accepted_problems(job.findings, job.accept)))
        report.leaks = job.leaks
        left_out = left_out_note(job.leaks) if job.leaks else ""
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


def _unlabelled_note(corpora: Sequence[Corpus]) -> str:
    if not corpora:
        return ""
    each = ", ".join(f"{one.facts.name} ({one.hours:.2f} hours, licence {one.facts.licence})" for one in corpora)
    return f"Trained on unlabelled speech too: {each}."


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

"""Figures of a student that has learnt from everyone: those of the folds, exported in the same way.

Such a student has heard every speaker there is to test it on. What it is worth to others is what the students of the
folds were worth to the speakers whom each had not heard.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from distill.recipe import EVERYONE, Recipe
from distill.runs.cross_validation import fold_folder
from distill.training.huggingface import only_errors
from edge_runtime import __version__
from edge_runtime.errors import WrongUseError
from edge_runtime.files import digest_of
from export.accuracy_gate.evaluate_graphs import Judged, judge_graphs, pool, read_judged, write_judged
from export.graphs.open_graphs import open_graphs
from export.loaded_run import LoadedRun, load_run
from export.options import ExportOptions
from export.prepare import prepare
from export.write_graphs import write_graphs

Say = Callable[[str], None]


def refuse_unfounded(run: LoadedRun, folder: Path, folds: Path | None) -> None:
    """Refuse to export a student that has learnt from everyone without folds, or another one with them.

    Raises:
        WrongUseError: so it is.
    """
    everyone = run.record.recipe.student.refit == EVERYONE
    if everyone and folds is None:
        raise WrongUseError(
            f"{folder}: its student has learnt from all speakers, so nobody is left to test it on; give the directory "
            "of the folds that tell its accuracy (edgeemo distill --fold all) with --folds"
        )
    if folds is not None and not everyone:
        raise WrongUseError(
            f"--folds: {folder} has test speakers of its own; folds are for a student that has learnt from everyone "
            '(student.refit = "everyone")'
        )


def judge_folds(run: LoadedRun, options: ExportOptions, work: Path, say: Say) -> Judged:
    """Export the student of every fold as ``run`` is exported, and return what all decided on held-out speakers.

    Args:
        run: whose student has learnt from everyone.
        options: how it is exported; ``folds`` says where the folds lie, ``jobs`` how many are exported at a time.
        work: where it goes on after an interruption: with the folds that are not judged yet, and their trainings.
        say: told what is being done; with several jobs, from other processes.

    Raises:
        WrongUseError: a fold is of another recipe or corpus.
        EdgeemoError: a fold is missing or not finished.
    """
    like = _as_if_tested(run.record.recipe), run.record.corpus.fingerprint
    judge = partial(_judge_fold, like=like, options=options, work=work, say=say)
    numbers = range(run.record.recipe.folds.fold_count(run.corpus))
    if options.jobs == 1:
        return pool([judge(number) for number in numbers])
    # Not forked: torch's threads would not be there.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as processes:
        return pool(list(processes.map(judge, numbers)))


def _judge_fold(number: int, *, like: tuple[Recipe, str], options: ExportOptions, work: Path, say: Say) -> Judged:
    assert options.folds is not None
    only_errors()
    folder = fold_folder(options.folds, number)
    fold = load_run(folder, options.moved)
    if (_as_if_tested(fold.record.recipe), fold.record.corpus.fingerprint) != like:
        raise WrongUseError(f"{folder}: is of another recipe or corpus than the student that is exported")
    kept = work / folder.name / f"judged-{_digest(fold, options)}.npz"
    if kept.is_file():
        say(f"fold {number}: is judged already")
        return read_judged(kept, fold)
    say(f"fold {number}")
    prepared = prepare(fold, options.changes, work / folder.name, say)
    with tempfile.TemporaryDirectory() as place:
        part = Path(place)
        student, _, _ = write_graphs(
            fold, prepared, part, options.quantisation if options.int8 else None, fp16=options.fp16, say=say
        )
        engines = open_graphs(part, student)
        judged = judge_graphs(fold, student, part, engines, changed=options.changes.any, say=say)
    write_judged(judged, kept)
    return judged


def _digest(fold: LoadedRun, options: ExportOptions) -> str:
    """Return a name for what an export makes of a fold: another one with all that changes its graphs."""
    int8 = options.quantisation
    if int8.keep_float != "auto":
        int8 = replace(int8, max_drop=0.0)  # which nothing but that choice looks at
    facts = {
        "run": fold.record.provenance.date,
        "corpus": fold.record.corpus.fingerprint,
        "changes": asdict(options.changes),
        "int8": asdict(int8) if options.int8 else None,
        "fp16": options.fp16,
        "version": __version__,
    }
    return digest_of(facts, 12)


def _as_if_tested(recipe: Recipe) -> Recipe:
    """Return a recipe without what only a student for everyone has."""
    student = recipe.student.model_copy(update={"refit": bool(recipe.student.refit)})
    return recipe.model_copy(update={"student": student, "threads": 1})

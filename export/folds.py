"""Accuracy of a student that was trained on all speakers: that of the folds, exported in the same way.

No speaker of the corpus is left to test such a student on. Its accuracy on unseen speakers is estimated by the students
of the folds, each on its own test speakers.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from distill.recipe import Recipe
from distill.runs.cross_validation import fold_folder
from distill.training.huggingface import only_errors
from edge_runtime import __version__
from edge_runtime.errors import WrongUseError
from edge_runtime.files import digest_of
from export.accuracy_gate.evaluate_graphs import Evaluations, evaluate_graphs, pool, read_evaluations, write_evaluations
from export.graphs.open_graphs import open_graphs
from export.loaded_run import LoadedRun, load_run
from export.options import ExportOptions, Progress
from export.prepare import prepare
from export.write_graphs import write_graphs


def check_folds(run: LoadedRun, folder: Path, folds: Path | None) -> None:
    """Check that folds are given for a student that was trained on all speakers, and for no other.

    Raises:
        WrongUseError: folds are missing, or given for a student with test speakers.
    """
    on_all = run.record.recipe.student.train_on_all
    if on_all and folds is None:
        raise WrongUseError(
            f"{folder}: its student was trained on all speakers, so none is left to test it on; give the directory of "
            "the folds that estimate its accuracy (edgeemo distill --fold all) with --folds"
        )
    if folds is not None and not on_all:
        raise WrongUseError(
            f"--folds: {folder} has test speakers of its own; folds are for a student that was trained on all speakers "
            "(student.train_on_all = true)"
        )


def evaluate_folds(run: LoadedRun, options: ExportOptions, work: Path, progress: Progress) -> Evaluations:
    """Export the student of every fold as ``run`` is exported, and return the decisions on held-out speakers.

    ``work`` holds finished folds and checkpoints, to continue after an interruption.

    Raises:
        WrongUseError: a fold is of another recipe or corpus.
        EdgeemoError: a fold is missing or not finished.
    """
    like = _as_if_tested(run.record.recipe), run.record.corpus.fingerprint
    evaluate = partial(_evaluate_fold, like=like, options=options, work=work, progress=progress)
    numbers = range(run.record.recipe.folds.fold_count(run.corpus))
    if options.jobs == 1:
        return pool([evaluate(number) for number in numbers])
    # Not forked: torch's threads would not be there.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as processes:
        return pool(list(processes.map(evaluate, numbers)))


def _evaluate_fold(
    number: int, *, like: tuple[Recipe, str], options: ExportOptions, work: Path, progress: Progress
) -> Evaluations:
    assert options.folds is not None
    only_errors()
    folder = fold_folder(options.folds, number)
    fold = load_run(folder, options.moved)
    if (_as_if_tested(fold.record.recipe), fold.record.corpus.fingerprint) != like:
        raise WrongUseError(f"{folder}: is of another recipe or corpus than the student that is exported")
    kept = work / folder.name / f"measured-{_digest(fold, options)}.npz"
    if kept.is_file():
        progress(f"fold {number}: is measured already")
        return read_evaluations(kept, fold)
    progress(f"fold {number}")
    prepared = prepare(fold, options.changes, work / folder.name, progress)
    with tempfile.TemporaryDirectory() as place:
        part = Path(place)
        student, _, _ = write_graphs(fold, prepared, part, options, progress)
        engines = open_graphs(part, student)
        measured = evaluate_graphs(
            fold, student, options.evaluated(engines), changed=options.changes.any, progress=progress
        )
    write_evaluations(measured, kept)
    return measured


def _digest(fold: LoadedRun, options: ExportOptions) -> str:
    int8 = options.quantisation
    if int8.keep_float != "auto":
        int8 = replace(int8, max_drop=0.0)  # used by that choice only
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
    """Return a recipe without the settings of a student that is trained on all speakers."""
    student = recipe.student.model_copy(update={"train_on_all": False})
    return recipe.model_copy(update={"student": student, "threads": 1})

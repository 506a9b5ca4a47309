"""Figures of a student that has learnt from everyone: those of the folds, exported in the same way.

Such a student has heard every speaker there is to test it on. What it is worth to others is what the students of the
folds were worth to the speakers whom each had not heard.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from distill.cross_validation import fold_folder
from distill.recipe import EVERYONE, Recipe
from edge_runtime.errors import WrongUseError
from export.graphs import open_graphs, write_graphs
from export.judged import Judged, judge_graphs, pool
from export.loaded_run import LoadedRun, load_run
from export.options import ExportOptions
from export.prepare import prepare


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


def judge_folds(run: LoadedRun, options: ExportOptions, work: Path, say: Callable[[str], None]) -> Judged:
    """Export the student of every fold as ``run`` is exported, and return what all decided on held-out speakers.

    Args:
        run: whose student has learnt from everyone.
        options: how it is exported; ``folds`` says where the folds lie.
        work: where trainings that were interrupted are taken up again.
        say: told what is being done.

    Raises:
        WrongUseError: a fold is of another recipe or corpus.
        EdgeemoError: a fold is missing or not finished.
    """
    assert options.folds is not None
    parts = []
    count = run.record.recipe.folds.fold_count(run.corpus)
    for number in range(count):
        folder = fold_folder(options.folds, number)
        fold = load_run(folder, options.moved)
        if _as_if_tested(fold.record.recipe) != _as_if_tested(run.record.recipe) or (
            fold.record.corpus.fingerprint != run.record.corpus.fingerprint
        ):
            raise WrongUseError(f"{folder}: is of another recipe or corpus than the student that is exported")
        say(f"fold {number} of {count}")
        prepared = prepare(fold, options.changes, work / folder.name, say)
        with tempfile.TemporaryDirectory() as place:
            part = Path(place)
            student, _, _ = write_graphs(
                fold, prepared, part, options.quantisation if options.int8 else None, fp16=options.fp16, say=say
            )
            engines = open_graphs(part, student)
            parts.append(judge_graphs(fold, student, part, engines, changed=options.changes.any, say=say))
    return pool(parts)


def _as_if_tested(recipe: Recipe) -> Recipe:
    """Return a recipe without what only a student for everyone has."""
    student = recipe.student.model_copy(update={"refit": bool(recipe.student.refit)})
    return recipe.model_copy(update={"student": student, "threads": 1})

"""`edgeemo distill --fold all`: every fold as a run of its own, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import click
from rich.table import Table

from distill.corpus import Corpus
from distill.evaluation.intervals import ends
from distill.evaluation.metrics import Accuracy
from distill.folds import make_fold
from distill.recipe import Recipe, choices_stated
from distill.runs.commands import arguments_of, in_parallel, run_edgeemo
from distill.runs.cross_validation import (
    CrossValidation,
    PooledSystem,
    describe_folds,
    fold_folder,
    gather,
    refuse_other_content,
)
from distill.runs.run_directory import is_finished
from edge_runtime.console import console


def run_all_folds(
    context: click.Context,
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    jobs: int,
    unlabelled: Sequence[Corpus] = (),
) -> CrossValidation:
    """Run every fold that is not finished as a process of its own, pool them, and show the table.

    Args:
        context: of the running `edgeemo distill`, which each fold is called as.
        recipe: what the command line asks for.
        corpus: labelled speech, with the recipe's labels.
        out: where the folds go.
        jobs: folds at a time; their messages go to files where it is more than one.
        unlabelled: speech that all folds are trained on too, without labels.

    Raises:
        WrongUseError: ``out`` holds something else.
        EdgeemoError: the corpus does not fit the recipe.
        StepError: a fold ended badly.
    """
    folds = range(recipe.folds.fold_count(corpus))
    refuse_other_content(out)
    for number in folds:
        make_fold(corpus, recipe.folds, number)  # reports what is wrong before the first one is trained

    def run(number: int) -> None:
        folder = fold_folder(out, number)
        if is_finished(folder, recipe, corpus, number, unlabelled):
            console.print(f"fold {number}: finished already")
            return
        arguments = arguments_of(context, fold=number, out=folder, jobs=None)
        console.print(f"fold {number}")
        log = out / f"{folder.name}.log" if jobs > 1 else None
        run_edgeemo(arguments, lock=out / f".{folder.name}.lock", threads=recipe.threads, log=log)

    in_parallel(run, folds, jobs)
    found = gather(out, folds)
    console.print(fold_table(found))
    warn_of_chance(found.systems[found.system].test)
    if found.note:
        console.print(found.note)
    console.print(f"choices made with test figures visible: {choices_stated(recipe.choices_with_test_figures)}")
    console.print(f"{out}: {len(folds)} folds, {found.seconds:.0f} s")
    console.print(f"Next: edgeemo bench --compare OTHER {out}")
    return found


def warn_of_chance(test: Accuracy) -> None:
    """Print a warning if a student is at chance level on the tested speech."""
    if test.chance is not None and test.chance.at_chance:
        console.print(f"warning: {test.chance.warning('student', test.ua)}", style="yellow")


def fold_table(found: CrossValidation) -> Table:
    """Return the folds of the main system, and every system over all folds together."""
    title = f"{found.corpus.facts.name}, {describe_folds(found.spec, found.folds)}"
    table = Table("system", "fold", "speakers", "UA", "95 % interval", "WA", "validation UA", title=title)
    for score in found.systems[found.system].folds:
        validated = "" if score.validation_ua is None else f"{score.validation_ua:.3f}"
        row = (str(score.fold), str(score.speakers), f"{score.ua:.3f}", "", f"{score.wa:.3f}", validated)
        table.add_row(found.system, *row)
    table.add_section()
    for name, system in found.systems.items():
        test = system.test
        interval = ends(test.ua_low, test.ua_high, test.speakers)
        row = ("pooled", str(test.speakers), f"{test.ua:.3f}", interval, f"{test.wa:.3f}", _validated(system))
        table.add_row(name, *row)
    return table


def _validated(system: PooledSystem) -> str:
    values = [score.validation_ua for score in system.folds if score.validation_ua is not None]
    return f"{mean(values):.3f}" if values else ""

"""Runs of a grid, and execution of those that are not finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.baselines import Baseline, run_baseline
from benchmarks.lab.grid_description import Grid, Sweep, SystemSettings
from distill.corpora.argument import NamedPath
from distill.corpus import Corpus
from distill.load_recipe import load_recipe
from distill.recipe import Recipe
from distill.runs.commands import in_parallel, run_edgeemo
from distill.runs.cross_validation import fold_folder, gather, join
from distill.runs.run_directory import is_finished, read_report
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError


@dataclass(frozen=True)
class Run:
    """One system with one seed: a directory with one run per fold.

    Attributes:
        folder: of the run.
        recipe: of the run.
        arguments: behind ``edgeemo distill RECIPE``.
        parts: runs per language that it is joined from; empty for a single student.
    """

    folder: Path
    recipe: Recipe
    arguments: tuple[str, ...]
    parts: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Point:
    """One point of a sweep: its value and its runs by seed."""

    sweep: Sweep
    value: float
    runs: Mapping[int, Run]


@dataclass(frozen=True)
class Plan:
    """All runs of a grid, each system's by seed."""

    grid: Grid
    folds: tuple[int, ...]
    systems: Mapping[str, Mapping[int, Run]]
    points: Sequence[Point]

    def runs(self) -> list[Run]:
        """Return every run once, those of the first system first, which trains the teachers of the others."""
        found = [run for runs in self.systems.values() for run in runs.values()]
        found += [run for point in self.points for run in point.runs.values()]
        return list({run.folder: run for run in found}.values())


def make_plan(grid: Grid, corpus: Corpus, work: Path, settings: tuple[str, ...] = ()) -> Plan:
    """Return all runs of a grid.

    Raises:
        WrongUseError: a setting does not fit the recipe, or a fold does not exist.
    """

    def one(folder: Path, system: SystemSettings, changes: tuple[str, ...]) -> Run:
        recipe = load_recipe(grid.recipe, settings=changes, without=system.without)
        arguments = [f"--set={change}" for change in changes] + [f"--without={each}" for each in system.without]
        return Run(folder, recipe, tuple(arguments))

    def runs(name: str, system: SystemSettings, more: tuple[str, ...] = ()) -> dict[int, Run]:
        found = {}
        for seed in grid.seeds:
            changes = (*grid.set, *settings, *system.set, *more, "threads=1", f"seed={seed}")
            folder = work / f"{name}-{seed}"
            if not system.each_language:
                found[seed] = one(folder, system, changes)
                continue
            parts = [
                one(folder / language, system, tuple(each.replace("{language}", language) for each in changes))
                for language in corpus.languages
            ]
            found[seed] = dataclasses.replace(parts[0], folder=folder, parts=tuple(parts))
        return found

    systems = {name: runs(name, system) for name, system in grid.systems.items()}
    points = []
    for sweep in grid.sweeps:
        base = systems[sweep.system]
        for value in sweep.values:
            own = runs(f"{sweep.system}-{sweep.name}-{value:g}", grid.systems[sweep.system], (f"{sweep.key}={value}",))
            same = {seed: base[seed] if base[seed].recipe == run.recipe else run for seed, run in own.items()}
            points.append(Point(sweep, value, same))
    recipe = systems[next(iter(systems))][grid.seeds[0]].recipe
    folds = tuple(range(recipe.folds.fold_count(corpus.labelled(recipe.labels))))
    chosen = folds if grid.folds == "all" else grid.folds
    if not set(chosen) <= set(folds):
        raise WrongUseError(f"grid {grid.name}: there are the folds 0 to {folds[-1]}")
    return Plan(grid, chosen, systems, points)


def run_plan(plan: Plan, corpus: Corpus, auxiliary: Sequence[NamedPath], cache: Path, jobs: int) -> None:
    """Run what is not finished, each fold in a separate process, and pool the folds of every run.

    Raises:
        StepError: a run failed.
        WrongUseError: a directory contains another run.
    """
    first = {run.folder for run in plan.systems[next(iter(plan.systems))].values()}

    pieces = [part.corpus for part in corpus.parts] or [corpus]
    places = [f"--corpus={NamedPath(each.source or each.root, each.facts.name)}" for each in pieces]

    def one(task: tuple[Run, int]) -> None:
        run, fold = task
        folder = fold_folder(run.folder, fold)
        if not is_finished(folder, run.recipe, corpus, fold):
            arguments = ["distill", plan.grid.recipe, *places, f"--out={folder}", f"--fold={fold}"]
            arguments += [*(f"--auxiliary-corpus={other}" for other in auxiliary), f"--cache={cache}", *run.arguments]
            log = run.folder / f"{folder.name}.log"
            run_edgeemo(arguments, lock=run.folder / f".{folder.name}.lock", threads=1, log=log)
        name = run.folder.relative_to(run.folder.parents[1])
        console.print(f"  {name}, fold {fold}: UA {read_report(folder).student.test.ua:.3f}")

    tasks = [(part, fold) for run in plan.runs() for part in run.parts or (run,) for fold in plan.folds]
    # Runs of the first system come first: other runs would wait for the teachers that these train.
    in_parallel(one, [task for task in tasks if task[0].folder in first], jobs)
    in_parallel(one, [task for task in tasks if task[0].folder not in first], jobs)
    for run in plan.runs():
        if run.parts:
            for part in run.parts:
                gather(part.folder, plan.folds)
            join(run.folder, [part.folder for part in run.parts])
        else:
            gather(run.folder, plan.folds)


def run_baselines(plan: Plan, corpus: Corpus, work: Path, cache: Path, jobs: int, encoder: str | None) -> list[Path]:
    """Run the baselines and return their directories."""
    spec = next(iter(plan.systems[next(iter(plan.systems))].values())).recipe.folds
    folders = []
    for name, settings in plan.grid.baselines.items():
        baseline = Baseline(settings.kind, encoder or settings.encoder, settings.layers)
        found = run_baseline(baseline, corpus, spec, plan.folds, work / name, cache, jobs=jobs)
        console.print(f"  {name}: UA {found.systems[baseline.name].test.ua:.3f}")
        folders.append(work / name)
    return folders

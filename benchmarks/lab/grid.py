"""Run a grid from its description: `python -m benchmarks.lab.grid NAME --corpus CORPUS=PATH --work DIR`.

A description (``benchmarks/lab/grids/NAME.toml``) names systems, baselines and sweeps. Every fold of every system and
seed is a separate `edgeemo distill`, so a stopped grid is resumed; teachers are trained once per seed and fold. Figures
and plots in ``benchmarks/results`` are computed from the run directories.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import click

from benchmarks.bench.results import Row, new_results
from benchmarks.lab.grid_description import load_grid
from benchmarks.lab.grid_plan import Plan, make_plan, run_baselines, run_plan
from benchmarks.lab.grid_rows import rows_of
from benchmarks.lab.options import out_option
from benchmarks.lab.options import publish as write
from benchmarks.lab.plots import sweep_plot, systems_plot, weights_plot
from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpora.pooled import pool_corpora
from distill.corpus import Corpus
from distill.runs.cross_validation import fold_folder, read_cross_validation
from distill.runs.run_directory import is_finished, read_report
from edge_runtime.console import console
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.files import cache_directory
from edge_runtime.parameters import count_option, path_option


def publish(plan: Plan, rows: list[Row], commits: Sequence[str], seconds: float, out: Path) -> None:
    """Write the results file and the plots of a grid into a directory."""
    grid = plan.grid
    results = new_results(rows, seconds=seconds, seeds=list(grid.seeds))
    # The commit is that of the runs, which may be older than the one that collects them.
    results.commit = ", ".join(commits)
    plots = {f"{grid.name}.svg": systems_plot([row for row in rows if row.sweep is None])}
    for sweep in grid.sweeps:
        points = [row for row in rows if row.sweep == sweep.name]
        plots[f"{grid.name}-{sweep.name}.svg"] = sweep_plot(points, sweep.key)
    weights = next((row.teacher_weights for row in rows if row.teacher_weights), None)
    if weights is not None:
        plots[f"{grid.name}-weights.svg"] = weights_plot(weights)
    write(results, out / f"{grid.name}.json", plots=plots)


@click.command("grid", cls=Tool)
@click.argument("grid")
@click.option("--corpus", "corpora", multiple=True, type=CORPUS, help="Path of a corpus of the grid; repeatable.")
@path_option("--work", "Where the runs go; they are resumed.", required=True)
@out_option
@click.option("--recipe", metavar="RECIPE", help="Instead of the grid's.")
@click.option("--encoder", metavar="PATH", help="Path of the pretrained encoder, where the hub cannot be reached.")
@click.option("--seeds", metavar="N,N", help="Comma-separated, instead of the grid's.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe, everywhere.")
@count_option("--jobs", "Runs at a time, one thread each.", default=2)
@path_option("--cache", "Features and teachers.  [default: user's cache]")
@click.option("--plan", "only_plan", is_flag=True, help="Only print the number of runs, and how many are left.")
def main(
    grid: str,
    corpora: tuple[NamedPath, ...],
    work: Path,
    out: Path,
    recipe: str | None,
    encoder: str | None,
    seeds: str | None,
    settings: tuple[str, ...],
    jobs: int,
    cache: Path | None,
    only_plan: bool,
) -> None:
    """Run GRID, a TOML file or a name in benchmarks/lab/grids; write its figures.

    \b
    Examples:
      python -m benchmarks.lab.grid emodb --corpus emodb=EMODB --work work
      python -m benchmarks.lab.grid emodb --corpus emodb=EMODB --work new --plan
    """
    chosen = load_grid(grid)
    if not recipe and not chosen.recipe:
        raise WrongUseError(f"grid {chosen.name}: names no recipe; give one with --recipe")
    changes: dict[str, Any] = {"recipe": recipe} if recipe else {}
    if seeds:
        changes["seeds"] = _numbers(seeds)
    chosen = chosen.model_copy(update=changes)
    places = {each.name: each.path for each in corpora}
    for name in (*chosen.corpora, *chosen.auxiliary_corpora):
        if name not in places:
            raise WrongUseError(f"grid {chosen.name}: needs --corpus {name}=PATH")
    corpus = pool_corpora([read_corpus(places[name], name=name) for name in chosen.corpora])
    auxiliary = tuple(NamedPath(places[name], name) for name in chosen.auxiliary_corpora)
    if encoder:
        settings = (*settings, f'student.encoder="{encoder}"')
    plan = make_plan(chosen, corpus, work, settings)
    if only_plan:
        _print_plan(plan, corpus, jobs)
        return
    run_plan(plan, corpus, auxiliary, cache or cache_directory(), jobs)
    baselines = run_baselines(plan, corpus, work, cache or cache_directory(), jobs, encoder)
    rows = rows_of(plan, corpus, baselines)
    found = [read_cross_validation(folder) for folder in [*(run.folder for run in plan.runs()), *baselines]]
    commits = sorted({commit for each in found for commit in each.commits})
    publish(plan, rows, commits, sum(each.seconds for each in found), out)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError as error:
        raise WrongUseError(f"--seeds {text}: must be whole numbers, separated by commas") from error


def _print_plan(plan: Plan, corpus: Corpus, jobs: int) -> None:
    runs = plan.runs()
    seconds = [
        read_report(fold_folder(run.folder, fold)).seconds
        for run in runs
        for fold in plan.folds
        if is_finished(fold_folder(run.folder, fold), run.recipe, corpus, fold)
    ]
    total = len(runs) * len(plan.folds)
    left = total - len(seconds)
    console.print(f"{plan.grid.name}: {total} runs of one fold, {left} left")
    if seconds:
        console.print(f"about {mean(seconds) * left / jobs / 3600:.1f} hours with {jobs} at a time, by those finished")


if __name__ == "__main__":
    main()

"""EmoDistill against its own parts on one corpus: `python -m benchmarks.ablation` (or `make ablation`).

Every run is an `edgeemo distill` of its own: a stopped grid goes on where it was, and teachers are trained once a seed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import click

from benchmarks.results import Row, accuracy_columns, new_results
from distill.run_directory import RunRecord, RunReport, read_report, read_run
from edge_runtime.console import console
from edge_runtime.demo_command import DEMO_FOLD
from edge_runtime.errors import EdgeemoError, StepError, WrongUseError

SYSTEMS: dict[str, tuple[str, ...]] = {
    "student": (),
    "no-linguistic": ("linguistic",),
    "no-prosodic": ("prosodic",),
    "cross-entropy": ("linguistic", "prosodic"),
}
"""Which teachers each system goes without."""

# The demo recipe was tuned while looking at folds 0 and 3; no choice was measured on the test part of this one.
PUBLISHED_FOLD = DEMO_FOLD

SHIPPED = Path(__file__).parent / "results" / "rendered-emodistill.json"


@click.command("ablation")
@click.option("--corpus", required=True, type=click.Path(path_type=Path, exists=True), help="Labelled speech.")
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Where the runs go; they are resumed.")
@click.option("--out", default=SHIPPED, show_default="benchmarks/results", type=click.Path(path_type=Path))
@click.option("--recipe", default="demo", show_default=True)
@click.option("--fold", default=PUBLISHED_FOLD, show_default=True, type=click.IntRange(0))
@click.option("--seeds", default="0,1,2", show_default=True, help="Comma-separated.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Runs at a time, one thread each.")
def main(corpus: Path, work: Path, out: Path, recipe: str, fold: int, seeds: str, jobs: int) -> None:
    """Train the student, the student without each teacher, and by cross-entropy alone, with several seeds."""
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise WrongUseError(f"--seeds {seeds}: must be whole numbers, separated by commas") from error
    work.mkdir(parents=True, exist_ok=True)

    def run(system: str, seed: int) -> None:
        _distill(_folder(work, system, seed), SYSTEMS[system], corpus, recipe, fold, seed)
        console.print(f"  {system}, seed {seed}: UA {read_report(_folder(work, system, seed)).student.test.ua:.3f}")

    with ThreadPoolExecutor(jobs) as pool:
        # The full student first: it trains both teachers of its seed, and the others find them in the cache.
        list(pool.map(run, ["student"] * len(numbers), numbers))
        rest = [(system, seed) for seed in numbers for system in SYSTEMS if system != "student"]
        list(pool.map(run, *zip(*rest, strict=True)))
    runs = {system: [_finished(_folder(work, system, seed)) for seed in numbers] for system in SYSTEMS}
    _refuse_unlike([run for each in runs.values() for run in each], work)
    rows = [row for system, each in runs.items() for row in _with_mean([_row(system, *run) for run in each])]
    for teacher in runs["student"][0].report.teachers:
        rows += _with_mean(_teacher_rows(teacher, runs["student"]))
    seconds = sum(run.report.seconds for each in runs.values() for run in each)
    results = new_results(rows, seconds=seconds, seeds=numbers)
    # What was measured is the code of the runs, which may be older than that which gathers them.
    results.commit = runs["student"][0].record.provenance.commit
    results.write(out)
    console.print(f"Written: {out}")


def _folder(work: Path, system: str, seed: int) -> Path:
    return work / f"{system}-{seed}"


def _distill(out: Path, without: Sequence[str], corpus: Path, recipe: str, fold: int, seed: int) -> None:
    command = ["distill", recipe, "--corpus", str(corpus), "--out", str(out), "--fold", str(fold), "--seed", str(seed)]
    command += ["--set", "threads=1", *(part for teacher in without for part in ("--without", teacher))]
    path = out.with_name(f"{out.name}.log")
    with path.open("w", encoding="utf-8") as log:
        done = subprocess.run([sys.executable, "-m", "edge_runtime", *command], stderr=log, stdout=log, check=False)
    if done.returncode:
        raise StepError(f"edgeemo {' '.join(command)} failed; see {path}", done.returncode)


class _Run(NamedTuple):
    record: RunRecord
    report: RunReport


def _finished(folder: Path) -> _Run:
    return _Run(read_run(folder), read_report(folder))


def _refuse_unlike(runs: list[_Run], work: Path) -> None:
    """Refuse a comparison of runs that differ in more than their teachers and seed."""
    for what, found in (
        ("commits", {run.record.provenance.commit for run in runs}),
        ("numbers of parameters", {run.report.parameters for run in runs}),
        ("folds", {run.record.fold for run in runs}),
        ("corpora", {run.record.corpus.fingerprint for run in runs}),
    ):
        if len(found) > 1:
            raise EdgeemoError(f"{work}: the runs have different {what} ({', '.join(map(str, sorted(found)))})")


def _with_mean(rows: list[Row]) -> list[Row]:
    """Return the rows of one system, one a seed, and behind them one with mean and spread."""

    def average(name: str) -> float:
        return round(float(mean(getattr(row, name) for row in rows)), 4)

    scores = [row.ua for row in rows if row.ua is not None]
    summary = rows[0].model_copy(
        update={name: average(name) for name in ("ua", "wa", "macro_f1", "ece")}
        | {
            "seed": None,
            "ua_low": None,
            "ua_high": None,
            "ua_spread": round(stdev(scores), 4) if len(scores) > 1 else None,
            "note": f"mean of {len(rows)} seeds",
        }
    )
    return [*rows, summary]


def _row(system: str, record: RunRecord, report: RunReport) -> Row:
    return Row(
        system=system,
        corpus=record.corpus.facts.name,
        classes=len(record.labels),
        folds=record.recipe.folds.describe(record.fold),
        speaker_independent=True,
        reference_utterances=0,
        precision="fp32",
        seed=record.recipe.seed,
        parameters=report.parameters,
        **accuracy_columns(report.student.test),
        note=_by_carrier(report),
    )


def _by_carrier(report: RunReport) -> str:
    shares = report.student.test_by.get("carrier", {})
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())


def _teacher_rows(name: str, runs: Sequence[_Run]) -> list[Row]:
    """Return the rows of a teacher, measured on the same utterances as the students."""
    rows = []
    for record, report in runs:
        row = _row(f"{name}-teacher", record, report.model_copy(update={"student": report.teachers[name]}))
        rows.append(row.model_copy(update={"parameters": None, "reference_utterances": None}))
    return rows


if __name__ == "__main__":
    main()

"""EmoDistill against its own parts on one corpus: `python -m benchmarks.ablation` (or `make ablation`).

Every run is an `edgeemo distill` of its own: a stopped grid goes on where it was, and teachers are trained once a seed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

import click

from benchmarks.results import Row, new_results
from distill.run_directory import RunRecord, RunReport, read_report, read_run
from edge_runtime.console import console
from edge_runtime.errors import StepError

SYSTEMS: dict[str, tuple[str, ...]] = {
    "student": (),
    "no-linguistic": ("linguistic",),
    "no-prosodic": ("prosodic",),
    "cross-entropy": ("linguistic", "prosodic"),
}
"""Which teachers each system goes without."""

PUBLISHED_FOLD = 3
"""The demo recipe was tuned on fold 0; what is published is tested on speakers and sentences that no choice saw."""

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
    began = time.monotonic()
    numbers = [int(seed) for seed in seeds.split(",")]
    work.mkdir(parents=True, exist_ok=True)

    def run(system: str, seed: int) -> None:
        _distill(_folder(work, system, seed), SYSTEMS[system], corpus, recipe, fold, seed)
        console.print(f"  {system}, seed {seed}: UA {read_report(_folder(work, system, seed)).student.test.ua:.3f}")

    with ThreadPoolExecutor(jobs) as pool:
        # The full student first: it trains both teachers of its seed, and the others find them in the cache.
        list(pool.map(run, ["student"] * len(numbers), numbers))
        rest = [(system, seed) for seed in numbers for system in SYSTEMS if system != "student"]
        list(pool.map(run, *zip(*rest, strict=True)))
    rows = [row for system in SYSTEMS for row in _rows(system, numbers, work)]
    rows += _teacher_rows(numbers, work)
    new_results(rows, seconds=time.monotonic() - began, seeds=numbers).write(out)
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


def _rows(system: str, seeds: Sequence[int], work: Path) -> list[Row]:
    """Return a row a seed, and one with mean and spread."""
    runs = [(read_run(_folder(work, system, seed)), read_report(_folder(work, system, seed))) for seed in seeds]
    rows = [_row(system, seed, record, report) for seed, (record, report) in zip(seeds, runs, strict=True)]
    scores = [row.ua for row in rows if row.ua is not None]
    summary = rows[0].model_copy(
        update={
            "seed": None,
            "ua": round(mean(scores), 4),
            "ua_low": None,
            "ua_high": None,
            "ua_spread": round(stdev(scores), 4) if len(scores) > 1 else None,
            "wa": round(mean(row.wa or 0 for row in rows), 4),
            "macro_f1": round(mean(row.macro_f1 or 0 for row in rows), 4),
            "ece": round(mean(row.ece or 0 for row in rows), 4),
            "note": f"mean of {len(seeds)} seeds",
        }
    )
    return [*rows, summary]


def _row(system: str, seed: int, record: RunRecord, report: RunReport) -> Row:
    test = report.student.test
    folds = record.recipe.folds
    held = f" and {folds.hold_out}s" if folds.hold_out else ""
    return Row(
        system=system,
        corpus=record.corpus.facts.name,
        classes=len(record.labels),
        folds=f"fold {record.fold} of {folds.count}, speakers{held} held out",
        speaker_independent=True,
        reference_utterances=0,
        precision="fp32",
        seed=seed,
        parameters=report.parameters,
        utterances=test.utterances,
        speakers=test.speakers,
        ua=round(test.ua, 4),
        ua_low=round(test.ua_low, 4),
        ua_high=round(test.ua_high, 4),
        wa=round(test.wa, 4),
        macro_f1=round(test.macro_f1, 4),
        ece=round(test.ece, 4),
        note=_by_carrier(report),
    )


def _by_carrier(report: RunReport) -> str:
    shares = report.student.test_by.get("carrier", {})
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items())


def _teacher_rows(seeds: Sequence[int], work: Path) -> list[Row]:
    rows = []
    for seed in seeds:
        record, report = read_run(_folder(work, "student", seed)), read_report(_folder(work, "student", seed))
        for name, system in report.teachers.items():
            row = _row(f"{name}-teacher", seed, record, report.model_copy(update={"student": system}))
            rows.append(row.model_copy(update={"parameters": None, "reference_utterances": None}))
    return rows


if __name__ == "__main__":
    main()

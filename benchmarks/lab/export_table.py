"""Figures of exports, pooled over all folds of a run: `python -m benchmarks.lab.export_table NAME RUN --work DIR`.

Each fold's student is exported unchanged, pruned and, optionally, with quantisation-aware distillation; every graph is
tested on that fold's held-out speakers, and the folds are pooled. Writes ``benchmarks/results/NAME.json``. Finished
exports are not repeated.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.bench.device.latency import Latency, time_in_turns
from benchmarks.bench.results import PairedDifference, Ratio, Row, accuracy_columns, new_results
from benchmarks.lab.options import RESULTS, publish
from distill.corpora.argument import CORPUS, NamedPath
from distill.evaluation.metrics import mean_difference
from distill.evaluation.predictions import Predictions
from distill.runs.cross_validation import describe_folds
from distill.runs.run_directory import read_run
from distill.speech.spread_windows import spread_windows
from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.console import console
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.files import digest_of
from edge_runtime.parameters import Number, count_option, path_option
from edge_runtime.sources.audio import Pcm
from export.export_run import export_run
from export.options import Changes, ExportOptions

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8-cpu", "int8-trt")
BASELINE = "student fp32"
_WINDOWS = 16


@dataclass(frozen=True)
class Variant:
    """A variant of the export.

    Attributes:
        system: name in the results.
        changes: of the student before export.
    """

    system: str
    changes: Changes

    @property
    def note(self) -> str:
        """Description of the changes."""
        parts = []
        if self.changes.prune:
            parts.append(f"{self.changes.prune:.0%} of the multiply-accumulates pruned")
        if self.changes.recover_epochs:
            parts.append(f"{self.changes.recover_epochs} epochs of recovery")
        if self.changes.qat_epochs:
            parts.append(f"{self.changes.qat_epochs} epochs of quantisation-aware distillation")
        return ", ".join(parts)


def variants(prune: float, recover_epochs: int, qat_epochs: int) -> list[Variant]:
    """Return the exports to compare; zero leaves out pruning or quantisation-aware distillation."""
    found = [Variant("student", Changes())]
    smaller = Changes(prune=prune, recover_epochs=recover_epochs)
    if prune:
        found.append(Variant("student-pruned", smaller))
    if qat_epochs:
        found.append(Variant("student-aware", Changes(qat_epochs=qat_epochs)))
    if prune and qat_epochs:
        found.append(Variant("student-pruned-aware", dataclasses.replace(smaller, qat_epochs=qat_epochs)))
    return found


def folds_of(runs: Sequence[Path]) -> list[Path]:
    """Return run directories of single folds, including those of cross-validation directories.

    Raises:
        WrongUseError: two of them test the same fold, or they belong to different runs.
    """
    found: list[Path] = []
    for run in runs:
        nested = sorted(path.parent for path in run.glob("fold-*/report.json"))
        found += nested if nested and not (run / "run.json").is_file() else [run]
    records = [read_run(run) for run in found]
    if len({record.fold for record in records}) < len(records):
        raise WrongUseError(f"{runs[0]}: two of the runs test the same fold; give each fold once")
    first = records[0]
    for run, record in zip(found, records, strict=True):
        if (record.recipe, record.corpus.fingerprint) != (first.recipe, first.corpus.fingerprint):
            raise WrongUseError(f"{run}: is of another recipe or corpus than {found[0]}; give folds of one run")
    return found


def export_all(folds: Sequence[Path], wanted: Sequence[Variant], work: Path, moved: tuple[NamedPath, ...]) -> None:
    """Export every variant of every fold into ``WORK/fold-K/SYSTEM``, and write its predictions next to it."""
    for run in folds:
        for variant in wanted:
            out = _place(work, run, variant)
            if all(path.is_file() for path in _predictions(out)):
                continue
            console.print(f"{out}", style="bold")
            options = ExportOptions(int8=True, moved=moved, changes=variant.changes, allow_drop=True, allow_chance=True)
            outcome = export_run(run, out, options, progress=lambda text: console.print(f"  {text}"))
            for precision, path in zip(PRECISIONS, _predictions(out), strict=True):
                Predictions.of(outcome.evaluations[precision]).write(path)


def make_rows(folds: Sequence[Path], wanted: Sequence[Variant], work: Path, latencies: dict[str, Latency]) -> list[Row]:
    """Return a row for each variant and precision, all folds pooled."""
    records = [read_run(run) for run in folds]
    record = records[0]
    baseline = _pooled(folds, wanted[0], work, "fp32")
    rows = []
    for variant in wanted:
        bundles = [load_bundle(_place(work, run, variant)) for run in folds]
        for precision in PRECISIONS:
            name = f"{variant.system} {precision}"
            pooled = _pooled(folds, variant, work, precision)
            columns: dict[str, Any] = accuracy_columns(pooled.accuracy) | _latency_columns(name, latencies)
            if name != BASELINE:
                found = mean_difference(pooled.truth, [baseline.decided], [pooled.decided], pooled.speakers)
                columns["difference"] = PairedDifference.of(BASELINE, found)
            rows.append(
                Row(
                    system=variant.system,
                    corpus=record.corpus.facts.name,
                    classes=len(record.labels),
                    folds=describe_folds(record.recipe.folds, sorted(each.fold for each in records)),
                    speaker_independent=not record.recipe.folds.speaker_mixed,
                    reference_utterances=0,
                    precision=precision,
                    note=variant.note,
                    **_sizes(bundles, precision),
                    **columns,
                )
            )
    return rows


def _sizes(bundles: Sequence[Bundle], precision: Precision) -> dict[str, int]:
    """Return means over the folds, which are pruned differently."""
    return {
        "parameters": round(np.mean([bundle.manifest.encoder.parameters for bundle in bundles])),
        "macs": round(np.mean([sum(bundle.manifest.macs.values()) for bundle in bundles])),
        "size_bytes": round(np.mean([bundle.graph(precision).stat().st_size for bundle in bundles])),
    }


def _latency_columns(name: str, latencies: dict[str, Latency]) -> dict[str, Any]:
    if name not in latencies:
        return {}
    own, base = latencies[name], latencies[BASELINE]
    ratio = None if name == BASELINE else Ratio(to=BASELINE, value=round(base.median / own.median, 2))
    return own.columns() | {"ratio": ratio}


def time_all(
    run: Path, wanted: Sequence[Variant], work: Path, windows: Sequence[Pcm], rounds: int
) -> dict[str, Latency]:
    """Time the float and the CPU graphs of one fold, one thread, in turns, on windows of full length."""
    systems = {}
    for variant in wanted:
        bundle = load_bundle(_place(work, run, variant))
        for precision in PRECISIONS[:2]:
            systems[f"{variant.system} {precision}"] = OnnxEngine.of(bundle, precision).score
    return time_in_turns(systems, windows, rounds=rounds)


def _timed_windows(run: Path, moved: tuple[NamedPath, ...]) -> list[Pcm]:
    from export.loaded_run import load_run

    loaded = load_run(run, moved)
    length = loaded.policy.samples
    windows = spread_windows(loaded.fold.test, loaded.policy, _WINDOWS)
    # Shorter clips are repeated up to the length of a window.
    return [np.resize(pcm, length).astype(np.float32) for pcm in windows]


def _place(work: Path, run: Path, variant: Variant) -> Path:
    """Return the directory of a variant, which depends on the run, its corpus and the changes."""
    record = read_run(run)
    facts = [record.provenance.date, record.corpus.fingerprint, dataclasses.asdict(variant.changes)]
    digest = digest_of(facts, 8)
    return work / f"fold-{record.fold}" / f"{variant.system}-{digest}"


def _predictions(out: Path) -> list[Path]:
    return [out.with_name(f"{out.name}.{precision}.csv") for precision in PRECISIONS]


def _pooled(folds: Sequence[Path], variant: Variant, work: Path, precision: Precision) -> Predictions:
    place = PRECISIONS.index(precision)
    return Predictions.pool([Predictions.read(_predictions(_place(work, run, variant))[place]) for run in folds])


@click.command("export_table", cls=Tool)
@click.argument("name")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@path_option("--work", "Where bundles go; finished ones are kept.", required=True)
@click.option("--corpus", "moved", multiple=True, type=CORPUS, help="Path of the runs' corpus, if it was moved.")
@click.option(
    "--prune",
    type=Number(0, 1, max_open=True),
    metavar="SHARE",
    default=0.5,
    show_default=True,
    help="Share of the multiply-accumulates to remove; 0 leaves out pruning.",
)
@count_option("--recover-epochs", "Epochs of recovery after pruning.", least=0, default=4)
@count_option("--qat-epochs", "Epochs under simulated INT8; 0 leaves them out.", least=0, default=2)
@count_option("--rounds", "Timed calls of each graph; 0 times nothing.", least=0, default=100)
def main(
    name: str,
    runs: tuple[Path, ...],
    work: Path,
    moved: tuple[NamedPath, ...],
    prune: float,
    recover_epochs: int,
    qat_epochs: int,
    rounds: int,
) -> None:
    """Export all folds of RUNS (run directories, or a cross-validation's) and write benchmarks/results/NAME.json.

    \b
    Example:
      python -m benchmarks.lab.export_table ravdess-export folds --work exports
    """
    began = time.monotonic()
    folds = folds_of(runs)
    wanted = variants(prune, recover_epochs, qat_epochs)
    export_all(folds, wanted, work, moved)
    latencies = time_all(folds[0], wanted, work, _timed_windows(folds[0], moved), rounds) if rounds else {}
    rows = make_rows(folds, wanted, work, latencies)
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[read_run(folds[0]).recipe.seed])
    publish(results, RESULTS / f"{name}.json", "export/RESULTS.md")


if __name__ == "__main__":
    main()

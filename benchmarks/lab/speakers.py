"""Accuracy with a speaker model: `python -m benchmarks.lab.speakers NAME BUNDLE… --corpus PATH`.

Each bundle, one per fold, is tested on unseen speakers, each utterance after unlabelled ones of the same speaker: by
number of utterances, of one emotion, of two speakers, of another speaker, by telephone, and in the order in which a
device receives them, including its handling of a change of speaker. The folds are pooled. Writes
``benchmarks/results/NAME.json``, with a row for each kind of them, and its plot.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click
import numpy as np

from benchmarks.bench.accuracy.graphs import held_out
from benchmarks.bench.estimate import estimate
from benchmarks.bench.results import PairedDifference, Row, new_results
from benchmarks.lab.options import RESULTS, publish
from benchmarks.lab.plots import reference_plot
from benchmarks.lab.speaker_conditions import ALL, NONE, RANDOM, TestSpeakers, conditions
from distill.corpora.read import read_corpus
from distill.corpus import Corpus
from distill.evaluation.changes import Changes
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import mean_difference, resample, unweighted_accuracy
from distill.evaluation.predictions import Predictions
from distill.evaluation.speaker_normalised import Speakers
from distill.speech.channels import by_telephone
from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.console import advance, progress_bar
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.parameters import count_option, path_option


class Measured(NamedTuple):
    """Decisions under one condition, pooled over folds.

    Attributes:
        runs: decisions of each repetition.
        changes: of speaker, over all repetitions; None where utterances have no order.
    """

    runs: list[Predictions]
    changes: Changes | None


def speakers_of(bundle: Bundle, corpus: Corpus, precision: Precision) -> Speakers:
    """Return the test speakers of a bundle, scored by one of its graphs.

    Raises:
        WrongUseError: the bundle has no speaker model.
    """
    manifest = bundle.manifest
    if bundle.speaker_model is None:
        raise WrongUseError(f"{bundle.root}: has no speaker model; train it with a recipe that has [student.speaker]")
    return Speakers(
        score=OnnxEngine.of(bundle, precision).score,
        items=held_out(bundle, corpus).utterances,
        labels=manifest.labels,
        policy=manifest.window,
        temperature=manifest.temperature,
        model=bundle.speaker_model,
        projection=bundle.speaker_projection,
        keep_audio=True,
    )


def measure_all(
    bundles: Sequence[Path], corpus: Corpus, precision: Precision, repeats: int
) -> Mapping[tuple[str, int], Measured]:
    """Return the decisions under each condition, by its name and number of utterances."""
    parts: dict[tuple[str, int], list[list[Predictions]]] = {}
    changes: dict[tuple[str, int], list[Changes]] = {}
    loaded = [load_bundle(place) for place in bundles]
    tested_speakers = [{item.speaker for item in held_out(bundle, corpus).utterances} for bundle in loaded]
    kinds = conditions(min(map(len, tested_speakers)))
    for number, (place, bundle) in enumerate(zip(bundles, loaded, strict=True)):
        speakers = speakers_of(bundle, corpus, precision)
        times = sum(repeats if kind.chance else 1 for kind in kinds)
        with progress_bar(f"{place}, {len(speakers.items)} utterances", total=times * len(speakers.items)) as bar:
            tested = TestSpeakers(speakers, speakers.plain(), speakers.plain(by_telephone))
            for kind in kinds:
                name = kind.name, kind.utterances
                runs = parts.setdefault(name, [])
                for seed in range(repeats if kind.chance else 1):
                    evaluation, noticed = kind.measure(tested, seed, partial(advance, bar))
                    if number == 0:
                        runs.append([])
                    runs[seed].append(Predictions.of(evaluation))
                    changes.setdefault(name, []).extend([noticed] if noticed else [])
    return {
        name: Measured([Predictions.pool(run) for run in runs], Changes.sum(changes[name]) if changes[name] else None)
        for name, runs in parts.items()
    }


def make_rows(found: Mapping[tuple[str, int], Measured], facts: dict[str, Any]) -> list[Row]:
    """Return a row for each condition, with its paired difference to that of unknown speakers.

    Args:
        found: from `measure_all`.
        facts: columns of all rows.
    """
    baseline = found[NONE, 0].runs[0]
    rows = []
    for (name, count), (runs, changes) in found.items():
        columns: dict[str, Any] = {"figures": changes.figures() if changes else None}
        if name != NONE:
            difference = mean_difference(
                baseline.truth, [baseline.decided], [run.decided for run in runs], baseline.speakers
            )
            columns["difference"] = PairedDifference.of(NONE, difference)
        value = float(np.mean([unweighted_accuracy(run.truth, run.decided) for run in runs]))
        draws = [resample(run.truth, run.decided, run.speakers).ua for run in runs]
        ua = estimate(value, Interval.over_speakers(np.mean(draws, axis=0), len(set(baseline.speakers))))
        rows.append(
            Row(
                system=name,
                reference_utterances=None if count == ALL or name.startswith("in turn") else count,
                ua=ua.value,
                ua_low=ua.low,
                ua_high=ua.high,
                utterances=len(baseline.names),
                speakers=len(set(baseline.speakers)),
                **facts,
                **columns,
            )
        )
    return rows


@click.command("speakers", cls=Tool)
@click.argument("name")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@path_option("--corpus", "Labelled speech to test on.", required=True, exists=True)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="int8-cpu",
    show_default=True,
    help="Of the graph.",
)
@count_option("--repeats", "Random draws of each kind.", default=2)
def main(name: str, bundles: tuple[Path, ...], corpus: Path, precision: Precision, repeats: int) -> None:
    """Test BUNDLES (one per fold) after utterances of the tested speakers, and write NAME.json.

    \b
    Example:
      python -m benchmarks.lab.speakers ravdess-speakers bundle-0 --corpus RAVDESS
    """
    began = time.monotonic()
    speech = read_corpus(corpus)
    found = measure_all(bundles, speech, precision, repeats)
    first = load_bundle(bundles[0])
    facts = {
        "corpus": speech.facts.name,
        "classes": len(first.manifest.labels),
        "folds": f"{len(bundles)} folds, {held_out(first, speech).folds.partition(', ')[2]}",
        "speaker_independent": held_out(first, speech).speaker_independent,
        "precision": precision,
        "note": f"mean of {repeats} draws where utterances are drawn",
    }
    results = new_results(make_rows(found, facts), seconds=time.monotonic() - began, seeds=list(range(repeats)))
    plot = reference_plot(results.rows, RANDOM, NONE)
    publish(results, RESULTS / f"{name}.json", "distill/RESULTS.md", {f"{name}.svg": plot})


if __name__ == "__main__":
    main()

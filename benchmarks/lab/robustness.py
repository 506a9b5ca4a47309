"""Acoustic conditions on unseen corpora: `python -m benchmarks.lab.robustness NAME BUNDLE… --corpus NAME=PATH …`.

Each bundle is tested on every corpus that it was not trained on, clean and under each condition, without adaptation to
the speaker. Writes ``benchmarks/results/NAME.json``, with a row for each corpus and condition, and the means.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np

from benchmarks.bench.accuracy.conditions import CONDITIONS, ConditionScore, conditions_with, measure_conditions
from benchmarks.bench.accuracy.recordings import held_out_recordings
from benchmarks.bench.estimate import rounded
from benchmarks.bench.results import Row, new_results
from benchmarks.lab.options import RESULTS, publish
from benchmarks.lab.strangers import MEAN, each_unseen
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpus import spread
from edge_runtime.console import console
from edge_runtime.errors import Tool
from edge_runtime.machine import instruction_sets
from edge_runtime.parameters import count_option

SIMULATED = {
    "babble, 10 dB",
    "room, 0.6 s, direct sound 0 dB",
    "telephone, G.711",
    "telephone, GSM",
    "Opus, 12 kbit/s",
    "MP3, about 12 kbit/s",
    "loudest 10 % clipped",
    "after 1 s of neutral speech",
}
"""Conditions of `CONDITIONS` that are measured, besides those with recordings."""


@click.command("robustness", cls=Tool)
@click.argument("name")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--corpus", "corpora", type=CORPUS, multiple=True, required=True, help="Labelled speech.")
@click.option("--rooms", type=click.Path(path_type=Path, exists=True), multiple=True, help="Recorded rooms.")
@click.option("--noises", type=click.Path(path_type=Path, exists=True), multiple=True, help="Recorded noise.")
@count_option("--most", "Utterances of each corpus.", default=300)
def main(
    name: str,
    bundles: tuple[Path, ...],
    corpora: tuple[NamedPath, ...],
    rooms: tuple[Path, ...],
    noises: tuple[Path, ...],
    most: int,
) -> None:
    """Test BUNDLES on the corpora that they were not trained on, under acoustic conditions, and write NAME.json.

    \b
    Example:
      python -m benchmarks.lab.robustness conditions bundle-0 bundle-1 --corpus one=A --corpus two=B --rooms ROOMS
    """
    began = time.monotonic()
    found: dict[str, list[ConditionScore]] = {}
    notes: tuple[str, ...] = ()
    for bundle, corpus, items in each_unseen(bundles, corpora):
        recordings = held_out_recordings(rooms, noises, bundle.manifest.recipe)
        notes = recordings.notes
        recorded = [each for each in conditions_with(recordings) if each not in CONDITIONS]
        chosen = [*(each for each in CONDITIONS if each.name in SIMULATED), *recorded]
        console.print(f"{corpus.facts.name}: {min(most, len(items))} utterances, {len(chosen)} conditions")
        section = measure_conditions(
            bundle, spread(items, most), items, ("int8-cpu",), conditions=chosen, recordings=recordings
        )
        found[corpus.facts.name] = section.graphs["int8-cpu"]
    rows = [
        _row(corpus, each.name, each.ua.value, each.ua.low, each.ua.high, _lost(each))
        for corpus, scores in found.items()
        for each in scores
    ]
    means: dict[str, list[ConditionScore]] = {}
    for scores in found.values():
        for each in scores:
            means.setdefault(each.name, []).append(each)
    for condition, parts in means.items():
        lost = [part.difference.value for part in parts if part.difference is not None]
        ua = float(np.mean([part.ua.value for part in parts]))
        rows.append(_row(MEAN, condition, ua, None, None, float(np.mean(lost)) if lost else None))
    results = new_results(
        [row.model_copy(update={"note": " ".join(notes)}) for row in rows], seconds=time.monotonic() - began, seeds=[0]
    )
    publish(results, RESULTS / f"{name}.json", "distill/RESULTS.md")


def _lost(score: ConditionScore) -> float | None:
    return None if score.difference is None else score.difference.value


def _row(
    corpus: str, condition: str, ua: float, low: float | None, high: float | None, difference: float | None
) -> Row:
    return Row(
        system="student",
        corpus=corpus,
        held_out="corpus",
        condition=condition,
        reference_utterances=0,
        speaker_independent=True,
        precision="int8-cpu",
        processor=instruction_sets(),
        ua=rounded(ua),
        ua_low=None if low is None else rounded(low),
        ua_high=None if high is None else rounded(high),
        figures=None if difference is None else {"difference to clean": rounded(difference)},
    )


if __name__ == "__main__":
    main()

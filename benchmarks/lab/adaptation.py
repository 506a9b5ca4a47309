"""Ways of adapting to a speaker: `python -m benchmarks.lab.adaptation NAME BUNDLE… --corpus NAME=PATH …`.

The speaker model of each bundle is compared with simpler rules on corpora that the bundle was not trained on: after
unlabelled utterances, and in streams in random order and sorted by emotion, on the same statistics of the INT8 graph.
Writes ``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.bench.results import Row, new_results
from benchmarks.lab.options import RESULTS, publish
from benchmarks.lab.strangers import (
    MEAN,
    UNLABELLED,
    Figures,
    Stage,
    each_unseen,
    figures,
    int8_speakers,
    mean_of,
    row_of,
)
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpus import Utterance
from distill.evaluation.speaker_draws import Stream, by_emotion, in_turn, random_draws
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.errors import Tool
from edge_runtime.machine import instruction_sets
from edge_runtime.parameters import count_option

_NONE, _WIDE, _UNIFORM = 1e-6, 1e3, 1e6


def rules(model: SpeakerModel) -> Mapping[str, SpeakerModel]:
    """Return the speaker model and simpler ones.

    A plain mean is the offset without a prior and with uniform classes; plain EM trusts each utterance's own class.
    Updates of class means alone are what Emo-TTA does (arXiv 2509.25495).
    """
    offset = replace(model, interaction=np.full_like(model.interaction, _NONE))
    return {
        "plain mean": replace(offset, between=model.between * _WIDE, softness=_UNIFORM),
        "offset, classes uniform": replace(offset, softness=_UNIFORM),
        "offset, plain EM": replace(offset, softness=1.0),
        "offset, soft EM": offset,
        "class means, soft EM": replace(model, between=np.eye(len(model.between)) * _NONE),
        "speaker model": model,
    }


def measure(bundle: Bundle, items: Sequence[Utterance], repeats: int) -> Iterator[tuple[str, Stage, Figures]]:
    """Yield the figures of each rule at each stage."""
    manifest, whole = bundle.manifest, int8_speakers(bundle, items)
    clips = whole.plain()
    for name, rule in rules(whole.model).items():
        speakers = replace(whole, model=rule)
        for count in UNLABELLED:
            draws = [random_draws(items, count, seed) for seed in range(repeats)]
            found = [speakers.drawn(clips, each) for each in draws]
            yield name, Stage(count), figures(found, manifest.threshold)
        for order, orders in (("random", in_turn(items, 0)), ("sorted", by_emotion(items, 0))):
            streams = [Stream(each) for each in orders]
            decided, _ = speakers.online(streams, clips)
            yield name, Stage(order=order), figures([decided], manifest.threshold)


@click.command("adaptation", cls=Tool)
@click.argument("name")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--corpus", "corpora", type=CORPUS, multiple=True, required=True, help="Labelled speech.")
@count_option("--repeats", "Random draws of each kind.", default=1)
def main(name: str, bundles: tuple[Path, ...], corpora: tuple[NamedPath, ...], repeats: int) -> None:
    """Compare rules of adaptation with BUNDLES on corpora that they were not trained on, and write NAME.json.

    \b
    Example:
      python -m benchmarks.lab.adaptation adaptation bundle-0 bundle-1 --corpus one=A --corpus two=B
    """
    began = time.monotonic()
    found: dict[tuple[str, Stage], dict[str, Figures]] = {}
    for part in each_unseen(bundles, corpora):
        for rule, stage, each in measure(part.bundle, part.items, repeats):
            found.setdefault((rule, stage), {})[part.corpus.facts.name] = each
    facts = {"speaker_independent": True, "precision": "int8-cpu", "processor": instruction_sets()}
    rows: list[Row] = []
    for (rule, stage), every in found.items():
        parts = {**every, MEAN: mean_of(list(every.values()))}
        rows += [row_of(tested, stage, one, facts).model_copy(update={"system": rule}) for tested, one in parts.items()]
    results = new_results(rows, seconds=time.monotonic() - began, seeds=list(range(repeats)))
    publish(results, RESULTS / f"{name}.json", "distill/RESULTS.md")


if __name__ == "__main__":
    main()

"""Few-shot personalisation: `python -m benchmarks.lab.teaching NAME BUNDLE… --corpus NAME=PATH …`.

Each bundle is taught with one, two and five clips of each emotion of speakers of corpora that it was not trained on: by
the offset of the speaker alone, by class means alone, and by both, as `edgeemo teach` does. Emotions that the bundle
does not have are taught one at a time. Writes ``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.bench.estimate import rounded
from benchmarks.bench.results import Row, interval_columns, new_results
from benchmarks.lab.options import RESULTS, publish
from benchmarks.lab.strangers import LABELLED, MEAN, Stage, each_unseen, figures, int8_speakers
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpus import Corpus, Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import unweighted_accuracy
from distill.evaluation.speaker_draws import labelled_draws
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.errors import Tool
from edge_runtime.machine import instruction_sets
from edge_runtime.parameters import count_option

_NONE = 1e-6


def variants(model: SpeakerModel) -> Mapping[str, SpeakerModel]:
    """Return the speaker model and its parts: offset alone, and class means alone."""
    return {
        "offset": replace(model, interaction=np.full_like(model.interaction, _NONE)),
        "class means": replace(model, between=np.eye(len(model.between)) * _NONE),
        "offset and class means": model,
    }


def measure(bundle: Bundle, items: Sequence[Utterance], repeats: int, apart: str | None) -> Iterator[Row]:
    """Yield a row for each variant and number of clips."""
    manifest, whole = bundle.manifest, int8_speakers(bundle, items)
    clips = whole.plain()
    for name, variant in variants(whole.model).items():
        speakers = replace(whole, model=variant)
        for count in LABELLED:
            draws = [labelled_draws(items, count, seed, apart) for seed in range(repeats)]
            evaluations = [speakers.drawn(clips, each, labelled=True) for each in draws]
            yield _row(name, Stage(0, count), evaluations, manifest.threshold)


def measure_new(bundle: Bundle, corpus: Corpus, known: Sequence[Utterance], repeats: int) -> Iterator[Row]:
    """Yield a row for each emotion that the bundle does not have: taught beside those that it has."""
    manifest, whole = bundle.manifest, int8_speakers(bundle, known)
    files = {item.path for item in known}
    for label in sorted({item.emotion for item in corpus.utterances if item.path not in files}):
        items = [*known, *(item for item in corpus.utterances if item.emotion == label and item.path not in files)]
        labels = (*manifest.labels, label)
        speakers = replace(whole, items=items, labels=labels, model=whole.model.with_classes(1))
        clips = speakers.plain()
        for count in (2, 5):
            draws = [labelled_draws(items, count, seed) for seed in range(repeats)]
            evaluations = [speakers.drawn(clips, each, labelled=True) for each in draws]
            row = _row(f"new: {label}", Stage(0, count), evaluations, manifest.threshold)
            recall = np.mean(
                [(each.decided == each.truth)[each.truth == len(labels) - 1].mean() for each in evaluations]
            )
            old = np.mean([_known_ua(each) for each in evaluations])
            yield row.model_copy(
                update={
                    "classes": len(labels),
                    "figures": {
                        "recall of the new emotion": rounded(float(recall)),
                        "ua of the others": rounded(float(old)),
                    },
                }
            )


def _known_ua(evaluation: Evaluation) -> float:
    known = evaluation.truth < len(evaluation.labels) - 1
    return unweighted_accuracy(evaluation.truth[known], evaluation.decided[known])


def _row(system: str, stage: Stage, evaluations: Sequence[Evaluation], threshold: float) -> Row:
    found = figures(evaluations, threshold)
    return Row(
        system=system,
        corpus="",
        classes=len(evaluations[0].labels),
        held_out="corpus",
        speaker_independent=True,
        precision="int8-cpu",
        processor=instruction_sets(),
        ua=rounded(found.ua),
        **interval_columns("ua", Interval.over_speakers(found.draws, found.fewest)),
        ece=rounded(found.ece),
        **stage._asdict(),
    )


@click.command("teaching", cls=Tool)
@click.argument("name")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--corpus", "corpora", type=CORPUS, multiple=True, required=True, help="Labelled speech.")
@click.option("--apart", metavar="COLUMN", help="Clips differ in this column from what they are tested on.")
@count_option("--repeats", "Random draws of each kind.", default=2)
def main(name: str, bundles: tuple[Path, ...], corpora: tuple[NamedPath, ...], apart: str | None, repeats: int) -> None:
    """Teach BUNDLES with clips of corpora that they were not trained on, and write NAME.json.

    \b
    Example:
      python -m benchmarks.lab.teaching teach bundle-0 bundle-1 --corpus one=A --corpus two=B
    """
    began = time.monotonic()
    rows: list[Row] = []
    for part in each_unseen(bundles, corpora):
        bundle, corpus, items = part
        found = [*measure(bundle, items, repeats, part.column(apart)), *measure_new(bundle, corpus, items, repeats)]
        rows += [row.model_copy(update={"corpus": corpus.facts.name}) for row in found]
    results = new_results([*rows, *_means(rows)], seconds=time.monotonic() - began, seeds=list(range(repeats)))
    publish(results, RESULTS / f"{name}.json", "distill/RESULTS.md")


def _means(rows: Sequence[Row]) -> list[Row]:
    """Return the mean over corpora of each system and number of clips; of all new emotions together."""
    groups: dict[tuple[str, int | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.system.partition(":")[0], row.labelled_per_class), []).append(row)
    return [
        parts[0].model_copy(
            update={
                "system": system,
                "corpus": MEAN,
                "ua": rounded(float(np.mean([row.ua for row in parts if row.ua is not None]))),
                "ua_low": None,
                "ua_high": None,
                "ece": rounded(float(np.mean([row.ece for row in parts if row.ece is not None]))),
                "figures": {
                    key: rounded(float(np.mean([row.figures[key] for row in parts if row.figures])))
                    for key in parts[0].figures or {}
                }
                or None,
            }
        )
        for (system, _), parts in groups.items()
    ]


if __name__ == "__main__":
    main()

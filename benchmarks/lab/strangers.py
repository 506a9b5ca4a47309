"""Unseen corpora: `python -m benchmarks.lab.strangers NAME BUNDLE… --corpus NAME=PATH …`.

Each bundle is tested on every corpus that it was not trained on, or that its fold left out: at several stages of
adaptation to the speaker, and in a stream, whose events come from the public `Stream` with voice activity detection.
Writes ``benchmarks/results/NAME.json``, with a row for each corpus and stage, and a row for the mean over corpora.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.bench.accuracy.graphs import held_out, trained_on
from benchmarks.bench.estimate import rounded
from benchmarks.bench.results import Row, interval_columns, new_results
from benchmarks.lab.options import RESULTS, publish
from benchmarks.lab.plots import uncertainty_plot
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpora.auxiliary import names_among
from distill.corpora.read import read_corpus
from distill.corpus import CORPUS as CORPUS_COLUMN
from distill.corpus import Corpus, Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import (
    Floats,
    Ints,
    calibration_error,
    calibration_gaps,
    draw_speakers,
    unweighted_accuracy,
)
from distill.evaluation.speaker_draws import by_emotion, in_turn, labelled_draws, random_draws
from distill.evaluation.speaker_normalised import Speakers
from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.config import ListenSettings
from edge_runtime.console import progress_bar
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.events import EmotionEvent
from edge_runtime.machine import instruction_sets
from edge_runtime.model import Model
from edge_runtime.parameters import count_option
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio

UNLABELLED, LABELLED = (5, 20), (1, 2, 5)
FIRST = 10
"""Clips of a stream whose figures have a row of their own."""
PAUSE = 1.0
"""Seconds between two clips of a stream, of quiet noise."""
_NOISE = 1e-4
_POINTS = 41
"""Of a curve of uncertainty."""
MEAN = "mean"


class Stage(NamedTuple):
    """A stage of adaptation: unlabelled utterances, labelled clips of each emotion, and the order of a stream."""

    reference_utterances: int | None = None
    labelled_per_class: int | None = None
    order: str | None = None


class Figures(NamedTuple):
    """Figures of one stage on one corpus, with draws of the bootstrap over speakers.

    Attributes:
        ua: unweighted accuracy.
        draws: ``[B]`` of `ua`.
        fewest: tested speakers, of the corpus with the fewest.
        ece: calibration error.
        gaps: what `ece` is the sum of, by bin of confidence; those of all corpora together cancel where one is easier
            than expected and another one harder.
        brier: squared error of the probabilities, summed over classes (Brier 1950), 0 to 2.
        confident_errors: share of all decisions that are wrong and not marked uncertain.
        errors_flagged: share of errors that are marked uncertain.
        correct_flagged: share of correct decisions that are.
        decided: share of utterances that have a decision; below 1 where a stream has no event for a clip.
        curve: share of errors whose confidence is below that of so many correct decisions, at shares of 0 to 1.
    """

    ua: float
    draws: Floats
    fewest: int
    ece: float
    gaps: Floats
    brier: float
    confident_errors: float
    errors_flagged: float
    correct_flagged: float
    decided: float
    curve: Floats


def unseen(bundle: Bundle, corpus: Corpus) -> list[Utterance]:
    """Return the utterances of a corpus that a bundle was not trained on, with the bundle's labels; none if it was.

    Only a corpus that is left out as a whole is unseen.
    """
    found = trained_on(bundle, corpus)
    if found is not None:
        folds = found[0].folds
        if folds is None or folds.by != CORPUS_COLUMN or found[0].test_speakers == ():
            return []
        return list(held_out(bundle, corpus).utterances)
    if any(entry.name == corpus.facts.name for entry in bundle.manifest.corpora):
        return []  # another state of it
    return list(corpus.labelled(names_among(bundle.manifest.labels, bundle.root, corpus)).utterances)


class Unseen(NamedTuple):
    """A bundle, and the utterances of a corpus that it was not trained on."""

    bundle: Bundle
    corpus: Corpus
    items: list[Utterance]

    def column(self, name: str | None) -> str | None:
        """Return the name of a column if the corpus has it."""
        return name if name and name in self.items[0].extra else None


def each_unseen(bundles: Sequence[Path], corpora: Sequence[NamedPath]) -> Iterator[Unseen]:
    """Yield each corpus once, with the first bundle that was not trained on it.

    Raises:
        WrongUseError: the bundles were trained on all of the corpora.
    """
    speech = [read_corpus(each.path, name=each.name) for each in corpora]
    done: set[str] = set()
    for place in bundles:
        bundle = load_bundle(place)
        for corpus in speech:
            items = unseen(bundle, corpus)
            if items and corpus.facts.name not in done:
                done.add(corpus.facts.name)
                yield Unseen(bundle, corpus, items)
    if not done:
        raise WrongUseError("the bundles were trained on all of these corpora")


def int8_speakers(bundle: Bundle, items: Sequence[Utterance]) -> Speakers:
    """Return utterances with the INT8 graph and the speaker model of a bundle.

    Raises:
        WrongUseError: the bundle has no speaker model.
    """
    if bundle.speaker_model is None:
        raise WrongUseError(f"{bundle.root}: has no speaker model; train it with a recipe that has [student.speaker]")
    manifest, score = bundle.manifest, OnnxEngine.of(bundle, "int8-cpu").score
    return Speakers(score, items, manifest.labels, manifest.window, manifest.temperature, bundle.speaker_model)


def stages(
    bundle: Bundle, items: Sequence[Utterance], repeats: int, apart: str | None
) -> Iterator[tuple[Stage, list[Evaluation]]]:
    """Yield each stage with the decisions of its repetitions.

    Args:
        bundle: with a speaker model and an INT8 graph.
        items: utterances that it was not trained on.
        repeats: draws of utterances and orders.
        apart: column by which labelled clips differ from what they are tested on, as the sentence.
    """
    manifest, speakers = bundle.manifest, int8_speakers(bundle, items)
    clips = speakers.plain()
    yield Stage(0), [speakers.evaluation([clip.probabilities for clip in clips])]
    for count in UNLABELLED:
        draws = [random_draws(items, count, seed) for seed in range(repeats)]
        yield Stage(count), [speakers.drawn(clips, each) for each in draws]
    for count in LABELLED:
        draws = [labelled_draws(items, count, seed, apart) for seed in range(repeats)]
        yield Stage(0, count), [speakers.drawn(clips, each, labelled=True) for each in draws]
    for order, orders in (("random", in_turn(items, 0)), ("sorted", by_emotion(items, 0))):
        found = streamed(bundle, items, orders)
        yield Stage(order=order), [found]
        if order == "random":
            first = sorted(number for each in orders for number in each[:FIRST])
            yield (
                Stage(order=f"{order}, first {FIRST}"),
                [Evaluation([items[number] for number in first], manifest.labels, found.probabilities[first])],
            )


def streamed(bundle: Bundle, items: Sequence[Utterance], orders: Sequence[Sequence[int]]) -> Evaluation:
    """Return the decisions of the public `Stream`, one stream a speaker; NaN for a clip without an event.

    A clip's decision is the mean of the final events in it, weighted by their duration.
    """
    settings = ListenSettings.model_validate({"decision": {"hop_seconds": bundle.manifest.window.seconds}})
    labels = bundle.manifest.labels
    rows: Floats = np.full((len(items), len(labels)), np.nan)
    noise = np.random.default_rng(0)
    with Model(bundle, settings) as model, progress_bar("streams", total=len(items)) as bar:
        for order in orders:
            spans, events, position = [], [], 0.0
            with model.stream(rate=SAMPLE_RATE) as stream:
                for number in order:
                    pcm = read_audio(items[number].path)
                    pause = noise.normal(0, _NOISE, round(PAUSE * SAMPLE_RATE)).astype(np.float32)
                    spans.append((number, position, position + len(pcm) / SAMPLE_RATE))
                    position += (len(pcm) + len(pause)) / SAMPLE_RATE
                    events += stream.feed(np.concatenate([pcm, pause]))
                    bar.advance(bar.task_ids[0])
                events += stream.close()
            finals = [each for each in events if isinstance(each, EmotionEvent) and each.type == "final"]
            for number, start, end in spans:
                own = [each for each in finals if start <= (each.start + each.end) / 2 < end + PAUSE]
                if own:
                    weights = [each.end - each.start for each in own]
                    values = [[each.probabilities[label] for label in labels] for each in own]
                    rows[number] = np.average(values, axis=0, weights=weights)
    return Evaluation(items, labels, rows)


def figures(evaluations: Sequence[Evaluation], threshold: float) -> Figures:
    """Return the figures of one stage, the mean over its repetitions."""
    return mean_of([_figures(evaluation, threshold) for evaluation in evaluations])


def mean_of(each: Sequence[Figures]) -> Figures:
    """Return the mean of figures."""
    values = {name: np.mean([np.asarray(getattr(one, name)) for one in each], axis=0) for name in Figures._fields}
    return Figures(**(values | {"fewest": min(one.fewest for one in each)}))


def _figures(evaluation: Evaluation, threshold: float) -> Figures:
    known = np.asarray(~np.isnan(evaluation.probabilities).any(axis=1))
    probabilities, truth = evaluation.probabilities[known], evaluation.truth[known]
    speakers = [name for name, one in zip(evaluation.speakers, known, strict=True) if one]
    decided, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right, sure = decided == truth, confidence >= threshold
    exact = np.eye(probabilities.shape[1])[truth]
    return Figures(
        ua=unweighted_accuracy(truth, decided),
        draws=_draws(truth, decided, speakers),
        fewest=len(set(speakers)),
        ece=calibration_error(probabilities, truth),
        gaps=calibration_gaps(probabilities, truth),
        brier=float(np.square(probabilities - exact).sum(axis=1).mean()),
        confident_errors=float((sure & ~right).mean()),
        errors_flagged=float((~sure[~right]).mean()) if (~right).any() else 1.0,
        correct_flagged=float((~sure[right]).mean()) if right.any() else 0.0,
        decided=float(known.mean()),
        curve=_curve(confidence, right),
    )


def _curve(confidence: Floats, right: Ints) -> Floats:
    if right.all() or not right.any():
        return np.linspace(0, 1, _POINTS)
    limits = np.quantile(confidence[right], np.linspace(0, 1, _POINTS))
    return np.asarray((confidence[~right][None, :] <= limits[:, None]).mean(axis=1))


def _draws(truth: Ints, decided: Ints, speakers: Sequence[str]) -> Floats:
    names, number = np.unique(speakers, return_inverse=True)
    classes = int(truth.max()) + 1
    count = np.zeros((len(names), classes))
    right = np.zeros((len(names), classes))
    np.add.at(count, (number, truth), 1)
    np.add.at(right, (number, truth), decided == truth)
    drawn = draw_speakers(len(names))
    total, correct = drawn @ count, drawn @ right
    recall = np.divide(correct, total, out=np.full_like(correct, np.nan), where=total > 0)
    return np.asarray(np.nanmean(recall, axis=1))


def make_rows(found: Mapping[str, Mapping[Stage, Figures]], facts: Mapping[str, Any]) -> list[Row]:
    """Return a row for each corpus and stage, then the means over corpora."""
    rows = [row_of(corpus, stage, each, facts) for corpus, every in found.items() for stage, each in every.items()]
    for stage in next(iter(found.values())):
        parts = [every[stage] for every in found.values()]
        rows.append(row_of(MEAN, stage, mean_of(parts), facts))
    return rows


def curves(
    found: Mapping[str, Mapping[Stage, Figures]],
) -> tuple[dict[str, list[float]], dict[str, tuple[float, float]]]:
    """Return the mean curve over corpora of some stages, and the point of the threshold on each."""
    chosen = {
        "unknown speaker": Stage(0),
        "20 unlabelled": Stage(20),
        "5 labelled of each emotion": Stage(0, 5),
        "stream, random": Stage(order="random"),
    }
    means = {name: mean_of([every[stage] for every in found.values()]) for name, stage in chosen.items()}
    return (
        {name: each.curve.tolist() for name, each in means.items()},
        {name: (float(each.correct_flagged), float(each.errors_flagged)) for name, each in means.items()},
    )


def row_of(corpus: str, stage: Stage, each: Figures, facts: Mapping[str, Any]) -> Row:
    """Return the row of a stage on a corpus, with more columns from ``facts``."""
    names = ("brier", "confident_errors", "errors_flagged", "correct_flagged", "decided")
    return Row(
        system="student",
        corpus=corpus,
        held_out="corpus",
        ua=rounded(each.ua),
        **interval_columns("ua", Interval.over_speakers(each.draws, each.fewest)),
        ece=rounded(each.ece),
        figures={name: rounded(getattr(each, name)) for name in names}
        | ({"ece_together": rounded(float(np.abs(each.gaps).sum()))} if corpus == MEAN else {}),
        **stage._asdict(),
        **facts,
    )


@click.command("strangers", cls=Tool)
@click.argument("name")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--corpus", "corpora", type=CORPUS, multiple=True, required=True, help="Labelled speech.")
@click.option("--apart", metavar="COLUMN", help="Labelled clips differ in this column from what they are tested on.")
@count_option("--repeats", "Random draws of each kind.", default=2)
def main(name: str, bundles: tuple[Path, ...], corpora: tuple[NamedPath, ...], apart: str | None, repeats: int) -> None:
    """Test BUNDLES on the corpora that they were not trained on, and write NAME.json.

    \b
    Example:
      python -m benchmarks.lab.strangers strangers bundle-0 bundle-1 bundle-2 --corpus one=A --corpus two=B
    """
    began = time.monotonic()
    found: dict[str, dict[Stage, Figures]] = {}
    for part in each_unseen(bundles, corpora):
        every = stages(part.bundle, part.items, repeats, part.column(apart))
        threshold = part.bundle.manifest.threshold
        found[part.corpus.facts.name] = {stage: figures(each, threshold) for stage, each in every}
    facts = {
        "classes": len(part.bundle.manifest.labels),
        "folds": f"{len(found)} corpora, each left out",
        "speaker_independent": True,
        "precision": "int8-cpu",
        "processor": instruction_sets(),
        "note": f"mean of {repeats} draws where utterances are drawn",
    }
    results = new_results(make_rows(found, facts), seconds=time.monotonic() - began, seeds=list(range(repeats)))
    plot = uncertainty_plot(*curves(found))
    publish(results, RESULTS / f"{name}.json", "README.md distill/RESULTS.md", {f"{name}.svg": plot})


if __name__ == "__main__":
    main()

"""Paired comparison of two runs on the same test utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.device.device_sections import Section
from distill.evaluation.intervals import no_interval
from distill.evaluation.metrics import Accuracy, Difference, mean_difference
from distill.evaluation.predictions import PREDICTIONS, Predictions
from distill.folds import FoldSpec
from distill.runs.cross_validation import CROSS_VALIDATION, STUDENT, describe_folds, read_cross_validation
from distill.runs.run_directory import read_report, read_run
from edge_runtime.errors import WrongUseError

SCHEMA = "edgeemo-comparison/1"


@dataclass(frozen=True)
class Tested:
    """Decisions of a run, with the properties that comparable runs share.

    Attributes:
        folder: the run directory.
        system: that was tested, such as ``student``.
        corpus: name of the corpus.
        fingerprint: state of the corpus.
        spec: of the folds.
        folds: that were tested.
        predictions: all tested utterances, sorted by file.
    """

    folder: Path
    system: str
    corpus: str
    fingerprint: str
    spec: FoldSpec
    folds: tuple[int, ...]
    predictions: Predictions


class Comparison(Section):
    """Result of a comparison; differences are second minus first.

    Attributes:
        schema_name: of the JSON form.
        first: name of the first run.
        second: name of the second run.
        corpus: name of the corpus.
        folds: how the tested part was held out.
        first_accuracy: of the first run.
        second_accuracy: of the second run.
        difference: paired, with intervals over speakers.
        verdict: the same in a sentence.
    """

    schema_name: str = SCHEMA
    first: str
    second: str
    corpus: str
    folds: str
    first_accuracy: Accuracy
    second_accuracy: Accuracy
    difference: Difference
    verdict: str


def read_tested(folder: Path) -> Tested:
    """Read a run directory of one fold, or of several.

    Raises:
        EdgeemoError: it is neither, or is not finished.
    """
    if (folder / CROSS_VALIDATION).is_file():
        found = read_cross_validation(folder)
        facts = found.corpus
        predictions = found.predictions(folder)
        return Tested(
            folder, found.system, facts.facts.name, facts.fingerprint, found.spec, tuple(found.folds), predictions
        )
    record = read_run(folder)
    read_report(folder)  # raises for an unfinished run
    predictions = Predictions.pool([Predictions.read(folder / PREDICTIONS)])
    corpus = record.corpus
    return Tested(
        folder, STUDENT, corpus.facts.name, corpus.fingerprint, record.recipe.folds, (record.fold,), predictions
    )


def refuse_unlike(runs: Sequence[Tested]) -> None:
    """Refuse runs that were not tested on the same utterances in the same folds.

    Raises:
        WrongUseError: they were not; the message names the difference.
    """
    first = runs[0]
    for other in runs[1:]:
        for what, ours, theirs in (
            ("corpora, or states of one", first.fingerprint, other.fingerprint),
            ("labels", first.predictions.labels, other.predictions.labels),
            ("folds", (first.spec, first.folds), (other.spec, other.folds)),
            ("test utterances", first.predictions.names, other.predictions.names),
        ):
            if ours != theirs:
                raise WrongUseError(
                    f"{first.folder} and {other.folder} have different {what}, so their figures cannot be compared; "
                    "run both on the same folds of the same corpus"
                )


def compare(first: Path, second: Path) -> Comparison:
    """Compare two finished runs.

    Raises:
        EdgeemoError: one of them cannot be read.
        WrongUseError: they were not tested on the same utterances.
    """
    runs = read_tested(first), read_tested(second)
    refuse_unlike(runs)
    one, other = (run.predictions for run in runs)
    difference = mean_difference(one.truth, [one.decided], [other.decided], one.speakers)
    names = _names(first, second)
    return Comparison(
        first=names[0],
        second=names[1],
        corpus=runs[0].corpus,
        folds=describe_folds(runs[0].spec, runs[0].folds),
        first_accuracy=one.accuracy,
        second_accuracy=other.accuracy,
        difference=difference,
        verdict=verdict(*names, difference, one.accuracy.speakers),
    )


def verdict(first: str, second: str, difference: Difference, speakers: int) -> str:
    """Return in a sentence which system has the higher unweighted accuracy, if the interval excludes zero."""
    found = f"{second} minus {first} is {difference.ua * 100:+.1f} points of unweighted accuracy"
    if difference.ua_interval is None:
        return f"No difference can be shown ({no_interval(speakers)}): {found}."
    low, high = difference.ua_interval.low, difference.ua_interval.high
    if low > 0 or high < 0:
        better, worse, sign = (second, first, 1) if low > 0 else (first, second, -1)
        ends = sorted((sign * low, sign * high))
        return (
            f"{better} is better than {worse} by {abs(difference.ua) * 100:.1f} points of unweighted accuracy "
            f"(95 % interval {ends[0] * 100:.1f} to {ends[1] * 100:.1f}, {speakers} speakers)."
        )
    return (
        f"No difference that these {speakers} speakers can show: {found} "
        f"(95 % interval {low * 100:+.1f} to {high * 100:+.1f})."
    )


def _names(first: Path, second: Path) -> tuple[str, str]:
    names = first.resolve().name, second.resolve().name
    return names if names[0] != names[1] else (str(first), str(second))

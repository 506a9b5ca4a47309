"""Accuracy by speaker and by group of speakers, and the gaps between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.bench.device.device_sections import Section
from benchmarks.bench.estimate import Estimate, estimate
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import Scores, resample, unweighted_accuracy
from edge_runtime.bundles.manifest import Precision

SHUFFLES = 1000
"""Permutations of decisions over speakers, for the distribution under chance."""
_ALIASES = {"sex": ("sex", "gender")}
_NORMAL = 1.959964
"""97.5 % quantile of the normal distribution."""


class SpeakerScore(Section):
    """Accuracy for one speaker.

    Attributes:
        speaker: name in the corpus.
        utterances: of the speaker.
        ua: mean recall over the emotions of these utterances.
        right: share of correct decisions; the interval is over utterances (Wilson 1927), since there is one speaker.
    """

    speaker: str
    utterances: int
    ua: float
    right: Estimate


class Spread(Section):
    """Distribution of unweighted accuracy over speakers.

    Attributes:
        worst: lowest of all speakers.
        quarter: first quartile.
        median: of all speakers.
        three_quarters: third quartile.
        best: highest.
        worst_by_chance: 95 % interval of the lowest value when correct and wrong decisions of each emotion are permuted
            over the speakers, as if all speakers were equally easy.
        chance: p-value: share of permutations with at least the observed standard deviation over speakers.
    """

    worst: float
    quarter: float
    median: float
    three_quarters: float
    best: float
    worst_by_chance: Interval
    chance: float


class GroupScore(Section):
    """Accuracy for one group of speakers; intervals are over speakers, None where the group has one.

    Attributes:
        group: value of the column.
        speakers: in the group.
        utterances: of the group.
        ua: unweighted accuracy.
        ua_interval: of `ua`.
        recall: of each emotion; None without utterances of it.
        recall_intervals: of `recall`.
    """

    group: str
    speakers: int
    utterances: int
    ua: float
    ua_interval: Interval | None = None
    recall: dict[str, float | None]
    recall_intervals: dict[str, Interval | None]


class Gap(Section):
    """Difference in accuracy between two groups.

    Attributes:
        of: ``UA``, or the emotion whose recall it is.
        better: the group with the higher figure.
        worse: the group with the lower figure.
        value: the difference, at least 0 since the groups were selected by it.
        interval: of the difference between these two groups, whose speakers are resampled independently; None where a
            group has a single speaker.
    """

    of: str
    better: str
    worse: str
    value: float
    interval: Interval | None = None


class ColumnScore(Section):
    """Accuracy by the values of one column of the corpus.

    Attributes:
        column: its name.
        unknown: number of utterances without a value; they are in no group.
        groups: sorted by name.
        gap: largest gap of unweighted accuracy.
        recall_gap: largest gap of an emotion's recall; None where no two groups share an emotion.
    """

    column: str
    unknown: int
    groups: list[GroupScore]
    gap: Gap
    recall_gap: Gap | None = None


class GraphFairness(Section):
    """One graph.

    Attributes:
        speakers: by unweighted accuracy, the worst first.
        spread: over speakers; None for one speaker.
        columns: those with two groups or more.
    """

    speakers: list[SpeakerScore]
    spread: Spread | None = None
    columns: list[ColumnScore]


class FairnessSection(Section):
    """Accuracy of a bundle's graphs by speaker and group.

    Attributes:
        graphs: by precision.
        missing: requested columns that are missing or constant in the corpus.
    """

    graphs: dict[str, GraphFairness]
    missing: list[str]


def measure_fairness(evaluations: Mapping[Precision, Evaluation], columns: Sequence[str] = ("sex",)) -> FairnessSection:
    """Measure each graph by speaker and by columns of the corpus.

    Args:
        evaluations: by precision, all on the same utterances.
        columns: names of columns; ``gender`` is read for ``sex``.
    """
    missing = [
        name
        for name in columns
        for each in list(evaluations.values())[:1]
        if len({_value(item, name) for item in each.utterances} - {""}) < 2
    ]
    known = [name for name in columns if name not in missing]
    return FairnessSection(
        graphs={precision: _graph(each, known) for precision, each in evaluations.items()}, missing=missing
    )


def _value(item: Utterance, column: str) -> str:
    """Return the value of a column for an utterance, empty where it is missing."""
    if column == "language":
        return item.language
    return next((item.extra[name] for name in _ALIASES.get(column, (column,)) if item.extra.get(name)), "")


def _graph(evaluation: Evaluation, columns: Sequence[str]) -> GraphFairness:
    names, which = np.unique(evaluation.speakers, return_inverse=True)
    right = evaluation.decided == evaluation.truth
    speakers = [
        SpeakerScore(
            speaker=str(name),
            utterances=int((which == number).sum()),
            ua=round(unweighted_accuracy(evaluation.truth[which == number], evaluation.decided[which == number]), 6),
            right=_share(int(right[which == number].sum()), int((which == number).sum())),
        )
        for number, name in enumerate(names)
    ]
    return GraphFairness(
        speakers=sorted(speakers, key=lambda each: (each.ua, each.speaker)),
        spread=_spread(evaluation.truth, right, which) if len(names) > 1 else None,
        columns=[_column(evaluation, name) for name in columns],
    )


def _share(right: int, count: int) -> Estimate:
    """Return a share with its 95 % score interval (Wilson 1927)."""
    share, scale = right / count, 1 + _NORMAL**2 / count
    middle = (share + _NORMAL**2 / (2 * count)) / scale
    half = _NORMAL / scale * np.sqrt(share * (1 - share) / count + _NORMAL**2 / (4 * count**2))
    return estimate(share, Interval(low=max(0.0, float(middle - half)), high=min(1.0, float(middle + half))))


def _spread(truth: npt.NDArray[np.integer], right: npt.NDArray[np.bool_], which: npt.NDArray[np.integer]) -> Spread:
    found = _by_speaker(truth, right[None], which)[0]
    random = np.random.default_rng(0)
    permuted = np.repeat(right[None], SHUFFLES, axis=0)
    for label in np.unique(truth):
        of_label = np.flatnonzero(truth == label)
        permuted[:, of_label] = random.permuted(permuted[:, of_label], axis=1)
    by_chance = _by_speaker(truth, permuted, which)
    quartiles = np.quantile(found, [0, 0.25, 0.5, 0.75, 1])
    as_far = by_chance.std(axis=1) >= found.std() - 1e-12
    return Spread(
        **dict(zip(("worst", "quarter", "median", "three_quarters", "best"), quartiles.round(6), strict=True)),
        worst_by_chance=Interval.of(by_chance.min(axis=1)),
        # The observed assignment counts as one of the permutations.
        chance=float((as_far.sum() + 1) / (SHUFFLES + 1)),
    )


def _by_speaker(
    truth: npt.NDArray[np.integer], right: npt.NDArray[np.bool_], which: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Return the unweighted accuracy ``[D, speakers]`` of ``D`` vectors of correct decisions, ``[D, utterances]``."""
    labels, label = np.unique(truth, return_inverse=True)
    cell = which * len(labels) + label
    cells = (int(which.max()) + 1) * len(labels)
    member = np.zeros((len(truth), cells))
    member[np.arange(len(truth)), cell] = 1.0
    with np.errstate(invalid="ignore"):
        recall = (right @ member) / member.sum(axis=0)
    return np.asarray(np.nanmean(recall.reshape(len(right), -1, len(labels)), axis=2))


class _Group(NamedTuple):
    score: GroupScore
    draws: Scores


def _column(evaluation: Evaluation, column: str) -> ColumnScore:
    values = np.array([_value(item, column) for item in evaluation.utterances])
    known = sorted(set(values.tolist()) - {""})
    # A seed per group: with the same seed, groups of equal size would be resampled alike, as if they were paired.
    groups = [_group(evaluation, values == value, value, seed) for seed, value in enumerate(known)]
    gaps = [
        gap
        for number, label in enumerate(evaluation.labels)
        if (gap := _gap(label, groups, [each.score.recall[label] for each in groups], number))
    ]
    gap = _gap("UA", groups, [each.score.ua for each in groups], None)
    assert gap is not None, "a column with fewer than two groups is not measured"
    return ColumnScore(
        column=column,
        unknown=int((values == "").sum()),
        groups=[each.score for each in groups],
        gap=gap,
        recall_gap=max(gaps, key=lambda each: each.value, default=None),
    )


def _group(evaluation: Evaluation, chosen: npt.NDArray[np.bool_], name: str, seed: int) -> _Group:
    truth, decided = evaluation.truth[chosen], evaluation.decided[chosen]
    speakers = [evaluation.speakers[number] for number in np.flatnonzero(chosen)]
    count = len(set(speakers))
    draws = resample(truth, decided, speakers, len(evaluation.labels), seed=seed)
    recall, intervals, people = {}, {}, np.array(speakers)
    for number, label in enumerate(evaluation.labels):
        shown = truth == number
        recall[label] = round(float((decided[shown] == number).mean()), 6) if shown.any() else None
        intervals[label] = Interval.over_speakers(draws.recall[:, number], len(set(people[shown])))
    score = GroupScore(
        group=name,
        speakers=count,
        utterances=len(truth),
        ua=round(unweighted_accuracy(truth, decided), 6),
        ua_interval=Interval.over_speakers(draws.ua, count),
        recall=recall,
        recall_intervals=intervals,
    )
    return _Group(score, draws)


def _gap(of: str, groups: Sequence[_Group], values: Sequence[float | None], label: int | None) -> Gap | None:
    """Return the largest gap between two groups in the UA, or in the recall of a label; None for fewer than two."""
    there = [(value, number) for number, value in enumerate(values) if value is not None]
    if len(there) < 2:
        return None
    (least, worse), (most, better) = min(there), max(there)
    if worse == better:
        worse = there[0][1] if there[0][1] != better else there[1][1]
    draws = [groups[number].draws for number in (better, worse)]
    high, low = (each.ua if label is None else each.recall[:, label] for each in draws)
    fewest = min(groups[number].score.speakers for number in (better, worse))
    return Gap(
        of=of,
        better=groups[better].score.group,
        worse=groups[worse].score.group,
        value=round(most - least, 6),
        interval=Interval.over_speakers(high - low, fewest),
    )

"""Measure graphs and students on held-out utterances, window by window as the device hears them."""

from __future__ import annotations

from collections.abc import Sequence

from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import paired_difference
from distill.evaluation.speaker_mean_draws import random_draws
from distill.evaluation.speaker_normalised import Speakers
from distill.student import Student
from edge_runtime.bundles.manifest import AccuracyEntry
from edge_runtime.clips import Score, ScoreOne, score_clips
from export.gate import Drop
from export.loaded_run import LoadedRun

REFERENCE_UTTERANCES = 20
"""Behind the reference of each utterance where a student that takes references is judged."""


def evaluate(run: LoadedRun, score: Score, utterances: Sequence[Utterance]) -> Evaluation:
    """Return what a graph or student decides on whole utterances, calibrated with the run's temperature."""
    scores = score_clips(score, [item.path for item in utterances], run.policy)
    return Evaluation(utterances, run.record.labels, scores.probabilities(run.report.temperature))


def evaluate_with_references(
    run: LoadedRun, student: Student, score: ScoreOne, utterances: Sequence[Utterance]
) -> tuple[Evaluation, Evaluation]:
    """Return what is decided without a reference, as `evaluate`, and with one.

    Behind each reference are `REFERENCE_UTTERANCES` others of the same speaker, drawn at random.
    """
    speakers = Speakers(
        score=score,
        items=utterances,
        labels=run.record.labels,
        policy=run.policy,
        temperature=run.report.temperature,
        default=student.reference.numpy(),
        trust=student.config.speaker_trust,
    )
    heard = speakers.plain()
    plain = speakers.evaluation([each.probabilities for each in heard])
    return plain, speakers.drawn(heard, random_draws(utterances, REFERENCE_UTTERANCES, seed=0))


def entry(evaluation: Evaluation) -> AccuracyEntry:
    """Return the accuracy as a bundle carries it."""
    columns = {"ua", "ua_low", "ua_high", "wa", "utterances", "speakers"}
    return AccuracyEntry(**evaluation.accuracy.model_dump(include=columns))


def drop(baseline: Evaluation, judged: Evaluation) -> Drop:
    """Return the paired loss of UA of ``judged`` against ``baseline`` on the same utterances.

    The interval is over speakers; of one speaker alone, over utterances (see `export.gate`).
    """
    units = baseline.speakers
    if len(set(units)) == 1:
        units = [str(number) for number in range(len(units))]
    ua, low, high = paired_difference(baseline.truth, judged.decided, baseline.decided, units)
    return Drop(ua=ua, low=low, high=high)

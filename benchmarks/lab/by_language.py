"""Accuracy and teacher weights by language, on a pooled corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.bench.estimate import estimate
from benchmarks.bench.results import LanguageScore, PairedDifference
from distill.corpus import Corpus
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import mean_difference, resample, unweighted_accuracy
from distill.evaluation.predictions import Predictions
from distill.runs.run_directory import RunReport
from distill.training.outputs import weight_key


def by_language(
    corpus: Corpus, runs: Sequence[Predictions], against: tuple[str, Sequence[Predictions]] | None
) -> dict[str, LanguageScore] | None:
    """Return accuracy by language, as means over runs with different seeds; None for one language."""
    if len(corpus.languages) < 2:
        return None
    spoken = {item.name: item.language for item in corpus.utterances}
    one = runs[0]
    languages = np.array([spoken[name] for name in one.names])
    speakers = np.array(one.speakers)
    found = {}
    for language in np.unique(languages):
        here = languages == language
        truth, people = one.truth[here], list(speakers[here])
        decided = [run.decided[here] for run in runs]
        drawn = [resample(truth, each, people, len(one.labels)) for each in decided]
        difference = None
        if against is not None:
            theirs = [run.decided[here] for run in against[1]]
            difference = PairedDifference.of(against[0], mean_difference(truth, theirs, decided, people))
        found[str(language)] = LanguageScore(
            utterances=int(here.sum()),
            speakers=len(set(people)),
            ua=estimate(
                float(np.mean([unweighted_accuracy(truth, each) for each in decided])),
                Interval.over_speakers(np.mean([each.ua for each in drawn], axis=0), len(set(people))),
            ),
            wa=estimate(
                float(np.mean([(each == truth).mean() for each in decided])),
                Interval.over_speakers(np.mean([each.wa for each in drawn], axis=0), len(set(people))),
            ),
            difference=difference,
        )
    return found


def teacher_weights(reports: Sequence[RunReport]) -> dict[str, dict[str, list[float]]] | None:
    """Return the weight of each teacher per epoch, by language and teacher, as a mean over runs; None without teachers.

    Args:
        reports: of runs with the same teachers. Teachers of one language each follow the entry of all of them together,
            which has no history: ``monolingual``, ``monolingual-de``, ``monolingual-en``.
    """
    teachers = reports[0].teachers
    languages: list[str] = []
    for group in (name for name, report in teachers.items() if not report.history):
        languages += [name.removeprefix(f"{group}-") for name in teachers if name.startswith(f"{group}-")]
    found: dict[str, dict[str, list[float]]] = {}
    for row, language in enumerate(languages):
        for column, teacher in enumerate(languages):
            key = weight_key(row, column)
            runs = [[epoch[key] for epoch in report.student.history if key in epoch] for report in reports]
            runs = [run for run in runs if run]
            # Early stopping may end some runs before others.
            length = min((len(run) for run in runs), default=0)
            if length:
                values = np.mean([run[:length] for run in runs], axis=0)
                found.setdefault(language, {})[teacher] = [round(float(value), 4) for value in values]
    return found or None

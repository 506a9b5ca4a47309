"""Decisions of a student and of its graphs on held-out speakers, window by window as on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.concordance import DimensionScores, join_scores
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats, mean_difference
from distill.evaluation.speaker_draws import random_draws
from distill.evaluation.speaker_normalised import Speakers
from distill.scoring import student_score, student_score_one
from distill.student import Student
from edge_runtime.bundles.manifest import GRAPHS, AccuracyEntry, Precision
from edge_runtime.clips import Score, ScoreOne, score_clips
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.files import replacing
from export.accuracy_gate.gate import AccuracyGate, Drop, apply_gate
from export.loaded_run import LoadedRun
from export.options import Progress

REFERENCE_UTTERANCES = 20
"""Utterances of the speaker that a student with a speaker model is evaluated after."""
UNPRUNED = "unpruned"
"""The run's student as it was trained, if the exported one was changed."""


@dataclass(frozen=True)
class Evaluations:
    """Decisions on the tested utterances by graph, for unknown speakers.

    ``referenced`` are after `REFERENCE_UTTERANCES` of the speaker; empty for a student without a speaker model.
    """

    evaluations: Mapping[str, Evaluation]
    referenced: Mapping[str, Evaluation]

    def by_language(self) -> dict[str, dict[str, AccuracyEntry]]:
        """Return the accuracy by language and then by graph; empty for a single language."""
        found: dict[str, dict[str, AccuracyEntry]] = {}
        for graph, evaluation in self.evaluations.items():
            for language, part in evaluation.by_language().items():
                found.setdefault(language, {})[graph] = _entry(part)
        return found

    @property
    def baseline(self) -> str:
        """What graphs are compared with."""
        return UNPRUNED if UNPRUNED in self.evaluations else "fp32"

    def judged(self, precisions: Sequence[Precision]) -> tuple[Precision, ...]:
        """Return the graphs of these precisions, or all if none are named, without the baseline."""
        return tuple(
            precision
            for precision in GRAPHS.values()
            if precision in self.evaluations
            and precision != self.baseline
            and (not precisions or precision in precisions)
        )

    def gate(
        self, precisions: Sequence[Precision], *, max_drop: float, allow_drop: bool, allow_chance: bool
    ) -> AccuracyGate:
        """Return the verdict on the graphs of these precisions; on all of them if none are named."""
        baseline = self.baseline
        accuracy = self.evaluations[baseline].accuracy

        def drops(evaluations: Mapping[str, Evaluation]) -> dict[Precision, Drop]:
            return {
                precision: drop(evaluations[baseline], evaluations[precision])
                for precision in self.judged(precisions)
                if precision in evaluations
            }

        return apply_gate(
            drops(self.evaluations),
            reference_drops=drops(self.referenced),
            reference_utterances=REFERENCE_UTTERANCES if self.referenced else 0,
            baseline=baseline,
            baseline_ua=accuracy.ua,
            chance={
                precision: found
                for precision in GRAPHS.values()
                if precision in self.evaluations
                and (not precisions or precision in precisions)
                and (found := self.evaluations[precision].accuracy.chance) is not None
            },
            max_drop=max_drop,
            allow_drop=allow_drop,
            allow_chance=allow_chance,
            speakers=accuracy.speakers,
            utterances=accuracy.utterances,
        )


def evaluate_graphs(
    run: LoadedRun,
    student: Student,
    engines: Mapping[Precision, OnnxEngine],
    *,
    changed: bool,
    progress: Progress,
) -> Evaluations:
    """Return what each graph decides on the run's test part.

    If the exported student was changed, the run's own is measured too, as `UNPRUNED`.
    """
    test = run.fold.test
    progress(f"accuracy on {len(test)} utterances of held-out speakers")
    if not student.config.speaker_directions:
        plain: dict[str, Evaluation] = {}
        if changed:
            plain[UNPRUNED] = evaluate(run, student_score(run.student), test)
        for precision, engine in engines.items():
            plain[precision] = evaluate(run, engine.outputs, test)
        return Evaluations(plain, {})
    progress(f"and after {REFERENCE_UTTERANCES} utterances of the speaker")
    scorers: dict[str, tuple[Student, ScoreOne]] = {name: (student, engine.score) for name, engine in engines.items()}
    if changed:
        scorers = {UNPRUNED: (run.student, student_score_one(run.student)), **scorers}
    both = {name: evaluate_adapted(run, one, score, test) for name, (one, score) in scorers.items()}
    return Evaluations({name: each[0] for name, each in both.items()}, {name: each[1] for name, each in both.items()})


_PLAIN, _REFERENCED, _DIMENSIONS = "plain", "referenced", "dimensions"


def write_evaluations(found: Evaluations, path: Path) -> None:
    """Write the decisions, for `read_evaluations`.

    Raises:
        EdgeemoError: the place cannot be written to.
    """
    kinds = ((_PLAIN, found.evaluations), (_REFERENCED, found.referenced))
    arrays = {f"{kind}:{name}": each.probabilities for kind, found in kinds for name, each in found.items()}
    for name, each in found.evaluations.items():
        if each.dimensions is not None:
            arrays[f"{_DIMENSIONS}:{name}"] = each.dimensions.predicted
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def read_evaluations(path: Path, run: LoadedRun) -> Evaluations:
    """Read the decisions of the graphs of a run."""
    found: dict[str, dict[str, Evaluation]] = {_PLAIN: {}, _REFERENCED: {}}
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, _, name = key.partition(":")
            if kind in found:
                dimensions = arrays.get(f"{_DIMENSIONS}:{name}") if kind == _PLAIN else None
                scores = None if dimensions is None else dimension_scores(run, run.fold.test, dimensions)
                found[kind][name] = Evaluation(run.fold.test, run.record.labels, arrays[key], dimensions=scores)
    return Evaluations(found[_PLAIN], found[_REFERENCED])


def pool(parts: Sequence[Evaluations]) -> Evaluations:
    """Join the decisions of several folds, each on speakers unseen by its student."""

    def whole(each: Sequence[Mapping[str, Evaluation]]) -> dict[str, Evaluation]:
        return {
            name: Evaluation(
                tuple(item for part in each for item in part[name].utterances),
                each[0][name].labels,
                np.concatenate([part[name].probabilities for part in each]),
                dimensions=_joined([part[name] for part in each]),
            )
            for name in each[0]
        }

    return Evaluations(whole([part.evaluations for part in parts]), whole([part.referenced for part in parts]))


def _joined(parts: Sequence[Evaluation]) -> DimensionScores | None:
    scores = [part.dimensions for part in parts if part.dimensions is not None]
    return join_scores(scores) if scores else None


def dimension_scores(run: LoadedRun, utterances: Sequence[Utterance], predicted: Floats) -> DimensionScores:
    """Return dimensions ``[N, K]`` that the student of a run predicts, beside the targets of the utterances."""
    how = run.record.recipe.student.dimensions
    assert how is not None
    return DimensionScores.of(utterances, how.names, predicted)


def evaluate(run: LoadedRun, score: Score, utterances: Sequence[Utterance]) -> Evaluation:
    """Return the decisions of a graph or student on whole utterances, calibrated with the run's temperature."""
    scores = score_clips(score, [item.path for item in utterances], run.policy)
    dimensions = None
    if scores.dimensions is not None:
        dimensions = dimension_scores(run, utterances, scores.clip_dimensions())
    probabilities = scores.probabilities(run.report.temperature)
    return Evaluation(utterances, run.record.labels, probabilities, dimensions=dimensions)


def evaluate_adapted(
    run: LoadedRun, student: Student, score: ScoreOne, utterances: Sequence[Utterance]
) -> tuple[Evaluation, Evaluation]:
    """Return the decisions for unknown speakers, and after `REFERENCE_UTTERANCES` random others of the speaker."""
    model = student.speaker_model()
    assert model is not None
    speakers = Speakers(score, utterances, run.record.labels, run.policy, run.report.temperature, model)
    scored = speakers.plain()
    plain = speakers.evaluation([each.probabilities for each in scored])
    if student.config.dimensions:
        # The same for known speakers: the speaker model does not change them.
        predicted = np.stack([each.dimensions for each in scored])
        plain = dataclasses.replace(plain, dimensions=dimension_scores(run, utterances, predicted))
    return plain, speakers.drawn(scored, random_draws(utterances, REFERENCE_UTTERANCES, seed=0))


def _entry(evaluation: Evaluation) -> AccuracyEntry:
    columns = {"ua", "ua_low", "ua_high", "wa", "utterances", "speakers"}
    return AccuracyEntry(**evaluation.accuracy.model_dump(include=columns))


def accuracy_of(evaluations: Mapping[str, Evaluation]) -> dict[str, AccuracyEntry]:
    """Return the accuracy by graph, as it is in a bundle."""
    return {name: _entry(each) for name, each in evaluations.items()}


def drop(baseline: Evaluation, evaluated: Evaluation) -> Drop:
    """Return the paired loss of UA of ``evaluated`` against ``baseline`` on the same utterances."""
    found = mean_difference(baseline.truth, [evaluated.decided], [baseline.decided], baseline.speakers)
    interval = found.ua_interval
    return Drop(ua=found.ua, low=interval.low if interval else None, high=interval.high if interval else None)

"""Choose shrinkage, temperature and threshold of a speaker model, on left-out speech.

Each of several corpora is left out in turn: confidence within a corpus does not hold outside it. With fewer than three
corpora, validation speakers are the left-out speech. One choice holds for all stages of adaptation.

Variances are as fitted. Factors of them that are chosen by cross-entropy follow the worst of the left-out corpora, and
cost three to four points of UA after 20 utterances and with labelled clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from distill.corpus import Utterance
from distill.evaluation.calibration import fit_temperature
from distill.evaluation.metrics import Floats, Ints, unweighted_accuracy
from distill.evaluation.speaker_draws import Draws, labelled_draws, random_draws
from distill.heads.speaker_model import SpeakerRows, fit_speaker_model
from edge_runtime.bundles.speaker_model import SpeakerModel

ERRORS_FLAGGED, CORRECT_FLAGGED = 0.8, 0.4
"""Share of errors that ``uncertain`` shall flag, and the largest share of correct decisions that it may."""
UNLABELLED, LABELLED = (5, 20), (1,)
"""Stages of adaptation: utterances without labels, and labelled clips of each emotion; besides an unknown speaker."""
MAX_TESTED = 200
"""Utterances of each group that are scored for a choice."""
_SEED = 0


class LeftOut(NamedTuple):
    """Speech that a model is fitted without.

    Attributes:
        rows: yields what the model is fitted to.
        statistics: ``[N, D]`` standardised, of the left-out utterances.
        classes: ``[N]``.
        utterances: the left-out utterances.
    """

    rows: Callable[[], Iterator[SpeakerRows]]
    statistics: Floats
    classes: Ints
    utterances: Sequence[Utterance]


class Calibration(NamedTuple):
    """What was chosen on left-out speech.

    Attributes:
        shrinkage: of the model.
        temperature: of the logits.
        threshold: confidence below which a decision is uncertain.
        tried: figures of each shrinkage, those of the chosen one last.
    """

    shrinkage: float
    temperature: float
    threshold: float
    tried: list[dict[str, float]]


def calibrate(groups: Sequence[LeftOut], classes: int, shrinkages: Sequence[float]) -> Calibration:
    """Choose by left-out speech: the shrinkage by UA, the temperature by cross-entropy, the threshold by errors.

    The UA is the mean of that of unknown speakers and that after 20 unlabelled utterances.

    A model without one of n corpora has class means of ``n - 1``, and is more often wrong than the one of all n that is
    shipped. The temperature is multiplied by ``(n - 1) / n``: temperatures of fits to three corpora were 0.6 to 0.7 of
    those of fits to two.

    Args:
        groups: each of several corpora, left out in turn; or a single group of validation speakers.
        classes: how many classes there are.
        shrinkages: to choose from.
    """
    models = [list(fit_speaker_model(group.rows, classes, shrinkages)) for group in groups]
    plans = [_plan(group) for group in groups]
    stages = [
        [_stages(fitted[number], plan) for fitted, plan in zip(models, plans, strict=True)]
        for number in range(len(shrinkages))
    ]
    tried = []
    for found, shrinkage in zip(stages, shrinkages, strict=True):
        unknown = _mean_ua([each["unknown"] for each in found], plans)
        known = _mean_ua([each[f"unlabelled {UNLABELLED[-1]}"] for each in found], plans)
        tried.append({"validation_ua": unknown, "validation_ua_adapted": known, "shrinkage": shrinkage})
    tried.sort(key=lambda each: (each["validation_ua"] + each["validation_ua_adapted"], each["shrinkage"]))
    chosen = tried[-1]["shrinkage"]
    logits, truth, weights = _pooled(stages[shrinkages.index(chosen)], plans)
    temperature = fit_temperature(logits, truth, weights)
    if len(groups) > 1:
        temperature *= (len(groups) - 1) / len(groups)
    tried[-1] |= {"temperature": temperature}
    threshold = uncertainty_threshold(softmax(logits / temperature, axis=1), truth)
    return Calibration(chosen, temperature, threshold, tried)


def uncertainty_threshold(probabilities: Floats, truth: Ints) -> float:
    """Return the confidence below which a decision is uncertain.

    `ERRORS_FLAGGED` of the errors lie below it, unless more than `CORRECT_FLAGGED` of the correct decisions would.
    """
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != truth
    if wrong.all() or not wrong.any():
        return float(np.quantile(confidence, CORRECT_FLAGGED))
    return min(
        float(np.quantile(confidence[wrong], ERRORS_FLAGGED)), float(np.quantile(confidence[~wrong], CORRECT_FLAGGED))
    )


class _Plan(NamedTuple):
    """What is scored of a group, drawn once for all models: utterances ``[N]``, and those that each comes after."""

    group: LeftOut
    tested: Ints
    unlabelled: dict[int, Draws]
    labelled: dict[int, Draws]

    @property
    def truth(self) -> Ints:
        return np.asarray(self.group.classes[self.tested])


def _plan(group: LeftOut) -> _Plan:
    """Return a plan with evenly spread utterances."""
    count = len(group.utterances)
    return _Plan(
        group,
        np.unique(np.linspace(0, count - 1, min(count, MAX_TESTED)).round().astype(int)),
        {each: random_draws(group.utterances, each, _SEED) for each in UNLABELLED},
        {each: labelled_draws(group.utterances, each, _SEED) for each in LABELLED},
    )


def _mean_ua(logits: Sequence[Floats], plans: Sequence[_Plan]) -> float:
    pairs = zip(logits, plans, strict=True)
    return float(np.mean([unweighted_accuracy(plan.truth, one.argmax(axis=1)) for one, plan in pairs]))


def _stages(model: SpeakerModel, plan: _Plan) -> dict[str, Floats]:
    """Return the logits ``[N, C]`` of the tested utterances at each stage of adaptation."""
    reduced, classes = model.reduced(plan.group.statistics), plan.group.classes
    stages: dict[str, Floats] = {"unknown": model.prior().logits(reduced[plan.tested])}
    for count, draws in plan.unlabelled.items():
        found = [model.adapted(reduced[draws[n]]).logits(reduced[[n]])[0] for n in plan.tested]
        stages[f"unlabelled {count}"] = np.stack(found)
    for count, draws in plan.labelled.items():
        found = [
            model.adapted(reduced[:0], reduced[draws[n]], classes[draws[n]]).logits(reduced[[n]])[0]
            for n in plan.tested
        ]
        stages[f"labelled {count}"] = np.stack(found)
    return stages


def _pooled(found: Sequence[dict[str, Floats]], plans: Sequence[_Plan]) -> tuple[Floats, Ints, Floats]:
    """Return logits of all stages, true classes, and weights by which groups count alike."""
    parts = [
        (logits, plan.truth, np.full(len(logits), 1.0 / len(logits)))
        for stages, plan in zip(found, plans, strict=True)
        for logits in stages.values()
    ]
    logits, truth, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    return logits, truth, weights

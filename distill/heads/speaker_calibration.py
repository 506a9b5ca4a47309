"""Choose shrinkage, variance between speakers, temperature and threshold of a speaker model, on left-out speech.

Each of several corpora is left out in turn: confidence within a corpus does not hold outside it. With fewer than three
corpora, validation speakers are the left-out speech. One choice holds for all stages of adaptation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from distill.corpus import Utterance
from distill.evaluation.calibration import fit_temperature
from distill.evaluation.metrics import Floats, Ints, unweighted_accuracy
from distill.evaluation.speaker_draws import Draws, labelled_draws, random_draws
from distill.heads.speaker_model import SpeakerRows, fit_speaker_model
from edge_runtime.bundles.speaker_model import SpeakerModel

BETWEEN = (1.0, 2.0, 4.0)
"""Factors of the variance between speakers: training speakers come from few rooms and microphones."""
INTERACTION = (0.1, 0.3, 1.0, 3.0)
"""Factors of the variance of the speakers' own class means."""
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
        between: factor of the variance between speakers.
        interaction: factor of the variance of their own class means.
        temperature: of the logits.
        threshold: confidence below which a decision is uncertain.
        tried: figures of each shrinkage, those of the chosen one last.
    """

    shrinkage: float
    between: float
    interaction: float
    temperature: float
    threshold: float
    tried: list[dict[str, float]]


def calibrate(groups: Sequence[LeftOut], classes: int, shrinkages: Sequence[float]) -> Calibration:
    """Choose by left-out speech: the shrinkage by UA, the factors of variances and the temperature by cross-entropy.

    The UA is the mean of that of unknown speakers and that after 20 unlabelled utterances.
    """
    models = [list(fit_speaker_model(group.rows, classes, shrinkages)) for group in groups]
    plans = [_plan(group) for group in groups]
    tried = []
    for number, shrinkage in enumerate(shrinkages):
        stages = [_stages(fitted[number], plan) for fitted, plan in zip(models, plans, strict=True)]
        unknown = _mean_ua([each["unknown"] for each in stages], plans)
        known = _mean_ua([each[f"unlabelled {UNLABELLED[-1]}"] for each in stages], plans)
        tried.append({"validation_ua": unknown, "validation_ua_adapted": known, "shrinkage": shrinkage})
    tried.sort(key=lambda each: (each["validation_ua"] + each["validation_ua_adapted"], each["shrinkage"]))
    chosen = shrinkages.index(tried[-1]["shrinkage"])
    best: tuple[float, float, float, float, Floats, Ints] | None = None
    for between, interaction in itertools.product(BETWEEN, INTERACTION):
        logits, truth, weights = _pooled([scaled(each[chosen], between, interaction) for each in models], plans)
        temperature = fit_temperature(logits, truth, weights)
        scores = log_softmax(logits / temperature, axis=1)
        loss = float(-(weights * scores[np.arange(len(truth)), truth]).sum() / weights.sum())
        if best is None or loss < best[0]:
            best = loss, between, interaction, temperature, np.exp(scores), truth
    assert best is not None
    _, between, interaction, temperature, probabilities, truth = best
    tried[-1] |= {"temperature": temperature, "between": between, "interaction": interaction}
    threshold = uncertainty_threshold(probabilities, truth)
    return Calibration(shrinkages[chosen], between, interaction, temperature, threshold, tried)


def scaled(model: SpeakerModel, between: float, interaction: float) -> SpeakerModel:
    """Return the model with its variances between speakers times these factors."""
    return replace(model, between=model.between * between, interaction=model.interaction * interaction)


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


def _pooled(models: Sequence[SpeakerModel], plans: Sequence[_Plan]) -> tuple[Floats, Ints, Floats]:
    """Return logits of all stages, true classes, and weights by which groups count alike."""
    logits, truth, weights = [], [], []
    for model, plan in zip(models, plans, strict=True):
        for found in _stages(model, plan).values():
            logits.append(found)
            truth.append(plan.truth)
            weights.append(np.full(len(found), 1.0 / len(found)))
    return np.concatenate(logits), np.concatenate(truth), np.concatenate(weights)

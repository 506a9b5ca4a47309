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
from distill.evaluation.speaker_draws import labelled_draws, random_draws
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
    tried = []
    for number, shrinkage in enumerate(shrinkages):
        stages = [_stages(fitted[number], group) for fitted, group in zip(models, groups, strict=True)]
        unknown = _mean_ua([each["unknown"] for each in stages], groups)
        known = _mean_ua([each[f"unlabelled {UNLABELLED[-1]}"] for each in stages], groups)
        tried.append({"validation_ua": unknown, "validation_ua_adapted": known, "shrinkage": shrinkage})
    tried.sort(key=lambda each: (each["validation_ua"] + each["validation_ua_adapted"], each["shrinkage"]))
    chosen = shrinkages.index(tried[-1]["shrinkage"])
    best: tuple[float, float, float, float, Floats, Ints] | None = None
    for between, interaction in itertools.product(BETWEEN, INTERACTION):
        logits, truth, weights = _pooled([scaled(each[chosen], between, interaction) for each in models], groups)
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


def _mean_ua(logits: Sequence[Floats], groups: Sequence[LeftOut]) -> float:
    pairs = zip(logits, groups, strict=True)
    return float(np.mean([unweighted_accuracy(each.classes[_tested(each)], one.argmax(axis=1)) for one, each in pairs]))


def _tested(group: LeftOut) -> Ints:
    """Return the numbers of the utterances that are scored, evenly spread."""
    count = len(group.utterances)
    return np.unique(np.linspace(0, count - 1, min(count, MAX_TESTED)).round().astype(int))


def _stages(model: SpeakerModel, group: LeftOut) -> dict[str, Floats]:
    """Return the logits ``[N, C]`` of the utterances of `_tested` at each stage of adaptation."""
    reduced, tested = model.reduced(group.statistics), _tested(group)
    stages: dict[str, Floats] = {"unknown": model.prior().logits(reduced[tested])}
    for count in UNLABELLED:
        draws = random_draws(group.utterances, count, _SEED)
        found = [model.adapted(reduced[draws[n]]).logits(reduced[[n]])[0] for n in tested]
        stages[f"unlabelled {count}"] = np.stack(found)
    for count in LABELLED:
        draws = labelled_draws(group.utterances, count, _SEED)
        found = [
            model.adapted(reduced[:0], reduced[draws[n]], group.classes[draws[n]]).logits(reduced[[n]])[0]
            for n in tested
        ]
        stages[f"labelled {count}"] = np.stack(found)
    return stages


def _pooled(models: Sequence[SpeakerModel], groups: Sequence[LeftOut]) -> tuple[Floats, Ints, Floats]:
    """Return logits of all stages, true classes, and weights by which groups count alike."""
    logits, truth, weights = [], [], []
    for model, group in zip(models, groups, strict=True):
        for found in _stages(model, group).values():
            logits.append(found)
            truth.append(group.classes[_tested(group)])
            weights.append(np.full(len(found), 1.0 / len(found)))
    return np.concatenate(logits), np.concatenate(truth), np.concatenate(weights)

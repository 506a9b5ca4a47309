"""Choose shrinkage, variance between speakers, temperature and threshold of a speaker model, on left-out speech.

Each of several corpora is left out in turn: confidence within a corpus does not hold outside it. With fewer than three
corpora, validation speakers are the left-out speech. One choice holds for all stages of adaptation.
"""

from __future__ import annotations

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

INFLATIONS = (1.0, 2.0, 4.0)
"""Factors of the variance between speakers: training speakers come from few rooms and microphones."""
ERRORS_FLAGGED, CORRECT_FLAGGED = 0.8, 0.4
"""Share of errors that ``uncertain`` shall flag, and the largest share of correct decisions that it may."""
UNLABELLED, LABELLED = (5, 20), (1,)
"""Stages of adaptation: utterances without labels, and labelled clips of each emotion; besides an unknown speaker."""
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
        inflation: factor of the variance between speakers.
        temperature: of the logits.
        threshold: confidence below which a decision is uncertain.
        tried: figures of each shrinkage, those of the chosen one last.
    """

    shrinkage: float
    inflation: float
    temperature: float
    threshold: float
    tried: list[dict[str, float]]


def calibrate(groups: Sequence[LeftOut], classes: int, shrinkages: Sequence[float]) -> Calibration:
    """Choose by left-out speech: the shrinkage by UA, the inflation and the temperature by cross-entropy.

    The UA is the mean of that of unknown speakers and that after 20 unlabelled utterances.
    """
    models = [list(fit_speaker_model(group.rows, classes, shrinkages)) for group in groups]
    tried = []
    for number, shrinkage in enumerate(shrinkages):
        stages = [_stages(fitted[number], group) for fitted, group in zip(models, groups, strict=True)]
        unknown, known = (
            float(np.mean([unweighted_accuracy(group.classes, each[stage].argmax(axis=1)) for each, group in pairs]))
            for stage in ("unknown", f"unlabelled {UNLABELLED[-1]}")
            for pairs in [list(zip(stages, groups, strict=True))]
        )
        tried.append({"validation_ua": unknown, "validation_ua_adapted": known, "shrinkage": shrinkage})
    tried.sort(key=lambda each: (each["validation_ua"] + each["validation_ua_adapted"], each["shrinkage"]))
    chosen = shrinkages.index(tried[-1]["shrinkage"])
    best: tuple[float, float, float, Floats, Ints] | None = None
    for inflation in INFLATIONS:
        logits, truth, weights = _pooled([inflated(each[chosen], inflation) for each in models], groups)
        temperature = fit_temperature(logits, truth, weights)
        scores = log_softmax(logits / temperature, axis=1)
        loss = float(-(weights * scores[np.arange(len(truth)), truth]).sum() / weights.sum())
        if best is None or loss < best[0]:
            best = loss, inflation, temperature, np.exp(scores), truth
    assert best is not None
    _, inflation, temperature, probabilities, truth = best
    tried[-1] |= {"temperature": temperature, "inflation": inflation}
    threshold = uncertainty_threshold(probabilities, truth)
    return Calibration(shrinkages[chosen], inflation, temperature, threshold, tried)


def inflated(model: SpeakerModel, factor: float) -> SpeakerModel:
    """Return the model with a larger variance between speakers."""
    return replace(model, between=model.between * factor)


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


def _stages(model: SpeakerModel, group: LeftOut) -> dict[str, Floats]:
    """Return the logits ``[N, C]`` of the left-out utterances at each stage of adaptation."""
    reduced = model.reduced(group.statistics)
    stages: dict[str, Floats] = {"unknown": model.prior().logits(reduced)}
    for count in UNLABELLED:
        draws = random_draws(group.utterances, count, _SEED)
        found = [model.adapted(reduced[behind]).logits(reduced[[n]])[0] for n, behind in enumerate(draws)]
        stages[f"unlabelled {count}"] = np.stack(found)
    for count in LABELLED:
        draws = labelled_draws(group.utterances, count, _SEED)
        found = [
            model.adapted(reduced[:0], reduced[behind], group.classes[behind]).logits(reduced[[n]])[0]
            for n, behind in enumerate(draws)
        ]
        stages[f"labelled {count}"] = np.stack(found)
    return stages


def _pooled(models: Sequence[SpeakerModel], groups: Sequence[LeftOut]) -> tuple[Floats, Ints, Floats]:
    """Return logits of all stages, true classes, and weights by which groups count alike."""
    logits, truth, weights = [], [], []
    for model, group in zip(models, groups, strict=True):
        for found in _stages(model, group).values():
            logits.append(found)
            truth.append(group.classes)
            weights.append(np.full(len(found), 1.0 / len(found)))
    return np.concatenate(logits), np.concatenate(truth), np.concatenate(weights)

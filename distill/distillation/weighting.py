"""Several teachers weighted for each utterance (MTKD, arXiv 2506.08717).

``L = (1 - share) * CE + share * sum over teachers i (w_i KL(teacher_i,T || student_T))``

where ``x_T`` is the softmax of logits / T and, over teachers, ``w = softmax(cos(student logits, teacher logits) / t)``:
a teacher whose distribution is near the student's counts more, and no language has to be given. Departures from the
published code, each by a recipe's field or for a reason: weights are for each utterance, since one weight a batch
blurs a batch of several languages; the divergence is summed over classes; no gradient flows through the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill.recipe import Weighting


class Compared(NamedTuple):
    """What weights are computed from.

    Attributes:
        student: ``[B, C]`` logits.
        teachers: ``[B, M, C]`` logits.
        own: ``[B]`` number of the teacher of the utterance's language; -1 where there is none.
        temperature: of the softmax over teachers.
    """

    student: Tensor
    teachers: Tensor
    own: Tensor
    temperature: float


def _agreement(of: Compared) -> Tensor:
    scores = functional.cosine_similarity(of.student[:, None], of.teachers, dim=2)
    return functional.softmax(scores / of.temperature, dim=1)


def _batch_agreement(of: Compared) -> Tensor:
    whole = of.teachers.transpose(0, 1).flatten(1)
    scores = functional.cosine_similarity(of.student.flatten()[None], whole, dim=1).expand(of.teachers.shape[:2])
    return functional.softmax(scores / of.temperature, dim=1)


def _confidence(of: Compared) -> Tensor:
    return functional.softmax(functional.softmax(of.teachers, dim=2).amax(dim=2) / of.temperature, dim=1)


def _uniform(of: Compared) -> Tensor:
    return torch.full(of.teachers.shape[:2], 1 / of.teachers.shape[1], device=of.teachers.device)


def _own_language(of: Compared) -> Tensor:
    count = of.teachers.shape[1]
    alone = functional.one_hot(of.own.clamp(min=0), count).to(of.teachers.dtype)
    # Where no teacher is of the language, all have equal weight.
    return torch.where((of.own >= 0)[:, None], alone, torch.full_like(alone, 1 / count))


STRATEGIES: dict[str, Callable[[Compared], Tensor]] = {
    "agreement": _agreement,
    "batch-agreement": _batch_agreement,
    "confidence": _confidence,
    "uniform": _uniform,
    "own-language": _own_language,
}
"""By the recipe's ``weighting.by``; each returns weights ``[B, M]``."""


def teacher_weights(student: Tensor, teachers: Tensor, own: Tensor, recipe: Weighting) -> Tensor:
    """Return the weight of each teacher for each utterance, ``[B, M]``, rows of sum 1; no gradient flows through it.

    Args:
        student: ``[B, C]`` logits.
        teachers: ``[B, M, C]`` logits.
        own: ``[B]`` number of the teacher of the utterance's language; -1 where there is none.
        recipe: names the strategy.
    """
    return STRATEGIES[recipe.by](Compared(student.detach(), teachers, own, recipe.weight_temperature))


def weighted_loss(student: Tensor, teachers: Tensor, weights: Tensor, recipe: Weighting) -> Tensor:
    """Return the weighted divergence, summed over teachers and classes, mean over utterances.

    Args:
        student: ``[B, C]`` logits.
        teachers: ``[B, M, C]`` logits.
        weights: ``[B, M]``.
        recipe: temperature, and whether its square scales the loss.
    """
    temperature = recipe.temperature
    target = functional.log_softmax(teachers / temperature, dim=2)
    predicted = functional.log_softmax(student / temperature, dim=1)[:, None]
    divergence = (target.exp() * (target - predicted)).sum(dim=2)
    scale = temperature**2 if recipe.squared else 1.0
    return scale * (weights * divergence).sum(dim=1).mean()

"""Several teachers weighted for each utterance (MTKD, arXiv 2506.08717).

``L = (1 - share) * CE + share * sum over teachers i (w_i KL(teacher_i,T || student_T))``

where ``x_T`` is the softmax of logits / T and, over teachers, ``w = softmax(cos(student logits, teacher logits) / t)``:
a teacher whose distribution is near the student's counts more, and no language has to be given. Departures from the
published code, each by a recipe's field or for a reason: weights are for each utterance, since one weight a batch
blurs a batch of several languages; the divergence is summed over classes; no gradient flows through the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from distill.recipe import Weighting


def teacher_weights(student: Tensor, teachers: Tensor, own: Tensor, recipe: Weighting) -> Tensor:
    """Return the weight of each teacher for each utterance, ``[B, M]``, rows of sum 1; no gradient flows through it.

    Args:
        student: ``[B, C]`` logits.
        teachers: ``[B, M, C]`` logits.
        own: ``[B]`` number of the teacher of the utterance's language; -1 where there is none.
        recipe: names the strategy.
    """
    student, count = student.detach(), teachers.shape[1]
    if recipe.by == "uniform":
        return torch.full(teachers.shape[:2], 1 / count, device=teachers.device)
    if recipe.by == "own-language":
        alone = functional.one_hot(own.clamp(min=0), count).to(teachers.dtype)
        # Where no teacher is of the language, all have equal weight.
        return torch.where((own >= 0)[:, None], alone, torch.full_like(alone, 1 / count))
    if recipe.by == "agreement":
        scores = functional.cosine_similarity(student[:, None], teachers, dim=2)
    elif recipe.by == "batch-agreement":
        whole = teachers.transpose(0, 1).flatten(1)
        scores = functional.cosine_similarity(student.flatten()[None], whole, dim=1).expand(teachers.shape[:2])
    else:
        scores = functional.softmax(teachers, dim=2).amax(dim=2)
    return functional.softmax(scores / recipe.weight_temperature, dim=1)


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

"""MTKD (arXiv 2506.08717): several teachers for one student, weighted for each utterance.

``L = (1 - share) * CE + share * sum over teachers i (w_i KL(teacher_i,T || student_T))``

where ``x_T`` is the softmax of logits / T and, over teachers, ``w = softmax(cos(student logits, teacher logits) / t)``:
the teacher that already speaks as the student does counts more, and no language needs to be known. Departures from the
published code, each by a recipe's field or for a reason: weights are for each utterance, since one weight a batch
blurs a batch of several languages; the divergence is summed over classes; no gradient flows through the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from distill.recipe import MonolingualTeachers


def teacher_weights(student: Tensor, teachers: Tensor, own: Tensor, recipe: MonolingualTeachers) -> Tensor:
    """Return how much each teacher counts for each utterance, ``[B, M]``, rows of sum 1; no gradient flows through it.

    Args:
        student: ``[B, C]`` logits.
        teachers: ``[B, M, C]`` logits.
        own: ``[B]`` which teacher is of the utterance's language; -1 where none is: all count alike there, if it is
            the language that decides.
        recipe: by what they are weighted.
    """
    student = student.detach()
    count = teachers.shape[1]
    if recipe.weights == "uniform":
        return torch.full(teachers.shape[:2], 1 / count, device=teachers.device)
    if recipe.weights == "own-language":
        known = functional.one_hot(own.clamp(min=0), count).to(teachers.dtype)
        return torch.where((own >= 0)[:, None], known, torch.full_like(known, 1 / count))
    if recipe.weights == "confidence":
        scores = functional.softmax(teachers, dim=2).amax(dim=2)
    elif recipe.weights == "agreement":
        scores = functional.cosine_similarity(student[:, None], teachers, dim=2)
    else:
        whole = teachers.transpose(0, 1).flatten(1)
        scores = functional.cosine_similarity(student.flatten()[None], whole, dim=1).expand(teachers.shape[:2])
    return functional.softmax(scores / recipe.weight_temperature, dim=1)


def teachers_loss(student: Tensor, teachers: Tensor, weights: Tensor, recipe: MonolingualTeachers) -> Tensor:
    """Return the weighted divergence, summed over teachers and classes, mean over utterances.

    Args:
        student: ``[B, C]`` logits.
        teachers: ``[B, M, C]`` logits.
        weights: ``[B, M]``.
        recipe: temperature, and whether its square scales the loss.
    """
    temperature = recipe.temperature
    known = functional.log_softmax(teachers / temperature, dim=2)
    said = functional.log_softmax(student / temperature, dim=1)[:, None]
    divergence = (known.exp() * (known - said)).sum(dim=2)
    scale = temperature**2 if recipe.squared else 1.0
    return scale * (weights * divergence).sum(dim=1).mean()

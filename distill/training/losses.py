"""The EmoDistill loss (arXiv 2309.04849): labels, and from each teacher its distribution and its embedding.

``L = label_weight * CE + sum over teachers (logit_weight * T^2 * KL(teacher_T || student_T)
+ embedding_weight * (1 - cos(branch, teacher embedding)))``

where ``x_T`` is the softmax of logits / T. The factor T^2 keeps the size of the gradient independent of T (Hinton et
al. 2015); the paper states neither this factor nor its weights: both are choices of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def distribution_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, summed over classes, mean over utterances.

    Args:
        student: ``[B, C]`` logits.
        teacher: ``[B, C]`` logits.
        temperature: T, above 1 softens, below 1 hardens.
    """
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def embedding_loss(branch: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean cosine distance, 0..2, between ``[B, E]`` embeddings."""
    return (1 - functional.cosine_similarity(branch, teacher, dim=1)).mean()


def concordance_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over dimensions of ``1 - CCC`` (Lin 1989, see `distill.evaluation.concordance`) over a batch.

    Dimensions with fewer than two targets in the batch do not count; without any, the loss is 0.

    Args:
        predicted: ``[B, K]``.
        targets: ``[B, K]``; NaN for a missing one.
    """
    losses = []
    for column in range(targets.shape[1]):
        known = ~torch.isnan(targets[:, column])
        if known.sum() < 2:
            continue
        p, t = predicted[known, column], targets[known, column]
        covariance = ((p - p.mean()) * (t - t.mean())).mean()
        spread = p.var(correction=0) + t.var(correction=0) + (p.mean() - t.mean()) ** 2
        # Where neither varies, the loss would be 0 / 0.
        losses.append(1 - 2 * covariance / (spread + 1e-8))
    return torch.stack(losses).mean() if losses else predicted.sum() * 0

"""LDA head: a linear classifier of an encoder's statistics in closed form, by regularised linear discriminant analysis.

With twenty speakers and thousands of dimensions, a classifier that is trained by gradient descent overfits to those
speakers. LDA divides by the covariance within classes (of speakers, words and rooms), and shrinkage limits the weight
of directions that the training speakers hardly vary in. There is no early stopping and no seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg

from distill.evaluation.calibration import fit_temperature
from distill.evaluation.metrics import Floats, Ints, unweighted_accuracy


class LabelledRows(NamedTuple):
    """Some utterances.

    Attributes:
        statistics: ``[B, D]``, standardised.
        classes: ``[B]`` class indices.
        weights: ``[B]`` weights of the utterances.
    """

    statistics: Floats
    classes: Ints
    weights: Floats


class Linear(NamedTuple):
    """Logits of statistics ``x`` ``[D]`` are ``weight x + bias``: ``[C, D]`` and ``[C]``."""

    weight: Floats
    bias: Floats


def fit_lda(rows: Callable[[], Iterator[LabelledRows]], classes: int, shrinkages: Sequence[float]) -> Iterator[Linear]:
    """Yield a classifier for each shrinkage; classes have equal priors, however many utterances they have.

    With class means ``m`` and the pooled covariance ``S`` within classes, shrunk to
    ``(1 - a) S + a (trace S / D) I`` (Friedman, "Regularized Discriminant Analysis", 1989, with one covariance for all
    classes), the logit of class c is ``x' S^-1 m_c - m_c' S^-1 m_c / 2``.

    Args:
        rows: returns an iterator over all utterances each time, block by block; one block is in memory at a time.
        classes: how many classes there are; each occurs.
        shrinkages: values of ``a``, each above 0 to 1.
    """
    sums: Floats = np.zeros((classes, 0))
    counts: Floats = np.zeros(classes)
    for block in rows():
        if not sums.size:
            sums = np.zeros((classes, block.statistics.shape[1]))
        np.add.at(sums, block.classes, block.statistics * block.weights[:, None])
        np.add.at(counts, block.classes, block.weights)
    means: Floats = sums / counts[:, None]
    size = means.shape[1]
    scatter: Floats = np.zeros((size, size))
    for block in rows():
        within = (block.statistics - means[block.classes]) * np.sqrt(block.weights)[:, None]
        within = within.astype(np.float32)
        scatter += within.T @ within
    scatter /= counts.sum()
    spread = float(np.trace(scatter)) / size
    for shrinkage in shrinkages:
        shrunk = scatter * (1.0 - shrinkage)
        shrunk[np.diag_indices(size)] += shrinkage * max(spread, 1e-12)
        weight = linalg.solve(shrunk, means.T, assume_a="pos", overwrite_a=True, check_finite=False).T
        yield Linear(weight, -0.5 * (weight * means).sum(axis=1))


class Selection(NamedTuple):
    """A selected LDA head.

    Attributes:
        head: its logits are not divided by the temperature yet.
        shrinkage: of the head.
        temperature: leaves little for the student's own calibration.
        tried: figures of each shrinkage, those of the selected one last.
    """

    head: Linear
    shrinkage: float
    temperature: float
    tried: list[dict[str, float]]


def select_lda(
    heads: Iterable[Linear],
    shrinkages: Sequence[float],
    rows: Floats,
    truth: Ints,
) -> Selection:
    """Select the head with the best UA; of equals, the one with the most shrinkage.

    Args:
        heads: a fitted head for each shrinkage.
        shrinkages: of the heads.
        rows: ``[N, D]`` standardised statistics of validation utterances.
        truth: ``[N]`` their classes.
    """
    each = []
    for shrinkage, head in zip(shrinkages, heads, strict=True):
        logits = rows @ head.weight.T + head.bias
        ua = unweighted_accuracy(truth, logits.argmax(axis=1))
        facts = {"validation_ua": ua, "shrinkage": shrinkage, "temperature": fit_temperature(logits, truth)}
        each.append((head, facts))
    each.sort(key=lambda one: (one[1]["validation_ua"], one[1]["shrinkage"]))
    head, facts = each[-1]
    return Selection(head, facts["shrinkage"], facts["temperature"], [facts for _, facts in each])

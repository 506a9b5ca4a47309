"""Ridge regression of arousal, valence and dominance on an encoder's statistics, in closed form.

Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems" (Technometrics 12, 1970). The
statistics are those that the LDA head classifies: relative to the training mean, and divided by the training deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg

from distill.evaluation.concordance import ccc
from distill.evaluation.metrics import Floats
from distill.heads.lda import Linear
from edge_runtime.dimensions import Dimension, on_scale


class DimensionRows(NamedTuple):
    """Some utterances.

    Attributes:
        statistics: ``[B, D]``, standardised.
        targets: ``[B, K]``; NaN for a missing one.
        weights: ``[B]`` weights of the utterances.
    """

    statistics: Floats
    targets: Floats
    weights: Floats


def fit_ridge(rows: Callable[[], Iterator[DimensionRows]], column: int, ridges: Sequence[float]) -> Iterator[Linear]:
    """Yield the weights ``[1, D]`` and the bias ``[1]`` of one dimension for each ridge.

    With the covariance ``S`` of the statistics, of size D, and their covariances ``c`` with the targets, the weights
    are ``(S + a (trace S / D) I)^-1 c``.

    Args:
        rows: returns an iterator over all utterances, block by block; one block is in memory at a time.
        column: of the targets.
        ridges: values of ``a``, each above 0.
    """
    total, sums, products, gram = 0.0, np.zeros(0), np.zeros(0), np.zeros((0, 0))
    sum_of_targets = 0.0
    for block in rows():
        if not sums.size:
            size = block.statistics.shape[1]
            sums, products, gram = np.zeros(size), np.zeros(size), np.zeros((size, size))
        known = ~np.isnan(block.targets[:, column])
        statistics, weights = block.statistics[known], block.weights[known]
        targets = block.targets[known, column]
        total += float(weights.sum())
        sum_of_targets += float(weights @ targets)
        sums += weights @ statistics
        products += (weights * targets) @ statistics
        scaled = (statistics * np.sqrt(weights)[:, None]).astype(np.float32)
        gram += scaled.T @ scaled
    mean, middle = sums / total, sum_of_targets / total
    covariance = gram / total - np.outer(mean, mean)
    with_targets = products / total - mean * middle
    step = max(float(np.trace(covariance)) / len(mean), 1e-12)
    for ridge in ridges:
        regularised = covariance.copy()
        regularised[np.diag_indices(len(mean))] += ridge * step
        weight = linalg.solve(regularised, with_targets, assume_a="pos", overwrite_a=True, check_finite=False)
        yield Linear(weight[None], np.array([middle - weight @ mean]))


class DimensionFit:
    """Fits a regression of each dimension, with the ridge that has the best concordance on validation utterances.

    The ridges are kept: a regression on training and validation utterances together gets those chosen before.

    Args:
        names: the ``K`` dimensions.
        ridges: to choose from.
    """

    def __init__(self, names: Sequence[Dimension], ridges: Sequence[float]) -> None:
        self._names = names
        self._ridges = ridges
        self._chosen: dict[Dimension, float] = {}

    def __call__(
        self, rows: Callable[[], Iterator[DimensionRows]], validation: tuple[Floats, Floats] | None
    ) -> tuple[Linear, list[dict[str, float]]]:
        """Return weights ``[K, D]`` and biases ``[K]``, and the figures of each ridge that was tried.

        Args:
            rows: training utterances, of which each dimension has two targets at least.
            validation: standardised statistics ``[N, D]`` and targets ``[N, K]``; None to keep the ridges.
        """
        heads: list[Linear] = []
        tried: list[dict[str, float]] = []
        for column, name in enumerate(self._names):
            ridges = self._ridges if validation is not None else [self._chosen[name]]
            each = list(fit_ridge(rows, column, ridges))
            best = 0
            if validation is not None:
                found = [_concordance(head, validation[0], validation[1][:, column]) for head in each]
                # Of equals, the larger ridge.
                best = max(range(len(each)), key=lambda number: (found[number], ridges[number]))
                self._chosen[name] = ridges[best]
                tried += [
                    {f"ridge_{name}": ridge, f"validation_ccc_{name}": value}
                    for ridge, value in zip(ridges, found, strict=True)
                ]
            heads.append(each[best])
        return Linear(
            np.concatenate([head.weight for head in heads]), np.concatenate([head.bias for head in heads])
        ), tried


def _concordance(head: Linear, statistics: Floats, targets: Floats) -> float:
    known = ~np.isnan(targets)
    if known.sum() < 2:
        return 0.0
    return ccc(targets[known], on_scale(statistics[known] @ head.weight[0] + head.bias[0]))

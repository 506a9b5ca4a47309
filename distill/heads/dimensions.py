"""Ridge regression of arousal, valence and dominance on an encoder's statistics, in closed form.

Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems" (Technometrics 12, 1970). The
statistics are those that the LDA head classifies: relative to the training mean, and divided by the training deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass
class Moments:
    """Weighted sums over the utterances that have a target of one dimension.

    Attributes:
        total: of the weights.
        statistics: ``[D]``.
        target: of the targets.
        products: ``[D]`` of statistics and target.
        gram: ``[D, D]`` of statistics.
    """

    total: float
    statistics: Floats
    target: float
    products: Floats
    gram: Floats


def moments_of(rows: Callable[[], Iterator[DimensionRows]]) -> list[Moments]:
    """Return the moments of each dimension, in one pass.

    Args:
        rows: returns an iterator over all utterances, block by block; one block is in memory at a time.
    """
    found: list[Moments] = []
    for block in rows():
        size = block.statistics.shape[1]
        if not found:
            found = [
                Moments(0.0, np.zeros(size), 0.0, np.zeros(size), np.zeros((size, size)))
                for _ in range(block.targets.shape[1])
            ]
        # Dimensions of which the same targets are missing, mostly none, have the same product.
        grams: dict[bytes, Floats] = {}
        for each, column in zip(found, block.targets.T, strict=True):
            known = ~np.isnan(column)
            statistics, weights, targets = block.statistics[known], block.weights[known], column[known]
            if known.tobytes() not in grams:
                scaled = (statistics * np.sqrt(weights)[:, None]).astype(np.float32)
                grams[known.tobytes()] = scaled.T @ scaled
            each.total += float(weights.sum())
            each.statistics += weights @ statistics
            each.target += float(weights @ targets)
            each.products += (weights * targets) @ statistics
            each.gram += grams[known.tobytes()]
    return found


def fit_ridge(moments: Moments, ridges: Sequence[float]) -> Iterator[Linear]:
    """Yield the weights ``[1, D]`` and the bias ``[1]`` of one dimension for each ridge.

    With the covariance ``S`` of the statistics, of size D, and their covariances ``c`` with the targets, the weights
    are ``(S + a (trace S / D) I)^-1 c``.

    Args:
        moments: of the dimension.
        ridges: values of ``a``, each above 0.
    """
    mean, middle = moments.statistics / moments.total, moments.target / moments.total
    covariance = moments.gram / moments.total - np.outer(mean, mean)
    with_targets = moments.products / moments.total - mean * middle
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
        for column, (name, moments) in enumerate(zip(self._names, moments_of(rows), strict=True)):
            ridges = self._ridges if validation is not None else [self._chosen[name]]
            each = list(fit_ridge(moments, ridges))
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

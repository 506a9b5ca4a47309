"""Concordance of the predicted dimensions (arousal, valence, dominance) with their targets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.bench.device.device_sections import Section
from benchmarks.bench.estimate import rounded
from distill.evaluation.evaluate import Evaluation
from edge_runtime.bundles.manifest import Precision
from edge_runtime.dimensions import Dimension


class DimensionFigure(Section):
    """One dimension of one graph.

    Attributes:
        ccc: concordance correlation coefficient (Lin 1989).
        low: lower end of its 95 % interval over speakers; None without an interval.
        high: upper end.
        utterances: with a target.
        speakers: of these.
        targets: of each of them, 0 to 1.
        predicted: for each of them.
    """

    ccc: float
    low: float | None = None
    high: float | None = None
    utterances: int
    speakers: int
    targets: list[float]
    predicted: list[float]


class DimensionsSection(Section):
    """The predicted dimensions of each graph."""

    graphs: dict[Precision, dict[Dimension, DimensionFigure]]


def measure_dimensions(evaluations: Mapping[Precision, Evaluation]) -> DimensionsSection | None:
    """Measure the dimensions of all graphs; None for a bundle without, or a test part without targets."""
    graphs = {name: _figures(each) for name, each in evaluations.items()}
    return DimensionsSection(graphs=graphs) if any(graphs.values()) else None


def _figures(evaluation: Evaluation) -> dict[Dimension, DimensionFigure]:
    scores = evaluation.dimensions
    if scores is None:
        return {}
    figures = {}
    for name, found in scores.concordance.items():
        column = scores.names.index(name)
        known = np.flatnonzero(~np.isnan(scores.targets[:, column]))
        interval = found.ccc_interval
        figures[name] = DimensionFigure(
            ccc=rounded(found.ccc),
            low=None if interval is None else rounded(interval.low),
            high=None if interval is None else rounded(interval.high),
            utterances=found.utterances,
            speakers=found.speakers,
            targets=[rounded(float(value)) for value in scores.targets[known, column]],
            predicted=[rounded(float(value)) for value in scores.predicted[known, column]],
        )
    return figures

"""Plots of accuracy on clips, as SVG text for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

from benchmarks.bench.accuracy.dimensions import DimensionsSection
from benchmarks.bench.report.svg_theme import COLOURS, INK
from distill.evaluation.metrics import Accuracy
from export.bundle.plot import svg_of

_ON_LIGHT = "#111827"
"""Text on light cells, also on dark pages."""


def confusion_plot(title: str, accuracy: Accuracy) -> str:
    """Return a confusion matrix with the share of each true class."""
    labels = list(accuracy.recall)
    counts = np.array(accuracy.confusion, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(3.6, 3.2))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("decided")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else _ON_LIGHT
        axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour, fontsize=9)
    return svg_of(figure)


def accuracy_plot(accuracies: Mapping[str, Accuracy]) -> str:
    """Return unweighted accuracy with intervals, one point per system."""
    names = list(accuracies)
    figure, axes = plt.subplots(figsize=(4.4, 0.8 + 0.42 * len(names)))
    for position, name in enumerate(names):
        each = accuracies[name]
        if interval := each.ua_interval:
            ends = [interval.low, interval.high]
            axes.plot(ends, [position, position], color=COLOURS[position % 4], lw=3, alpha=0.45)
        axes.plot(each.ua, position, "o", color=COLOURS[position % 4], ms=7)
    chance = 1 / len(accuracies[names[0]].recall)
    axes.axvline(chance, color=INK, lw=0.8, ls=":")
    axes.text(chance, len(names) - 0.45, " chance", fontsize=8, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("unweighted accuracy, 95 % interval over speakers")
    return svg_of(figure)


def recall_plot(recalls: Mapping[str, Mapping[str, float | None]], labels: Sequence[str]) -> str:
    """Return the recall of each class, one group of bars per class."""
    figure, axes = plt.subplots(figsize=(4.4, 2.6))
    width = 0.8 / len(recalls)
    for position, (name, recall) in enumerate(recalls.items()):
        places = np.arange(len(labels)) + (position - (len(recalls) - 1) / 2) * width
        heights = [recall[label] or 0.0 for label in labels]
        axes.bar(places, heights, width * 0.92, color=COLOURS[position % 4], label=name)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall")
    axes.legend(fontsize=8, frameon=False, ncols=len(recalls), loc="upper center", bbox_to_anchor=(0.5, 1.18))
    return svg_of(figure)


def dimension_plots(section: DimensionsSection) -> list[str]:
    """Return a figure for each graph: predictions over targets, a plot for each dimension."""
    plots = []
    for graph, found in section.graphs.items():
        if not found:
            continue
        figure, places = plt.subplots(1, len(found), figsize=(2.7 * len(found) + 0.4, 2.9), squeeze=False, sharey=True)
        for place, (name, each) in zip(places[0], found.items(), strict=True):
            place.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
            place.plot(each.targets, each.predicted, "o", color=COLOURS[0], ms=3, alpha=0.5, mew=0)
            place.set_xlim(0, 1)
            place.set_ylim(0, 1)
            place.set_aspect("equal")
            place.set_xlabel(f"{name}, target")
            place.set_title(f"CCC {each.ccc:.2f}", fontsize=9)
        places[0][0].set_ylabel(f"predicted, {graph}")
        plots.append(svg_of(figure))
    return plots

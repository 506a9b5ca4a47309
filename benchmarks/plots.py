"""Plots of a report, as SVG text that goes into the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.latency import Latency
from distill.metrics import Accuracy

_INK = "#1f2937"
_COLOURS = ("#2563eb", "#059669", "#d97706", "#7c3aed")


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
        colour = "white" if share > 0.55 else _INK
        axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour, fontsize=9)
    return _svg(figure)


def accuracy_plot(accuracies: Mapping[str, Accuracy]) -> str:
    """Return unweighted accuracy with intervals, a point a system."""
    names = list(accuracies)
    figure, axes = plt.subplots(figsize=(4.4, 0.8 + 0.42 * len(names)))
    for position, name in enumerate(names):
        each = accuracies[name]
        axes.plot([each.ua_low, each.ua_high], [position, position], color=_COLOURS[position % 4], lw=3, alpha=0.45)
        axes.plot(each.ua, position, "o", color=_COLOURS[position % 4], ms=7)
    chance = 1 / len(accuracies[names[0]].recall)
    axes.axvline(chance, color=_INK, lw=0.8, ls=":")
    axes.text(chance, len(names) - 0.45, " chance", fontsize=8, color=_INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("unweighted accuracy, 95 % interval over speakers")
    return _svg(figure)


def latency_plot(latencies: Mapping[str, Latency]) -> str:
    """Return the distribution of latencies, a curve a system."""
    figure, axes = plt.subplots(figsize=(4.4, 2.6))
    for position, (name, latency) in enumerate(latencies.items()):
        values = np.sort(latency.milliseconds)
        share = np.arange(1, len(values) + 1) / len(values)
        axes.step(values, share, where="post", color=_COLOURS[position % 4], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds for one window (log scale)")
    axes.set_ylabel("share of calls")
    axes.legend(fontsize=8, frameon=False)
    return _svg(figure)


def recall_plot(recalls: Mapping[str, Mapping[str, float | None]], labels: Sequence[str]) -> str:
    """Return the recall of each class, a group of bars a class; a class that does not occur has none."""
    figure, axes = plt.subplots(figsize=(4.4, 2.6))
    width = 0.8 / len(recalls)
    for position, (name, recall) in enumerate(recalls.items()):
        places = np.arange(len(labels)) + (position - (len(recalls) - 1) / 2) * width
        axes.bar(
            places, [recall[label] or 0.0 for label in labels], width * 0.92, color=_COLOURS[position % 4], label=name
        )
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall")
    axes.legend(fontsize=8, frameon=False, ncols=len(recalls), loc="upper center", bbox_to_anchor=(0.5, 1.18))
    return _svg(figure)


def _svg(figure: Figure) -> str:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    # A fixed salt and no date: the same figures give the same file.
    with plt.rc_context({"svg.hashsalt": "edgeemo", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]

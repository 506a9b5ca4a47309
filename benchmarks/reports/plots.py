"""Plots of a report, as SVG text that goes into the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

from benchmarks.reports.svg_theme import INK as _INK
from benchmarks.results import Row
from distill.evaluation.metrics import Accuracy
from export.bundle.plot import svg_of

_ON_LIGHT = "#111827"
"""Of figures that stand on light cells whatever the page's paper is."""
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
        colour = "white" if share > 0.55 else _ON_LIGHT
        axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour, fontsize=9)
    return svg_of(figure)


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
    return svg_of(figure)


def recall_plot(recalls: Mapping[str, Mapping[str, float | None]], labels: Sequence[str]) -> str:
    """Return the recall of each class, a group of bars a class; none where no utterance has the class."""
    figure, axes = plt.subplots(figsize=(4.4, 2.6))
    width = 0.8 / len(recalls)
    for position, (name, recall) in enumerate(recalls.items()):
        places = np.arange(len(labels)) + (position - (len(recalls) - 1) / 2) * width
        heights = [recall[label] or 0.0 for label in labels]
        axes.bar(places, heights, width * 0.92, color=_COLOURS[position % 4], label=name)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0, 1)
    axes.set_ylabel("recall")
    axes.legend(fontsize=8, frameon=False, ncols=len(recalls), loc="upper center", bbox_to_anchor=(0.5, 1.18))
    return svg_of(figure)


def systems_plot(rows: Sequence[Row]) -> str:
    """Return unweighted accuracy of the systems of a grid: mean with interval, and a small dot a seed.

    Args:
        rows: of one grid, without sweeps; a row without seed is the mean of those with one.
    """
    names = list(dict.fromkeys(row.system for row in rows))
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.34 * len(names)))
    for place, name in enumerate(names):
        own = [row for row in rows if row.system == name]
        whole = next((row for row in own if row.seed is None), own[0])
        colour = _COLOURS[0] if place == 0 else _INK
        if whole.ua_low is not None and whole.ua_high is not None:
            axes.plot([whole.ua_low, whole.ua_high], [place, place], color=colour, lw=3, alpha=0.3)
        seeds = [_ua(row) for row in own if row.seed is not None]
        axes.plot(seeds, [place] * len(seeds), "o", color=colour, ms=3, alpha=0.6)
        axes.plot(_ua(whole), place, "D", color=colour, ms=6)
        if whole.ua_target is not None:
            axes.plot([whole.ua_target] * 2, [place - 0.35, place + 0.35], color=_COLOURS[2], lw=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", lw=0.4, alpha=0.6)
    bar = ", bar: to reach" if any(row.ua_target is not None for row in rows) else ""
    axes.set_xlabel(f"unweighted accuracy: mean and 95 % interval over speakers, dots: seeds{bar}")
    return svg_of(figure)


def sweep_plot(rows: Sequence[Row], setting: str) -> str:
    """Return unweighted accuracy over the values of one setting: mean with interval, and a small dot a seed.

    Args:
        rows: points of one sweep, each setting's values positive numbers.
        setting: key of `Row.settings`.
    """
    points = [(float((row.settings or {})[setting]), row) for row in rows]
    several = any(row.seed is None for _, row in points)
    means = sorted((value, _ua(row)) for value, row in points if (row.seed is None) == several)
    figure, axes = plt.subplots(figsize=(4.8, 2.8))
    for value, row in points:
        if row.seed is not None:
            axes.plot(value, _ua(row), "o", color=_COLOURS[0], ms=3, alpha=0.6)
        if (row.seed is None) == several and row.ua_low is not None and row.ua_high is not None:
            axes.plot([value, value], [row.ua_low, row.ua_high], color=_COLOURS[0], lw=3, alpha=0.3)
    axes.plot([value for value, _ in means], [score for _, score in means], "D-", color=_COLOURS[0], ms=6, lw=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks([value for value, _ in means], [f"{value:g}" for value, _ in means])
    axes.set_xlabel(setting)
    axes.set_ylabel("unweighted accuracy")
    axes.set_title("mean and 95 % interval over speakers, dots: seeds", fontsize=8)
    return svg_of(figure)


def reference_plot(rows: Sequence[Row], curve: str, baseline: str) -> str:
    """Return unweighted accuracy against the utterances behind a speaker's reference, other kinds beside it.

    Args:
        rows: of `benchmarks.speakers`; the first one is without references.
        curve: the system whose rows are joined to a line, from the baseline on.
        baseline: the system without references.
    """
    joined = sorted((row for row in rows if row.system in (baseline, curve)), key=lambda row: _behind(row))
    others = [row for row in rows if row.system not in (baseline, curve)]
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    counts = [_behind(row) for row in joined]
    axes.fill_between(
        counts,
        [row.ua_low or 0.0 for row in joined],
        [row.ua_high or 0.0 for row in joined],
        color=_COLOURS[0],
        alpha=0.15,
        lw=0,
    )
    axes.plot(counts, [_ua(row) for row in joined], "D-", color=_COLOURS[0], ms=5, lw=1.2, label=curve)
    axes.axhline(_ua(joined[0]), color=_INK, lw=0.8, ls=":")
    place = max(counts) + 3
    names = []
    for number, row in enumerate(others):
        at = place + 2 * number
        axes.plot([at, at], [row.ua_low or 0.0, row.ua_high or 0.0], color=_COLOURS[2], lw=3, alpha=0.3)
        axes.plot(at, _ua(row), "o", color=_COLOURS[2], ms=5)
        many = f" {row.reference_utterances}" if row.reference_utterances else ""
        names.append((at, f"{row.system}{many}"))
    ticks = [*((count, f"{count}") for count in counts), *names]
    axes.set_xticks([at for at, _ in ticks], [name for _, name in ticks], rotation=40, ha="right", fontsize=7)
    axes.set_xlabel("unlabelled utterances of the speaker behind the reference; other references")
    axes.set_ylabel("unweighted accuracy")
    axes.grid(axis="y", lw=0.4, alpha=0.6)
    return svg_of(figure)


def weights_plot(weights: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return what each monolingual teacher counts over training, a panel a language of the utterances.

    Args:
        weights: by language, then by teacher, a value an epoch.
    """
    figure, panels = plt.subplots(1, len(weights), figsize=(1.2 + 1.9 * len(weights), 2.4), sharey=True, squeeze=False)
    for axes, (language, teachers) in zip(panels[0], weights.items(), strict=True):
        for place, (teacher, values) in enumerate(teachers.items()):
            width = 2.4 if teacher == language else 1.0
            axes.plot(range(1, len(values) + 1), values, color=_COLOURS[place % 4], lw=width, label=teacher)
        axes.axhline(1 / len(teachers), color=_INK, lw=0.8, ls=":")
        axes.set_title(f"utterances in {language}", fontsize=8)
        axes.set_xlabel("epoch")
    panels[0][0].set_ylabel("weight of the teacher")
    panels[0][-1].legend(title="teacher", fontsize=7, title_fontsize=7, frameon=False)
    return svg_of(figure)


def _behind(row: Row) -> int:
    return row.reference_utterances or 0


def _ua(row: Row) -> float:
    assert row.ua is not None
    return row.ua

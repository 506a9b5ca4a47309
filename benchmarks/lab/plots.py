"""Plots of grids, speaker means and other systems for documents, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.bench.report.svg_theme import COLOURS, INK, on_any_paper
from benchmarks.bench.results import Row
from benchmarks.lab.views.table_cells import row_name
from export.bundle.plot import svg_of


def systems_plot(rows: Sequence[Row]) -> str:
    """Return unweighted accuracy of the systems of a grid: mean with interval, and a small dot per seed.

    Args:
        rows: of one grid, without sweeps; a row without a seed is a mean over seeds.
    """
    names = list(dict.fromkeys(row.system for row in rows))
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.34 * len(names)))
    for place, name in enumerate(names):
        own = [row for row in rows if row.system == name]
        whole = next((row for row in own if row.seed is None), own[0])
        colour = COLOURS[0] if place == 0 else INK
        if whole.ua_low is not None and whole.ua_high is not None:
            axes.plot([whole.ua_low, whole.ua_high], [place, place], color=colour, lw=3, alpha=0.3)
        seeds = [_ua(row) for row in own if row.seed is not None]
        axes.plot(seeds, [place] * len(seeds), "o", color=colour, ms=3, alpha=0.6)
        axes.plot(_ua(whole), place, "D", color=colour, ms=6)
        if whole.ua_target is not None:
            axes.plot([whole.ua_target] * 2, [place - 0.35, place + 0.35], color=COLOURS[2], lw=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", lw=0.4, alpha=0.6)
    bar = ", bar: to reach" if any(row.ua_target is not None for row in rows) else ""
    axes.set_xlabel(f"unweighted accuracy: mean and 95 % interval over speakers, dots: seeds{bar}")
    return svg_of(figure)


def sweep_plot(rows: Sequence[Row], setting: str) -> str:
    """Return unweighted accuracy over the values of one setting: mean with interval, and a small dot per seed.

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
            axes.plot(value, _ua(row), "o", color=COLOURS[0], ms=3, alpha=0.6)
        if (row.seed is None) == several and row.ua_low is not None and row.ua_high is not None:
            axes.plot([value, value], [row.ua_low, row.ua_high], color=COLOURS[0], lw=3, alpha=0.3)
    axes.plot([value for value, _ in means], [score for _, score in means], "D-", color=COLOURS[0], ms=6, lw=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks([value for value, _ in means], [f"{value:g}" for value, _ in means])
    axes.set_xlabel(setting)
    axes.set_ylabel("unweighted accuracy")
    axes.set_title("mean and 95 % interval over speakers, dots: seeds", fontsize=8)
    return svg_of(figure)


def reference_plot(rows: Sequence[Row], curve: str, baseline: str) -> str:
    """Return unweighted accuracy by the utterances of the speaker before, with other kinds of them.

    Args:
        rows: of `benchmarks.lab.speakers`.
        curve: system whose rows are joined to a line, starting at the baseline.
        baseline: system of unknown speakers.
    """
    joined = sorted((row for row in rows if row.system in (baseline, curve)), key=lambda row: _behind(row))
    others = [row for row in rows if row.system not in (baseline, curve)]
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    counts = [_behind(row) for row in joined]
    axes.fill_between(
        counts,
        [row.ua_low or 0.0 for row in joined],
        [row.ua_high or 0.0 for row in joined],
        color=COLOURS[0],
        alpha=0.15,
        lw=0,
    )
    axes.plot(counts, [_ua(row) for row in joined], "D-", color=COLOURS[0], ms=5, lw=1.2, label=curve)
    axes.axhline(_ua(joined[0]), color=INK, lw=0.8, ls=":")
    place = max(counts) + 3
    names = []
    for number, row in enumerate(others):
        at = place + 2 * number
        axes.plot([at, at], [row.ua_low or 0.0, row.ua_high or 0.0], color=COLOURS[2], lw=3, alpha=0.3)
        axes.plot(at, _ua(row), "o", color=COLOURS[2], ms=5)
        many = f" {row.reference_utterances}" if row.reference_utterances else ""
        names.append((at, f"{row.system}{many}"))
    ticks = [*((count, f"{count}") for count in counts), *names]
    axes.set_xticks([at for at, _ in ticks], [name for _, name in ticks], rotation=40, ha="right", fontsize=7)
    axes.set_xlabel("unlabelled utterances of the speaker before; other kinds of them")
    axes.set_ylabel("unweighted accuracy")
    axes.grid(axis="y", lw=0.4, alpha=0.6)
    return svg_of(figure)


def uncertainty_plot(curves: Mapping[str, Sequence[float]], points: Mapping[str, tuple[float, float]]) -> str:
    """Return the share of errors that a threshold of confidence flags, by the share of correct decisions that it flags.

    Args:
        curves: by stage, the share of errors at evenly spaced shares of correct decisions from 0 to 1.
        points: by stage, share of correct decisions and of errors at the threshold that is used.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(np.linspace(0, 1, len(curve)), curve, color=colour, lw=1.2, label=name)
        axes.plot(*points[name], "o", color=colour, ms=5)
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    axes.set_xlabel("correct decisions marked uncertain")
    axes.set_ylabel("errors marked uncertain")
    axes.legend(fontsize=7)
    axes.grid(lw=0.4, alpha=0.6)
    return svg_of(figure)


def weights_plot(weights: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the weight of each monolingual teacher over training, one panel per language of the utterances.

    Args:
        weights: by language, then by teacher, a value per epoch.
    """
    figure, panels = plt.subplots(1, len(weights), figsize=(1.2 + 1.9 * len(weights), 2.4), sharey=True, squeeze=False)
    for axes, (language, teachers) in zip(panels[0], weights.items(), strict=True):
        for place, (teacher, values) in enumerate(teachers.items()):
            width = 2.4 if teacher == language else 1.0
            axes.plot(range(1, len(values) + 1), values, color=COLOURS[place % 4], lw=width, label=teacher)
        axes.axhline(1 / len(teachers), color=INK, lw=0.8, ls=":")
        axes.set_title(f"utterances in {language}", fontsize=8)
        axes.set_xlabel("epoch")
    panels[0][0].set_ylabel("weight of the teacher")
    panels[0][-1].legend(title="teacher", fontsize=7, title_fontsize=7, frameon=False)
    return svg_of(figure)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the Pareto-optimal points: no other one is at least as fast and as accurate, and better in one of the two.

    Args:
        points: latency and accuracy of each.

    Returns:
        Their indices, the fastest first.

    >>> pareto_front([(10.0, 0.8), (3.0, 0.5), (12.0, 0.8), (4.0, 0.4)])
    [1, 0]
    """
    front: list[int] = []
    for number in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        if not front or points[number][1] > points[front[-1]][1]:
            front.append(number)
    return front


def peers_plot(rows: Sequence[Row], *, corpus: str) -> str:
    """Return unweighted accuracy against latency, with the Pareto front; numbered points, the fastest first.

    Students are blue, others orange; systems without an accuracy are vertical lines.
    """
    timed = sorted((row for row in rows if row.p50_ms is not None), key=_latency)
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    axes.set_xscale("log")
    for number, row in enumerate(timed, start=1):
        _draw(axes, row, number)
        only = "" if row.ua is not None else ", latency only"
        text = f"{number}  {row_name(row)}, {_latency(row):.3g} ms{only}"
        axes.text(1.03, 0.97 - 0.065 * number, text, fontsize=8, color=INK, transform=axes.transAxes)
    points = [(_latency(row), row.ua) for row in timed if row.ua is not None]
    front = [points[each] for each in pareto_front(points)]
    if len(front) > 1:
        axes.step(*zip(*front, strict=True), where="post", color=INK, lw=0.9, ls="--", zorder=0)
        text = "dashed: the Pareto front"
        axes.text(1.03, 0.97 - 0.065 * (len(timed) + 1.5), text, fontsize=8, color=INK, transform=axes.transAxes)
    axes.set_xlabel("median latency of one window of 3 s on one core, ms", fontsize=9)
    axes.set_ylabel(f"unweighted accuracy on {corpus}, 95 % interval over speakers", fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.grid(lw=0.4, alpha=0.6)
    return on_any_paper(svg_of(figure))


def _draw(axes: Axes, row: Row, number: int) -> None:
    """Draw one system: a numbered point with its interval, or a numbered line where its accuracy is unknown."""
    p50 = _latency(row)
    on_point: dict[str, Any] = {"color": "white", "fontsize": 7, "ha": "center", "va": "center_baseline", "zorder": 4}
    if row.ua is None:
        axes.axvline(p50, color=_colour(row), lw=1, ls=":")
        place = axes.get_xaxis_transform()
        axes.plot(p50, 0.05, "s", color=_colour(row), ms=10, transform=place, zorder=3)
        axes.text(p50, 0.05, str(number), transform=place, **on_point)
        return
    if row.ua_low is not None and row.ua_high is not None:
        axes.plot([p50, p50], [row.ua_low, row.ua_high], color=_colour(row), lw=2, alpha=0.35)
    axes.plot(p50, row.ua, "o", color=_colour(row), ms=10, zorder=3)
    axes.text(p50, row.ua, str(number), **on_point)


def _latency(row: Row) -> float:
    assert row.p50_ms is not None
    return row.p50_ms


def _colour(row: Row) -> str:
    return COLOURS[0] if row.system.startswith("student") else COLOURS[2]


def _behind(row: Row) -> int:
    return row.reference_utterances or 0


def _ua(row: Row) -> float:
    assert row.ua is not None
    return row.ua

"""The picture of peers: unweighted accuracy against latency, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.results import Row
from benchmarks.svg_theme import INK, on_any_paper
from benchmarks.tables import row_name
from export.svg import svg_of

_OURS, _PEER = "#2563eb", "#d97706"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other one beats: none is as fast and as accurate, and better in one of the two.

    Args:
        points: latency and accuracy of each.

    Returns:
        Their numbers, the fastest first.

    >>> pareto_front([(10.0, 0.8), (3.0, 0.5), (12.0, 0.8), (4.0, 0.4)])
    [1, 0]
    """
    front: list[int] = []
    for number in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        if not front or points[number][1] > points[front[-1]][1]:
            front.append(number)
    return front


def peers_plot(rows: Sequence[Row], *, corpus: str) -> str:
    """Return the picture as SVG for any paper.

    Students are blue, others orange; systems of which only the latency is known stand as lines.

    Args:
        rows: those without a median latency are left out.
        corpus: name of the corpus.
    """
    timed = [(row, row.p50_ms) for row in rows if row.p50_ms is not None]
    known = [(row, p50, row.ua) for row, p50 in timed if row.ua is not None]
    figure, axes = plt.subplots(figsize=(7.0, 4.2))
    axes.set_xscale("log")
    for row, p50, ua in known:
        if row.ua_low is not None and row.ua_high is not None:
            axes.plot([p50, p50], [row.ua_low, row.ua_high], color=_colour(row), lw=2, alpha=0.35)
        axes.plot(p50, ua, "o", color=_colour(row), ms=6)
        axes.annotate(row_name(row), (p50, ua), (6, 4), textcoords="offset points", fontsize=7, color=INK)
    points = [(p50, ua) for _, p50, ua in known]
    front = [points[each] for each in pareto_front(points)]
    if len(front) > 1:
        latency, accuracy = zip(*front, strict=True)
        axes.step(latency, accuracy, where="post", color=INK, lw=0.8, ls="--", zorder=0, label="Pareto front")
        axes.legend(fontsize=7, frameon=False, loc="lower right")
    for row, p50 in timed:
        if row.ua is None:
            _only_latency(axes, row, p50)
    axes.set_xlabel("median latency of one window of 3 s on one core, ms")
    axes.set_ylabel(f"unweighted accuracy on {corpus}, 95 % interval over speakers")
    axes.yaxis.label.set_fontsize(8)
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.grid(lw=0.4, alpha=0.6)
    return on_any_paper(svg_of(figure))


def _only_latency(axes: Axes, row: Row, p50: float) -> None:
    axes.axvline(p50, color=_colour(row), lw=1, ls=":")
    axes.text(
        p50,
        0.02,
        f" {row_name(row)}: latency only",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=7,
        color=INK,
        transform=axes.get_xaxis_transform(),
    )


def _colour(row: Row) -> str:
    return _OURS if row.system.startswith("student") else _PEER

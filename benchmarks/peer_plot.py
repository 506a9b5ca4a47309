"""The picture of peers: unweighted accuracy against latency, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.reports.svg_theme import INK, on_any_paper
from benchmarks.results import Row
from benchmarks.views.table_cells import row_name
from export.bundle.plot import svg_of

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
    """Return the picture as SVG for any paper: numbered points, and who they are beside it, the fastest first.

    Students are blue, others orange; systems of which only the latency is known are lines without a height.

    Args:
        rows: those without a median latency are left out.
        corpus: name of the corpus.
    """
    timed = sorted((row for row in rows if row.p50_ms is not None), key=_latency)
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    axes.set_xscale("log")
    for number, row in enumerate(timed, start=1):
        _draw(axes, row, number)
        told = "" if row.ua is not None else ", latency only"
        text = f"{number}  {row_name(row)}, {_latency(row):.3g} ms{told}"
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
    """Draw one system: a numbered point with its interval, or a numbered line where its accuracy is not known."""
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
    return _OURS if row.system.startswith("student") else _PEER

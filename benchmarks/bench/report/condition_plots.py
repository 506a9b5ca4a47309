"""Plots of accuracy by condition, by speaker, by coverage and in a stream, as SVG text for the page."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.bench.accuracy.conditions import CLEAN, ConditionScore, ConditionsSection
from benchmarks.bench.accuracy.fairness import FairnessSection, GraphFairness
from benchmarks.bench.accuracy.risk_coverage import RiskSection
from benchmarks.bench.accuracy.streaming import StreamingSection
from benchmarks.bench.estimate import Estimate
from benchmarks.bench.report.svg_theme import COLOURS, INK
from export.bundle.plot import svg_of


def conditions_plots(section: ConditionsSection) -> list[str]:
    """Return a figure for each graph: accuracy over signal-to-noise ratio, and under the other conditions."""
    return [_conditions(name, scores) for name, scores in section.graphs.items()]


def _conditions(title: str, scores: list[ConditionScore]) -> str:
    clean = next(each for each in scores if each.name == CLEAN)
    others = [each for each in scores if each.ratio_db is None and each.name != CLEAN]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 0.9 + 0.28 * max(7, len(others))), sharey=False)
    noises = list(dict.fromkeys(each.group for each in scores if each.ratio_db is not None))
    for place, kind in enumerate(noises):
        own = [(each.ratio_db or 0.0, each.ua) for each in scores if each.group == kind]
        own.sort(key=lambda each: each[0])
        ratios, colour = [ratio for ratio, _ in own], COLOURS[place % 4]
        low, high = ([end for _, ua in own if (end := getattr(ua, name)) is not None] for name in ("low", "high"))
        if len(low) == len(own):
            left.fill_between(ratios, low, high, color=colour, alpha=0.12, lw=0)
        left.plot(ratios, [ua.value for _, ua in own], "o-", color=colour, ms=4, lw=1.4, label=kind)
    left.axhline(clean.ua.value, color=INK, lw=0.8, ls=":")
    left.set_xlabel("signal-to-noise ratio in dB (dotted: clean)")
    left.set_ylabel("unweighted accuracy")
    left.set_ylim(0, 1)
    left.set_title(title, fontsize=9)
    if noises:
        left.legend(fontsize=8, frameon=False)
    for place, each in enumerate([clean, *others]):
        _bar(right, each.ua, place, COLOURS[0] if each.name == CLEAN else INK)
    right.axvline(clean.ua.value, color=INK, lw=0.8, ls=":")
    right.set_yticks(range(len(others) + 1), [_short(each.name) for each in [clean, *others]], fontsize=8)
    right.set_ylim(len(others) + 0.6, -0.6)
    right.set_xlim(0, 1)
    right.set_xlabel("unweighted accuracy, 95 % interval over speakers")
    figure.tight_layout(w_pad=2.0)
    return svg_of(figure)


def fairness_plots(section: FairnessSection) -> list[str]:
    """Return a figure for each graph: accuracy of every speaker, and of the groups of speakers."""
    return [_fairness(name, graph) for name, graph in section.graphs.items()]


def _fairness(title: str, graph: GraphFairness) -> str:
    groups = [(f"{column.column}: {group.group}", group) for column in graph.columns for group in column.groups]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.6, 2.8), width_ratios=(2, 1), gridspec_kw={"wspace": 0.45}, squeeze=True
    )
    for place, each in enumerate(graph.speakers):
        if each.right.low is not None and each.right.high is not None:
            left.plot([place] * 2, [each.right.low, each.right.high], color=INK, lw=2, alpha=0.25)
        left.plot(place, each.right.value, "_", color=INK, ms=6)
        left.plot(place, each.ua, "o", color=COLOURS[0], ms=4)
    if graph.spread:
        for value in (graph.spread.quarter, graph.spread.median, graph.spread.three_quarters):
            left.axhline(value, color=COLOURS[0], lw=0.7, ls=":")
    few = len(graph.speakers) <= 30
    left.set_xticks(
        range(len(graph.speakers)) if few else [],
        [each.speaker for each in graph.speakers] if few else [],
        rotation=60,
        ha="right",
        fontsize=7,
    )
    left.set_ylim(0, 1.02)
    left.set_ylabel("accuracy")
    left.set_title(f"{title}: dot UA, bar correct decisions (95 %, utterances), dotted quartiles of UA", fontsize=8)
    for place, (_, group) in enumerate(groups):
        interval = group.ua_interval
        if interval:
            right.plot([interval.low, interval.high], [place, place], color=COLOURS[place % 4], lw=3, alpha=0.4)
        right.plot(group.ua, place, "o", color=COLOURS[place % 4], ms=6)
    right.set_yticks(range(len(groups)), [name for name, _ in groups], fontsize=8)
    right.set_ylim(len(groups) - 0.4, -0.6)
    right.set_xlim(0, 1)
    right.set_xlabel("UA, 95 % interval over speakers")
    right.set_visible(bool(groups))
    return svg_of(figure)


def risk_plots(section: RiskSection) -> list[str]:
    """Return the risk-coverage curves of all graphs in one figure, and their reliability diagrams in another."""
    figure, axes = plt.subplots(figsize=(4.6, 2.9))
    for place, (name, graph) in enumerate(section.graphs.items()):
        colour = COLOURS[place % 4]
        axes.plot(
            [point.coverage for point in graph.curve],
            [point.risk for point in graph.curve],
            color=colour,
            label=f"{name}, area {graph.area.value:.3f}",
        )
        if graph.error_when_sure:
            axes.plot(graph.coverage.value, graph.error_when_sure.value, "D", color=colour, ms=6)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: share of utterances with a decision")
    axes.set_ylabel("risk: share of errors among them")
    axes.set_title("diamond: the bundle's threshold", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    curves = svg_of(figure)
    figure, panels = plt.subplots(1, len(section.graphs), figsize=(3.3 * len(section.graphs), 2.9), squeeze=False)
    for axes, (name, graph) in zip(panels[0], section.graphs.items(), strict=True):
        most = max(each.count for each in graph.reliability)
        for each in graph.reliability:
            if each.right is not None and each.confidence is not None:
                width = each.high - each.low
                dark = 0.15 + 0.6 * each.count / most
                axes.bar(each.low, each.right, width, align="edge", color=COLOURS[0], alpha=dark)
                axes.plot([each.confidence] * 2, [each.confidence, each.right], color=COLOURS[2], lw=1.5)
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("confidence (darker: more utterances)")
        axes.set_title(f"{name}, calibration error {graph.ece.value:.3f}", fontsize=8)
    panels[0][0].set_ylabel("share of correct decisions")
    return [curves, svg_of(figure)]


def streaming_plots(section: StreamingSection) -> list[str]:
    """Return unweighted accuracy as clips and in the stream, a pair of bars with intervals a graph."""
    rows: Mapping[str, Estimate] = {
        f"{name}, {what}": value
        for name, graph in section.graphs.items()
        for what, value in (("clips", graph.clip_ua), ("stream", graph.ua), ("detected", graph.heard))
    }
    figure, axes = plt.subplots(figsize=(5.2, 0.8 + 0.3 * len(rows)))
    for place, (name, value) in enumerate(rows.items()):
        _bar(axes, value, place, INK if name.endswith("detected") else COLOURS[place // 3 % 4])
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("unweighted accuracy (share of utterances), 95 % interval over speakers")
    return [svg_of(figure)]


def _bar(axes: Axes, value: Estimate, place: int, colour: str) -> None:
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [place, place], color=colour, lw=3, alpha=0.35)
    axes.plot(value.value, place, "o", color=colour, ms=5)


def _short(name: str) -> str:
    return name.partition(":")[0]

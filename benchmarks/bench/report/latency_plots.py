"""Plots of latency, operators and the machine's limit, as SVG text for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

from benchmarks.bench.device.device_sections import MachineLimit, OperatorProfile, Sweep
from benchmarks.bench.device.latency import Latency
from benchmarks.bench.report.svg_theme import COLOURS, INK
from export.bundle.plot import svg_of

_STYLES = ("-", "--", ":", "-.")
_MODULES = 12


def latency_plot(latencies: Mapping[str, Latency]) -> str:
    """Return the distribution of latencies, one curve per system."""
    figure, axes = plt.subplots(figsize=(4.4, 2.6))
    for position, (name, latency) in enumerate(latencies.items()):
        values = np.sort(latency.milliseconds)
        share = np.arange(1, len(values) + 1) / len(values)
        axes.step(values, share, where="post", color=COLOURS[position % 4], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds for one window (log scale)")
    axes.set_ylabel("share of calls")
    axes.legend(fontsize=8, frameon=False)
    return svg_of(figure)


def limit_plot(limit: MachineLimit) -> str:
    """Return multiply-accumulates a second: the best matrix products, with the rates of the graphs."""
    bars = []
    for kind, best in (("fp32", limit.best_fp32_gmacs), ("int8", limit.best_int8_gmacs)):
        bars.append((f"best {kind} product", best or 0.0, INK))
        bars += [
            (f"graph {each.precision}", each.gmacs_per_second, COLOURS[0])
            for each in limit.graphs
            if each.limit == kind
        ]
    return _bars(bars, "10⁹ multiply-accumulates a second", "{:.0f}")


def operators_plot(profile: OperatorProfile) -> str:
    """Return the modules of the student with the longest times; the rest in one bar."""
    shown, rest = profile.by_module[:_MODULES], profile.by_module[_MODULES:]
    bars = [(each.name, each.ms, COLOURS[0]) for each in shown]
    if rest:
        bars.append((f"{len(rest)} others", sum(each.ms for each in rest), INK))
    return _bars(bars, f"milliseconds for one window, {profile.precision}", "{:.2f}")


def sweep_plot(sweep: Sweep) -> str:
    """Return median latency over the length of the window: colours are graphs, line styles numbers of threads."""
    points = sweep.points
    precisions = list(dict.fromkeys(each.precision for each in points))
    threads = sorted({each.threads for each in points})
    figure, axes = plt.subplots(figsize=(4.4, 2.8))
    for colour, precision in enumerate(precisions):
        for style, count in enumerate(threads):
            own = sorted(
                (each.window_seconds, each.p50_ms)
                for each in points
                if (each.precision, each.threads) == (precision, count)
            )
            name = f"{precision}, {count} thread{'s' if count > 1 else ''}"
            x, y = zip(*own, strict=True)
            axes.plot(x, y, _STYLES[style % 4], marker="o", ms=3, color=COLOURS[colour % 4], label=name)
    axes.set_xlabel("seconds of the window")
    axes.set_ylabel("milliseconds, median")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False)
    return svg_of(figure)


def _bars(bars: Sequence[tuple[str, float, str]], what: str, form: str) -> str:
    """Return horizontal bars: name, length and colour of each."""
    figure, axes = plt.subplots(figsize=(3.6, 0.7 + 0.26 * len(bars)))
    for place, (_, length, colour) in enumerate(bars):
        axes.barh(place, length, 0.7, color=colour, alpha=0.85)
        axes.text(length, place, f" {form.format(length)}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.margins(x=0.15)
    axes.set_xlabel(what, fontsize=8)
    return svg_of(figure)

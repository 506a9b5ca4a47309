"""Write a report as a page, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.bench.accuracy.sections import Sections
from benchmarks.bench.device.device_bench import student
from benchmarks.bench.device.device_sections import Sweep, Timing
from benchmarks.bench.device.latency import sample_floor
from benchmarks.bench.estimate import Estimate
from benchmarks.bench.measure import REFERENCE, Bench
from benchmarks.bench.report.condition_plots import conditions_plots, fairness_plots, risk_plots, streaming_plots
from benchmarks.bench.report.latency_plots import latency_plot, limit_plot, operators_plot, sweep_plot
from benchmarks.bench.report.plots import accuracy_plot, confusion_plot, dimension_plots, recall_plot
from benchmarks.bench.report.svg_theme import on_any_paper
from benchmarks.bench.results import Results
from distill.evaluation.intervals import Interval, ends, no_interval
from distill.evaluation.metrics import Accuracy
from edge_runtime.files import write_text

SECTIONS = (
    "accuracy",
    "fairness",
    "risk",
    "dimensions",
    "conditions",
    "streaming",
    "latency",
    "paced",
    "limit",
    "start",
    "stages",
    "operators",
    "sweep",
    "method",
)
"""Parts of a report in their order: ``section_NAME.html.j2`` and ``section_NAME.md.j2`` among the templates, or
``parts/NAME.html.j2`` and ``parts/NAME.md.j2`` for those in `PARTS`.

To add a section, add a name here and two templates, which produce nothing where `Results` lacks the section's field,
and extend `_context`.
"""
PARTS: Mapping[str, Callable[[Any], list[str]]] = {
    "conditions": conditions_plots,
    "fairness": fairness_plots,
    "risk": risk_plots,
    "dimensions": dimension_plots,
    "streaming": streaming_plots,
}
"""Sections of `benchmarks.bench.accuracy.sections`, with the functions that plot them."""


def write_report(bench: Bench, folder: Path) -> list[Path]:
    """Write ``report.html`` (self-contained), ``report.md`` and ``results.json`` into a directory."""
    context = _context(bench)
    written = []
    for name in ("report.html", "report.md"):
        html = name.endswith(".html")
        pieces = dict.fromkeys(PARTS, "") | render_sections(bench.results, html=html)
        write_text(folder / name, _environment(html=html).get_template(f"{name}.j2").render(context, pieces=pieces))
        written.append(folder / name)
    bench.results.write(folder / "results.json")
    return [*written, folder / "results.json"]


def render_sections(sections: Sections | Results, *, html: bool) -> dict[str, str]:
    """Return the sections as fragments of a page or of a Markdown document, by name, in the order of `PARTS`.

    Args:
        sections: what was measured; sections that are None have no fragment.
        html: HTML with plots; otherwise Markdown without.
    """
    environment = _environment(html=html)
    pieces = {}
    for name, plot in PARTS.items():
        section = getattr(sections, name)
        if section is not None:
            template = environment.get_template(f"parts/{name}.{'html' if html else 'md'}.j2")
            plots = [on_any_paper(each) for each in plot(section)] if html else []
            pieces[name] = template.render(section=section, plots=plots)
    return pieces


def _environment(*, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(resources.files("benchmarks.bench.report").joinpath("templates"))),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "figure": _figure,
        "ms": _milliseconds,
        "mb": lambda value: "" if value is None else f"{value / 1e6:.2f} MB",
        "ends": _ends,
        "points_between": _points_between,
        "percent": lambda share: "-" if share is None else f"{share * 100:.1f} %",
        "points": lambda difference: f"{difference * 100:+.1f}",
        "cell": _cell,
    }
    return environment


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _ends(value: Interval | Estimate | None, digits: int = 3, speakers: int | None = None) -> str:
    """Return the ends of an interval, or of that of a figure, or why there is none."""
    low, high = (None, None) if value is None else (value.low, value.high)
    return ends(low, high, speakers, f".{digits}f")


def _points_between(value: Interval | Estimate | None) -> str:
    """Return the ends of the interval of a difference, in points, or why there is none."""
    if value is None or value.low is None or value.high is None:
        return no_interval()
    return ends(value.low * 100, value.high * 100, form="+.1f")


def _cell(text: str) -> str:
    """Return a text that may stand in a cell of a Markdown table: names come from a corpus."""
    return " ".join(text.replace("|", "\\|").split())


def _milliseconds(value: float | None, digits: int = 2) -> str:
    return "not reported" if value is None else f"{value:.{digits}f} ms"


def _context(bench: Bench) -> dict[str, Any]:
    accuracies: dict[str, Accuracy] = {name: each.accuracy for name, each in bench.evaluations.items()}
    labels = bench.bundle.manifest.labels
    device = bench.device
    back_to_back = [each for each in device.timings if each.way == "back to back"]
    return {
        "sections": SECTIONS,
        "manifest": bench.bundle.manifest,
        "hash": bench.bundle.hash,
        "folds": bench.part.folds,
        "accuracies": accuracies,
        "drop": bench.drop,
        "back_to_back": back_to_back,
        "paced": [each for each in device.timings if each.way == "paced"],
        "medians": {each.system: each.p50_ms for each in back_to_back},
        "floors": {each: sample_floor(each) for each in (90, 95, 99)},
        "sizes": _sizes(bench, back_to_back),
        "sweep": _sweep(device.sweep) if device.sweep else None,
        "reference": REFERENCE,
        "rows": bench.results.rows,
        "results": bench.results,
        "embedded": embedded(bench.results),
        "labels": labels,
        "plots": {
            "accuracy": on_any_paper(accuracy_plot(accuracies)),
            "recall": on_any_paper(recall_plot({name: each.recall for name, each in accuracies.items()}, labels)),
            "latency": on_any_paper(latency_plot(device.latencies)),
            "confusion": [on_any_paper(confusion_plot(name, each)) for name, each in accuracies.items()],
            "limit": on_any_paper(limit_plot(device.machine_limit)) if device.machine_limit.graphs else "",
            "operators": [on_any_paper(operators_plot(each)) for each in device.operators or ()],
            "sweep": on_any_paper(sweep_plot(device.sweep)) if device.sweep else "",
        },
    }


def embedded(results: Results) -> str:
    """Return results as JSON that can stand within a script element: nothing in it ends the element."""
    return json.dumps(results.as_json()).replace("<", "\\u003c")


def _sizes(bench: Bench, timings: list[Timing]) -> dict[str, int | None]:
    files = {student(each): bench.bundle.graph(each).stat().st_size for each in bench.bundle.precisions}
    return {each.system: files.get(each.system) for each in timings}


def _sweep(measured: Sweep) -> dict[str, Any]:
    """Return the medians as a table: a row for each graph and number of threads, a column for each length."""
    points = measured.points
    lengths = sorted({each.window_seconds for each in points})
    found = {(each.precision, each.threads, each.window_seconds): each.p50_ms for each in points}
    keys = sorted({(each.precision, each.threads) for each in points})
    return {"lengths": lengths, "rows": {key: [found.get((*key, length)) for length in lengths] for key in keys}}

"""A bench as a page, as Markdown and as JSON."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.device.device_bench import student
from benchmarks.device.device_sections import Sweep, Timing
from benchmarks.device.latency import sample_floor
from benchmarks.reports.bench import REFERENCE, Bench
from benchmarks.reports.latency_plots import latency_plot, limit_plot, operators_plot, sweep_plot
from benchmarks.reports.plots import accuracy_plot, confusion_plot, recall_plot
from benchmarks.reports.sections import PARTS, render_sections
from benchmarks.reports.svg_theme import on_any_paper
from benchmarks.results import Results
from distill.evaluation.metrics import Accuracy
from edge_runtime.files import write_text

SECTIONS = (
    "accuracy",
    "fairness",
    "risk",
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
"""Parts of a report in their order: ``section_NAME.html.j2`` and ``section_NAME.md.j2`` among the templates, or what
`benchmarks.reports.sections` gives.

A further section is a name here, its two templates, which give nothing where `Results` lacks its field, and what they
need of `_context`.
"""


def write_report(bench: Bench, folder: Path) -> list[Path]:
    """Write ``report.html`` (self-contained), ``report.md`` and ``results.json`` into a directory."""
    context = _context(bench)
    written = []
    for name in ("report.html", "report.md"):
        template = _environment(html=name.endswith(".html")).get_template(f"{name}.j2")
        pieces = dict.fromkeys(PARTS, "") | render_sections(bench.results, html=name.endswith(".html"))
        write_text(folder / name, template.render(context, pieces=pieces))
        written.append(folder / name)
    bench.results.write(folder / "results.json")
    return [*written, folder / "results.json"]


def _environment(*, html: bool) -> jinja2.Environment:
    folder = str(resources.files("benchmarks").joinpath("templates"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["figure"] = lambda value, digits: "-" if value is None else f"{value:.{digits}f}"
    environment.filters["ms"] = _milliseconds
    environment.filters["mb"] = lambda value: "" if value is None else f"{value / 1e6:.2f} MB"
    return environment


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

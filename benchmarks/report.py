"""A bench as a page, as Markdown and as JSON."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.bench import REFERENCE, Bench
from benchmarks.plots import accuracy_plot, confusion_plot, latency_plot, recall_plot
from distill.metrics import Accuracy
from edge_runtime.files import write_text


def write_report(bench: Bench, folder: Path) -> list[Path]:
    """Write ``report.html`` (self-contained), ``report.md`` and ``results.json`` into a directory."""
    context = _context(bench)
    written = []
    for name in ("report.html", "report.md"):
        template = _environment(html=name.endswith(".html")).get_template(f"{name}.j2")
        write_text(folder / name, template.render(context))
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
    environment.filters["ms"] = lambda value: "not reported" if value is None else f"{value:.2f} ms"
    return environment


def _context(bench: Bench) -> dict[str, Any]:
    accuracies: dict[str, Accuracy] = {name: each.accuracy for name, each in bench.evaluations.items()}
    labels = bench.bundle.manifest.labels
    return {
        "manifest": bench.bundle.manifest,
        "hash": bench.bundle.hash,
        "folds": bench.part.folds,
        "accuracies": accuracies,
        "drop": bench.drop,
        "latencies": bench.latencies,
        "load_ms": bench.load_ms,
        "reference": REFERENCE,
        "rows": bench.results.rows,
        "results": bench.results,
        "labels": labels,
        "plots": {
            "accuracy": accuracy_plot(accuracies),
            "recall": recall_plot({name: each.recall for name, each in accuracies.items()}, labels),
            "latency": latency_plot(bench.latencies),
            "confusion": [confusion_plot(name, each) for name, each in accuracies.items()],
        },
    }

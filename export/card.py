"""The model card that goes with a bundle, generated from its manifest."""

from __future__ import annotations

from importlib import resources

import jinja2

from distill.folds import FoldSpec
from edge_runtime.bundles.manifest import GRAPHS, FoldEntry, Manifest
from export.report import ExportReport


def model_card(manifest: Manifest, report: ExportReport) -> str:
    """Return the card in Markdown.

    Args:
        manifest: the bundle's manifest.
        report: what the export measured.
    """
    template = resources.files("export").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    sizes = {GRAPHS[entry.name]: entry.size for entry in manifest.files if entry.name in GRAPHS}
    return environment.from_string(template).render(
        m=manifest, r=report, gate=report.gate, drops=report.gate.drops, sizes=sizes, describe=_describe
    )


def _describe(folds: FoldEntry) -> str:
    return FoldSpec(**folds.model_dump(exclude={"index"})).describe(folds.index)

"""The model card that goes with a bundle, generated from its manifest."""

from __future__ import annotations

from importlib import resources

import jinja2

from distill.folds import FoldSpec
from edge_runtime.manifest import GRAPHS, FoldEntry, Manifest, Precision


def model_card(manifest: Manifest, drops: dict[Precision, tuple[float, float, float]]) -> str:
    """Return the card in Markdown.

    Args:
        manifest: the bundle's manifest.
        drops: loss of UA of each INT8 graph against FP32, with its 95 % interval.
    """
    template = resources.files("export").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    sizes = {GRAPHS[entry.name]: entry.size for entry in manifest.files if entry.name in GRAPHS}
    return environment.from_string(template).render(m=manifest, drops=drops, sizes=sizes, describe=_describe)


def _describe(folds: FoldEntry) -> str:
    return FoldSpec(**folds.model_dump(exclude={"index"})).describe(folds.index)

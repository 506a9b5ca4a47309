"""An option, speech, messages and output that the programs of the lab share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.bench.results import Results
from distill.corpora.read import read_corpus
from distill.corpus import Corpus
from distill.rendered.render import render_corpus
from edge_runtime.console import console
from edge_runtime.files import write_text
from edge_runtime.parameters import path_option

RESULTS = Path(__file__).parents[1] / "results"
"""Directory of the published figures."""
_RENDERED_SHARE = 60
"""Every speaker of the built-in corpus speaks one sentence in sixty."""

out_option = path_option("--out", "Where figures go.", default=RESULTS, show_default="benchmarks/results")


def say(text: str) -> None:
    """Print a line of progress."""
    console.print(f"  {text}")


def corpus_or_rendered(corpus: Path | None, work: Path) -> Corpus:
    """Read a corpus, or render a part of the built-in one under ``work`` and read that."""
    if corpus is None:
        corpus = work / "rendered"
        say("rendering speech")
        render_corpus(corpus, share=_RENDERED_SHARE)
    return read_corpus(corpus)


def publish(
    results: Results, path: Path, documents: str = "*.md */*.md", plots: Mapping[str, str] | None = None
) -> None:
    """Write a results file, and plots (SVG text by file name) next to it; print the command that updates the tables."""
    results.write(path)
    for name, plot in (plots or {}).items():
        write_text(path.parent / name, plot)
    written = ", ".join([str(path), *(plots or {})])
    console.print(f"{written}; next: python -m benchmarks.lab.tables {documents}")

"""The default bundle in a browser against the runtime: `python -m benchmarks.lab.browser`.

Makes the page of `edgeemo browser`, opens it in Chromium without a window, and scores clips as files: how close its
events are to those of the runtime without adaptation to speakers, and how long its windows take. After each clip, the
runtime scores windows of the same lengths, with one thread, as the page has. Writes
``benchmarks/results/browser.json``.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from benchmarks.bench.results import Row, new_results
from benchmarks.lab.browser_page import Window, finals, open_page
from benchmarks.lab.options import RESULTS, corpus_or_rendered, publish, say
from edge_runtime.api import load, score_file
from edge_runtime.browser.onnxruntime_web import runtime_files
from edge_runtime.browser.page import graph_for_browsers, write_page
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.config import ListenSettings, SpeakerSettings
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError, Tool
from edge_runtime.events import EmotionEvent
from edge_runtime.machine import processor_kind
from edge_runtime.parameters import count_option, path_option

ALONE = ListenSettings(speaker=SpeakerSettings(session=False))
"""Settings of the runtime that do what the page does: no adaptation to speakers."""


class Pair(NamedTuple):
    """The final events of the page and of the runtime for one clip."""

    page: list[EmotionEvent]
    runtime: list[EmotionEvent]

    @property
    def same_count(self) -> bool:
        """Whether both found equally many stretches of speech, so that they can be compared one by one."""
        return len(self.page) == len(self.runtime)

    def compared(self) -> list[tuple[EmotionEvent, EmotionEvent]]:
        """Return the events of the page, each with that of the runtime; none if their numbers differ."""
        return list(zip(self.page, self.runtime, strict=True)) if self.same_count else []


def closeness(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return how close the page's final events are to the runtime's.

    Raises:
        EdgeemoError: there is nothing to compare.
    """
    both = [each for pair in pairs for each in pair.compared()]
    if not both:
        raise EdgeemoError("page and runtime found no stretches of speech in common; give clips of speech (--corpus)")
    probability = [max(abs(p.probabilities[name] - r.probabilities[name]) for name in r.probabilities) for p, r in both]
    boundary = [max(abs(page.start - runtime.start), abs(page.end - runtime.end)) for page, runtime in both]
    return {
        "clips": len(pairs),
        "clips with as many final events": sum(pair.same_count for pair in pairs),
        "final events compared": len(both),
        "same label": round(float(np.mean([page.label == runtime.label for page, runtime in both])), 4),
        "same uncertain": round(float(np.mean([page.uncertain == runtime.uncertain for page, runtime in both])), 4),
        "largest difference of a probability": round(max(probability), 4),
        "median difference of a probability": round(float(np.median(probability)), 4),
        "largest difference of a boundary, s": round(max(boundary), 4),
    }


def latency(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 90th percentile of the time of a window."""
    return {
        "windows": len(milliseconds),
        "window, median ms": round(float(np.median(milliseconds)), 2),
        "window, p90 ms": round(float(np.percentile(milliseconds, 90)), 2),
    }


def time_runtime(engine: OnnxEngine, windows: Sequence[Window]) -> list[float]:
    """Return how long the runtime takes for windows of the same lengths, of noise, in milliseconds."""
    random = np.random.default_rng(0)
    found = []
    for window in windows:
        sound = random.normal(0, 0.05, window.samples).astype(np.float32)
        # A processor that was idle, or busy with the page, begins slowly.
        engine.score(sound)
        began = time.perf_counter()
        engine.score(sound)
        found.append((time.perf_counter() - began) * 1000)
    return found


def sizes_of(folder: Path) -> dict[str, float]:
    """Return the size of a page, plain and as a web server compresses it, in MB."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    packed = sum(len(gzip.compress(each, 6)) for each in files)
    return {"page, MB": round(sum(map(len, files)) / 1e6, 2), "page, gzip, MB": round(packed / 1e6, 2)}


@click.command("browser", cls=Tool)
@path_option("--out", "Where figures go.", default=RESULTS / "browser.json", show_default="browser.json")
@path_option("--corpus", "A corpus of speech.  [default: render one]", exists=True)
@path_option("--onnxruntime-web", "The package as `npm pack` writes it.  [default: fetched by npm]", exists=True)
@count_option("--clips", "Number of clips.", default=60)
def main(out: Path, corpus: Path | None, onnxruntime_web: Path | None, clips: int) -> None:
    """Compare the page of `edgeemo browser` with the runtime.

    \b
    Example:
      python -m benchmarks.lab.browser --clips 20
    """
    began = time.monotonic()
    bundle = load_bundle(DEFAULT_BUNDLE)
    with tempfile.TemporaryDirectory(prefix="browser") as name:
        work = Path(name)
        found = corpus_or_rendered(corpus, work)
        items = sorted(found.utterances, key=lambda item: item.name)
        chosen = [items[index].path for index in np.linspace(0, len(items) - 1, min(clips, len(items))).astype(int)]
        sizes = write_page(bundle, work / "page", lambda: runtime_files(onnxruntime_web, say))
        windows: list[Window] = []
        own: list[float] = []
        engine = OnnxEngine.of(bundle, graph_for_browsers(bundle))
        pairs: list[Pair] = []
        with open_page(work / "page") as page, load(bundle, settings=ALONE) as model:
            for path in chosen:
                pairs.append(Pair(finals(page.score(path)), score_file(path, model)))
                windows += page.windows()
                own += time_runtime(engine, page.windows())
            opened, error, version = page.open_ms(), page.known_answers_error(), page.page.context.browser
            assert version is not None
            browser = f"Chromium {version.version}"
        figures = sizes_of(work / "page") | {"graph opened, ms": round(opened)}
        figures |= {"known-answer test, error": round(error, 4)}
        if bundle.known_answers:
            figures |= {"known-answer test, allowed": bundle.known_answers.tolerance}
    zipped = list(zip(windows, own, strict=True))
    rows = [
        Row(
            system="page",
            precision=graph_for_browsers(bundle),
            size_bytes=sum(sizes),
            figures=figures
            | latency([each.ms for each in windows])
            | {"window, times the runtime's, median": round(float(np.median([w.ms / o for w, o in zipped])), 2)}
            | closeness(pairs),
            note=f"Page: {browser}, {pairs[0].page[0].backend}" if pairs[0].page else f"Page: {browser}",
            **_same(found.facts.name, bundle, len(chosen)),
        ),
        Row(
            system="runtime",
            precision=graph_for_browsers(bundle),
            figures=latency(own),
            **_same(found.facts.name, bundle, len(chosen)),
        ),
    ]
    say(f"{rows[0].figures}")
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[0])
    results.bundle = bundle.hash
    publish(results, out, "edge_runtime/BROWSER.md")


def _same(corpus: str, bundle: Bundle, clips: int) -> dict[str, object]:
    classes = len(bundle.manifest.labels)
    return {"corpus": corpus, "classes": classes, "utterances": clips, "processor": processor_kind()}


if __name__ == "__main__":
    main()

"""Write the page of a bundle: local files only, for any static web server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge_runtime import __version__
from edge_runtime.browser.onnxruntime_web import PACKAGE, VERSION
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle
from edge_runtime.bundles.manifest import Precision, graph_name
from edge_runtime.config import DecisionSettings, VadSettings
from edge_runtime.engines.chunks import PAST
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.events import SCHEMA_VERSION
from edge_runtime.files import replacing_directory
from edge_runtime.sources.silero import GRAPH

PAGE = "page.json"
"""What the page needs of the manifest and the settings."""
_VAD = "silero-vad.onnx"
"""The graph of the voice activity detection."""
_MARKS = (PAGE, "static/silero.js")
"""A directory with both is a page of ours, and may be replaced: either alone is in other directories too."""
PRECISIONS: tuple[Precision, ...] = ("int8-cpu", "fp32")
"""Graphs that run in a browser, the best first."""
_HERE = Path(__file__).parent
_SINK = _HERE.parent / "sinks" / "web" / "static"
_OF_THE_SINK = (
    *("style.css", "icon.svg", "colours.js", "dom.js", "panels.js", "plane.js"),
    *("store.js", "timeline.js", "trace.js", "view.js"),
)
"""Files of the runtime's web page (`edge_runtime/sinks/web/static`) that this one shows the same way."""


class Sizes(NamedTuple):
    """Bytes of a page by what they are for."""

    graph: int
    runtime: int
    vad: int
    rest: int


def graph_for_browsers(bundle: Bundle) -> Precision:
    """Return the precision of the graph that the page runs.

    Raises:
        WrongUseError: the bundle has none for CPUs.
    """
    for precision in PRECISIONS:
        if precision in bundle.precisions:
            return precision
    held = ", ".join(bundle.precisions)
    raise WrongUseError(f"{bundle.root}: holds no graph for a browser (it has {held}); export it with --int8")


def write_page(bundle: Bundle, out: Path, runtime: Callable[[], dict[str, bytes]]) -> Sizes:
    """Write the page of a bundle into a new directory, or in place of an older page.

    Args:
        bundle: a verified bundle.
        out: the directory.
        runtime: returns the files of onnxruntime-web by name (`edge_runtime.browser.onnxruntime_web`); called once the
            place can be written to.

    Raises:
        WrongUseError: ``out`` exists and is no page, or the bundle has no graph for browsers.
        EdgeemoError: the bundle was changed, or the place cannot be written to.
    """
    precision = graph_for_browsers(bundle)
    with replacing_directory(out, _MARKS, "page of edgeemo") as part:
        library = runtime()
        content: dict[str, bytes] = {
            PAGE: (json.dumps(settings_of(bundle, precision), indent=1) + "\n").encode(),
            graph_name(precision): bundle.read_graph(precision),
            _VAD: GRAPH.read_bytes(),
            **{f"{PACKAGE}/{name}": each for name, each in library.items()},
            **dict(_texts(bundle)),
            **{f"static/{each.name}": each.read_bytes() for each in _static_files()},
        }
        if bundle.known_answers:
            content["known-answers.f32"] = np.concatenate(bundle.known_answers.windows).astype("<f4").tobytes()
        for name, each in content.items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(each)
    sizes = {name: len(each) for name, each in content.items()}
    graph, vad = sizes[graph_name(precision)], sizes[_VAD]
    inside = sum(map(len, library.values()))
    return Sizes(graph, inside, vad, sum(sizes.values()) - graph - vad - inside)


def settings_of(bundle: Bundle, precision: Precision) -> dict[str, Any]:
    """Return the content of `PAGE`: parts of the manifest, and the defaults of `edgeemo listen`."""
    manifest, known = bundle.manifest, bundle.manifest.known_answers
    answers = known.logits.get(precision) if known else None
    return {
        "version": __version__,
        "schema_version": SCHEMA_VERSION,
        "model": bundle.hash[:12],
        "precision": precision,
        "graph": graph_name(precision),
        "onnxruntime_web": VERSION,
        "labels": manifest.labels,
        "dimensions": bundle.dimensions,
        "sample_rate": manifest.sample_rate,
        "window": manifest.window.model_dump(),
        "past_size": OnnxEngine.of(bundle, precision).shapes()[PAST][1] if manifest.window.chunk else 0,
        "temperature": manifest.temperature,
        "threshold": manifest.threshold,
        "vad": VadSettings().model_dump(exclude={"enabled"}),
        "decision": DecisionSettings().model_dump(exclude={"hop_seconds"}),
        "known_answers": {
            "tolerance": known.tolerance,
            "stretches": [
                {"samples": each.samples, "logits": row} for each, row in zip(known.stretches, answers, strict=True)
            ],
        }
        if known and answers
        else None,
        "reference": manifest.reference,
    }


def _texts(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """Yield the page itself, the licences and the model card."""
    page = _text(_SINK / "index.html")
    for place, fragment in (("    <title>", "head.html"), ('    <main id="main">', "controls.html")):
        if page.count(place) != 1:
            raise EdgeemoError(f"{_SINK}/index.html: has no single '{place.strip()}'; install edgeemo again")
        page = page.replace(place, _text(_HERE / fragment) + place)
    yield "index.html", page.encode()
    licences = _text(_HERE / "licences.txt")
    if bundle.root.resolve() == DEFAULT_BUNDLE.resolve():
        licences += "\n" + _text(DEFAULT_BUNDLE.parent / "DEFAULT_BUNDLE_LICENSE.md")
    yield "licences.txt", licences.encode()
    yield "model-card.txt", bundle.read_card() or b"The bundle has no model card.\n"


def _static_files() -> Iterator[Path]:
    yield from (_SINK / name for name in _OF_THE_SINK)
    yield from (_HERE / "static").iterdir()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")

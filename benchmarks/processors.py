"""The same decisions on every processor: `python -m benchmarks.processors --corpus NAME=PATH …`.

Scores clips of labelled corpora with the INT8 graph that ships: on this machine, and on processors that QEMU emulates
(`benchmarks/emulation.py`). Each is compared with exact arithmetic, the same graph computed in float. Then it compares
the form that ships with others, in accuracy on each processor and in time on this one, relative to the same graph in
FP32. Writes ``benchmarks/results/processors.json``.

A corpus that the bundle was trained on shows the loss, not what the bundle is worth to new speakers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime

from benchmarks.device.scores import Scored, read_scores, write_windows
from benchmarks.device.scores import main as score_windows
from benchmarks.emulation import Emulated, emulated
from benchmarks.int8_forms import in_float, seven_bits
from benchmarks.results import PairedDifference, Ratio, Row, accuracy_columns, new_results
from benchmarks.tables import RESULTS
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpora.read import read_corpus
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats, mean_difference
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.console import console
from edge_runtime.decision import softmax
from edge_runtime.engines.engine import OnnxEngine, session_options
from edge_runtime.errors import Tool
from edge_runtime.machine import processor_kind
from edge_runtime.sources.audio import Pcm, read_audio
from export.cpu_graph import unsigned_weights

EXACT = "exact arithmetic"
EMULATED = ("avx2", "aarch64", "aarch64_dotprod")
_FORMS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "signed weights": lambda model: None,
    "unsigned weights": unsigned_weights,
    "7-bit weights": seven_bits,
    "FP32": in_float,
}
_ROUNDS = 25
_PATIENCE = 7200.0


@dataclass(frozen=True)
class Clips:
    """Clips of one corpus, the first window of each.

    Attributes:
        corpus: its name.
        items: the utterances, their emotions named as the bundle's.
        windows: ``[samples]`` each.
        labels: the bundle's.
        exact: logits ``[clips, classes]`` in exact arithmetic.
    """

    corpus: str
    items: tuple[Utterance, ...]
    windows: list[Pcm]
    labels: tuple[str, ...]
    exact: Floats

    def evaluate(self, logits: Floats, temperature: float) -> Evaluation:
        """Return what these logits decide."""
        return Evaluation(self.items, self.labels, softmax(logits, temperature))


def choose_clips(bundle: Bundle, place: NamedPath, count: int, seconds: float) -> Clips:
    """Return clips of a corpus, of all its speakers and of the bundle's emotions, spread evenly."""
    corpus = read_corpus(place.path)
    name = place.name or corpus.facts.name
    learnt = next((each.labels for each in bundle.manifest.corpora if each.name == name), None) or {}
    items = sorted(
        corpus.mapped(learnt, bundle.manifest.labels).utterances,
        key=lambda item: (item.emotion, item.speaker, item.name),
    )
    chosen = tuple(items[index] for index in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    longest = min(round(seconds * bundle.manifest.sample_rate), bundle.manifest.window.samples)
    windows = [read_audio(item.path)[:longest] for item in chosen]
    exact = OnnxEngine.of(bundle, "int8-cpu", simulated=True).score_windows(windows)
    return Clips(name, chosen, windows, bundle.manifest.labels, exact)


def score_on(processor: Emulated | None, bundle: Path, windows: list[Pcm]) -> Scored:
    """Return what the engine that `listen` runs gives on a processor; on this machine's if None."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "windows.npz", Path(folder) / "scores.npz"
        write_windows(windows, given)
        if processor is None:
            score_windows(bundle, given, out)
        else:
            arguments = ("-m", "benchmarks.device.scores", *map(str, (bundle, given, out)))
            processor.run(*arguments, timeout=_PATIENCE)
        return read_scores(out)


def make_row(kind: str, clips: Clips, scored: Scored, temperature: float) -> Row:
    """Return how a processor's decisions on a corpus compare with exact arithmetic."""
    here, exact = clips.evaluate(scored.logits, temperature), clips.evaluate(clips.exact, temperature)
    difference = mean_difference(here.truth, [exact.decided], [here.decided], here.speakers)
    return Row(
        system="int8-cpu",
        corpus=clips.corpus,
        classes=len(clips.labels),
        precision="int8-cpu",
        processor=kind,
        difference=PairedDifference.of(EXACT, difference),
        figures=closeness(scored.logits, clips.exact) | {"known_answers_error": round(scored.error, 5)},
        note="; ".join(
            [
                scored.backend,
                f"known-answer test {scored.outcome}",
                *(["products saturate without the session entry"] if scored.saturates else []),
                *scored.news,
            ]
        ),
        **accuracy_columns(here.accuracy),
    )


def closeness(logits: Floats, exact: Floats) -> dict[str, float]:
    """Return how close logits ``[windows, classes]`` are to exact ones, by what is counted."""
    norms = np.linalg.norm(logits, axis=1) * np.linalg.norm(exact, axis=1)
    cosines = (logits * exact).sum(axis=1) / norms
    return {
        "logit_cosine": round(float(cosines.mean()), 6),
        "least_logit_cosine": round(float(cosines.min()), 6),
        "logit_rms_error": round(float(np.sqrt(np.square(logits - exact).mean())), 5),
        "same_decision": round(float((logits.argmax(1) == exact.argmax(1)).mean()), 4),
    }


def measure_forms(bundle: Bundle, processors: Mapping[str, Emulated | None], clips: Sequence[Clips]) -> list[Row]:
    """Return how each form of the graph, with and without exact products, does on each processor.

    Time is told of this machine only: emulation says nothing of it.
    """
    windows = [window for each in clips for window in each.windows]
    exact = np.concatenate([each.exact for each in clips])
    jobs = [(kind, emulator, form) for kind, emulator in processors.items() for form in _FORMS if form != "FP32"]
    with tempfile.TemporaryDirectory() as folder:
        graphs = write_forms(bundle, Path(folder))
        work = [
            (kind, form, entry, emulator, graphs[form]) for kind, emulator, form in jobs for entry in _entries(form)
        ]
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda job: _logits_of(job[3], job[4], job[2], windows, bundle), work))
        times = time_forms(bundle, graphs)
    rows = []
    for (kind, form, entry, emulator, _), logits in zip(work, found, strict=True):
        name = f"{form}, exact products asked for" if entry else form
        timing = times.get((form, entry)) if emulator is None else None
        rows.append(
            Row(
                system=name,
                corpus=", ".join(each.corpus for each in clips),
                precision="int8-cpu",
                processor=kind,
                utterances=len(windows),
                figures=closeness(logits, exact),
                p50_ms=None if timing is None else round(timing * 1000, 2),
                ratio=None if timing is None else Ratio(to="FP32", value=round(times["FP32", False] / timing, 3)),
                sweep="forms",
                settings={"form": form, "exact_products": entry},
            )
        )
    return rows


def _entries(form: str) -> tuple[bool, ...]:
    # Unsigned weights are exact by themselves, seven bits too: the entry is for signed ones.
    return (False, True) if form == "signed weights" else (False,)


def write_forms(bundle: Bundle, folder: Path) -> dict[str, Path]:
    """Write each form of a bundle's INT8 graph; return where."""
    paths = {}
    for number, (form, change) in enumerate(_FORMS.items()):
        model = onnx.load_from_string(bundle.read_graph("int8-cpu"))
        change(model)
        onnx.checker.check_model(model)
        paths[form] = folder / f"form-{number}.onnx"
        onnx.save(model, paths[form])
    return paths


def _options(entry: bool) -> Any:
    options = session_options("fp32")
    if entry:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


_SCORE = """
import sys, numpy as np, onnxruntime
graph, given, out, entry = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
if entry == "1":
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
with np.load(given) as found:
    windows = np.split(found["pcm"], np.cumsum(found["lengths"])[:-1])
    reference = found["reference"]
np.save(out, np.concatenate([session.run(["logits"], {"pcm": w[None], "reference": reference})[0] for w in windows]))
"""
"""Scores windows with a bare session, since the runtime asks for exact products where they saturate."""


def _logits_of(emulator: Emulated | None, graph: Path, entry: bool, windows: list[Pcm], bundle: Bundle) -> Floats:
    if emulator is None:
        session = onnxruntime.InferenceSession(str(graph), _options(entry), providers=["CPUExecutionProvider"])
        feeds = [{"pcm": window[np.newaxis], "reference": bundle.reference()} for window in windows]
        return np.concatenate([session.run(["logits"], each)[0] for each in feeds])
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "windows.npz", Path(folder) / "logits.npy"
        lengths = [len(each) for each in windows]
        np.savez(given, pcm=np.concatenate(windows), lengths=lengths, reference=bundle.reference())
        emulator.run("-c", _SCORE, *map(str, (graph, given, out)), "1" if entry else "0", timeout=_PATIENCE)
        return np.asarray(np.load(out))


def time_forms(bundle: Bundle, graphs: Mapping[str, Path]) -> dict[tuple[str, bool], float]:
    """Return the median seconds of a whole window of each form on this machine, taken in turns."""
    pcm = np.random.default_rng(0).normal(0, 0.05, (1, bundle.manifest.window.samples)).astype(np.float32)
    feeds = {"pcm": pcm, "reference": bundle.reference()}
    sessions = {
        (form, entry): onnxruntime.InferenceSession(str(path), _options(entry), providers=["CPUExecutionProvider"])
        for form, path in graphs.items()
        for entry in _entries(form)
    }
    seconds: dict[tuple[str, bool], list[float]] = {key: [] for key in sessions}
    for turn in range(_ROUNDS + 2):
        for key, session in sessions.items():
            began = time.perf_counter()
            session.run(None, feeds)
            if turn >= 2:
                seconds[key].append(time.perf_counter() - began)
    return {key: float(np.median(each)) for key, each in seconds.items()}


@click.command("processors", cls=Tool)
@click.option("--corpus", "places", multiple=True, required=True, type=CORPUS, help="Labelled speech; repeatable.")
@click.option(
    "--bundle", "root", default=DEFAULT_BUNDLE, type=click.Path(path_type=Path, exists=True), help="[default: ours]"
)
@click.option("--emulate", multiple=True, type=click.Choice(EMULATED), help="Processors, repeatable.  [default: all]")
@click.option("--clips", default=24, show_default=True, type=click.IntRange(4), help="Of each corpus, under emulation.")
@click.option("--native-clips", default=200, show_default=True, type=click.IntRange(4), help="Of each corpus, here.")
@click.option("--seconds", default=2.0, show_default=True, help="Of each clip at most.")
@click.option("--out", default=RESULTS / "processors.json", type=click.Path(path_type=Path, dir_okay=False))
def main(
    places: tuple[NamedPath, ...],
    root: Path,
    emulate: tuple[str, ...],
    clips: int,
    native_clips: int,
    seconds: float,
    out: Path,
) -> None:
    """Compare the INT8 decisions of processors with exact arithmetic, and forms of the graph with each other.

    An emulated Haswell takes some seconds for a second of speech.

    \b
    Example:
      python -m benchmarks.processors --corpus ravdess=RAVDESS --corpus emodb=EMODB
    """
    began = time.monotonic()
    bundle, here = load_bundle(root), processor_kind()
    machines: dict[str, Emulated | None] = {here: None}
    machines |= {each.processor: each for each in emulated(emulate or EMULATED) if each.processor != here}
    few = [choose_clips(bundle, place, clips, seconds) for place in places]
    rows = []
    for place in places:
        many = choose_clips(bundle, place, native_clips, bundle.manifest.window.seconds)
        rows.append(make_row(here, many, score_on(None, root, many.windows), bundle.manifest.temperature))
        console.print(f"  {here}, {many.corpus}: {rows[-1].figures}")

    def measure(job: tuple[str, Emulated, Clips]) -> Row:
        kind, emulator, part = job
        row = make_row(kind, part, score_on(emulator, root, part.windows), bundle.manifest.temperature)
        console.print(f"  {kind}, {part.corpus}: {row.figures}")
        return row

    jobs = [(kind, machine, part) for kind, machine in machines.items() if machine is not None for part in few]
    with ThreadPoolExecutor(2) as pool:
        rows += list(pool.map(measure, jobs))
    shortest = [_part(each, 3, bundle) for each in few]
    rows += measure_forms(bundle, machines, shortest)
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[0])
    results.model_copy(update={"bundle": bundle.hash}).write(out)
    console.print(f"{out}; next: python -m benchmarks.tables export/RESULTS.md")


def _part(clips: Clips, count: int, bundle: Bundle) -> Clips:
    """Return the first second of a few clips, one for each emotion first."""
    chosen = np.linspace(0, len(clips.items) - 1, min(count, len(clips.items))).astype(int)
    windows = [clips.windows[index][: bundle.manifest.sample_rate] for index in chosen]
    exact = OnnxEngine.of(bundle, "int8-cpu", simulated=True).score_windows(windows)
    return Clips(clips.corpus, tuple(clips.items[index] for index in chosen), windows, clips.labels, exact)


if __name__ == "__main__":
    main()

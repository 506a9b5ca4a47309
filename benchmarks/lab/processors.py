"""INT8 decisions on several processors: `python -m benchmarks.lab.processors --corpus NAME=PATH …`.

Scores clips of labelled corpora with the bundle's INT8 graph: on this processor, on it without AMX, and on processors
that QEMU emulates (`benchmarks/lab/machines.py`). Each is compared with exact arithmetic, the same graph computed in
float. Then it compares the bundle's form with others: accuracy on each processor, and latency relative to the same
graph in FP32 where nothing is emulated. Writes ``benchmarks/results/processors.json``.

On a corpus that the bundle was trained on, the difference is meaningful, but not the accuracy.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import onnx

from benchmarks.bench.results import PairedDifference, Ratio, Row, accuracy_columns, new_results
from benchmarks.lab.int8_forms import in_float, seven_bits
from benchmarks.lab.machines import Machine, aarch64, avx2, this_machine, without_amx
from benchmarks.lab.options import RESULTS, publish, say
from benchmarks.lab.scores import Scored, read_scores, write_windows
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpora.read import read_corpus
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats, mean_difference
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.decision import softmax
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.engines.parity import measure
from edge_runtime.errors import MissingPartError, Tool
from edge_runtime.parameters import Number, count_option, path_option
from edge_runtime.sources.audio import Pcm, read_audio
from export.graphs.cpu_graph import unsigned_weights

EXACT = "exact arithmetic"
MACHINES: dict[str, Callable[[], Machine]] = {
    "this": this_machine,
    "avx512_vnni": without_amx,
    "avx2": avx2,
    "aarch64": lambda: aarch64(dot_products=False),
    "aarch64_dotprod": lambda: aarch64(dot_products=True),
}
"""Processors to compare, by name."""
_FP32 = "FP32"
_BUNDLED = "signed weights"
_FORMS: dict[str, Callable[[onnx.ModelProto], None]] = {
    _BUNDLED: lambda model: None,
    "unsigned weights": unsigned_weights,
    "7-bit weights": seven_bits,
    _FP32: in_float,
}
_ROUNDS = 25
_TIMEOUT_SECONDS = 7200.0


class Form(NamedTuple):
    """A form of the INT8 graph, with or without the session entry for exact products."""

    name: str
    exact: bool

    def __str__(self) -> str:
        """Return its name in tables."""
        return f"{self.name}, with the session entry" if self.exact else self.name


# Products of unsigned and of 7-bit weights are exact without the entry.
FORMS = (Form(_BUNDLED, False), Form(_BUNDLED, True), *(Form(name, False) for name in _FORMS if name != _BUNDLED))


@dataclass(frozen=True)
class Clips:
    """Clips of one corpus, the first window of each.

    Attributes:
        corpus: its name.
        items: the utterances, with the emotions of the bundle.
        windows: ``[samples]`` each.
        labels: of the bundle.
        exact: logits ``[clips, classes]`` in exact arithmetic.
    """

    corpus: str
    items: tuple[Utterance, ...]
    windows: list[Pcm]
    labels: tuple[str, ...]
    exact: Floats

    def evaluate(self, logits: Floats, temperature: float) -> Evaluation:
        """Return the decisions for logits ``[clips, classes]``."""
        return Evaluation(self.items, self.labels, softmax(logits, temperature))


def choose_clips(bundle: Bundle, place: NamedPath, count: int, seconds: float) -> Clips:
    """Return clips of a corpus with the bundle's emotions, spread evenly over emotions and speakers."""
    corpus = read_corpus(place.path)
    name = place.name or corpus.facts.name
    trained_labels = next((each.labels for each in bundle.manifest.corpora if each.name == name), None) or {}
    labels = {label: trained_labels.get(label, label) for label in corpus.labels}
    known = corpus.labelled({own: label for own, label in labels.items() if label in bundle.manifest.labels})
    items = sorted(known.utterances, key=lambda item: (item.emotion, item.speaker, item.name))
    chosen = tuple(items[index] for index in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    longest = min(round(seconds * bundle.manifest.sample_rate), bundle.manifest.window.samples)
    windows = [read_audio(item.path)[:longest] for item in chosen]
    exact = OnnxEngine.of(bundle, "int8-cpu", simulated=True).score_windows(windows)
    return Clips(name, chosen, windows, bundle.manifest.labels, exact)


def score_on(machine: Machine, bundle: Path, windows: list[Pcm]) -> Scored:
    """Return the logits of the engine that `edgeemo listen` selects on a processor."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "windows.npz", Path(folder) / "scores.npz"
        write_windows(windows, given)
        machine.run("-m", "benchmarks.lab.scores", "engine", *map(str, (bundle, given, out)), timeout=_TIMEOUT_SECONDS)
        return read_scores(out)


def make_row(machine: Machine, clips: Clips, scored: Scored, temperature: float) -> Row:
    """Return a row that compares a processor's decisions on a corpus with exact arithmetic."""
    here, exact = clips.evaluate(scored.logits, temperature), clips.evaluate(clips.exact, temperature)
    difference = mean_difference(here.truth, [exact.decided], [here.decided], here.speakers)
    return Row(
        system="int8-cpu",
        corpus=clips.corpus,
        classes=len(clips.labels),
        precision="int8-cpu",
        processor=machine.processor,
        difference=PairedDifference.of(EXACT, difference),
        figures=closeness(scored.logits, clips.exact) | {"known_answers_error": round(scored.error, 5)},
        note="; ".join(
            [
                scored.backend,
                *([] if machine.native else ["emulated"]),
                f"known-answer test {scored.outcome}",
                *(["products saturate without the session entry"] if scored.saturates else []),
                *scored.news,
            ]
        ),
        **accuracy_columns(here.accuracy),
    )


def closeness(logits: Floats, exact: Floats) -> dict[str, float]:
    """Return measures of the distance between logits and exact ones, both ``[windows, classes]``."""
    rung = measure("int8-cpu", logits, EXACT, exact)
    return {
        "logit_cosine": round(rung.mean_cosine, 6),
        "least_logit_cosine": round(rung.least_cosine, 6),
        "logit_rms_error": round(float(np.sqrt(np.square(logits - exact).mean())), 5),
        "same_decision": round(rung.agreement, 4),
    }


def measure_forms(bundle: Bundle, machine: Machine, clips: Sequence[Clips]) -> list[Row]:
    """Return a row for each form of the graph on a processor; with latency where nothing is emulated."""
    windows = [window for each in clips for window in each.windows]
    exact = np.concatenate([each.exact for each in clips])
    forms = [form for form in FORMS if machine.native or form.name != _FP32]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_windows(windows, folder / "windows.npz")
        paths = write_forms(bundle, folder)
        job = {
            "graphs": [(str(paths[form.name]), form.exact) for form in forms],
            "windows": str(folder / "windows.npz"),
            "reference": bundle.reference()[0].tolist(),
            "samples": bundle.manifest.window.samples,
            "rounds": _ROUNDS if machine.native else 0,
        }
        (folder / "job.json").write_text(json.dumps(job))
        arguments = ("-m", "benchmarks.lab.scores", "graphs", str(folder / "job.json"), str(folder / "out.npz"))
        machine.run(*arguments, timeout=_TIMEOUT_SECONDS)
        with np.load(folder / "out.npz") as found:
            logits, seconds = found["logits"], found["seconds"]
    rows = []
    for number, form in enumerate(forms):
        row = Row(
            system=str(form),
            corpus=", ".join(each.corpus for each in clips),
            precision="fp32" if form.name == _FP32 else "int8-cpu",
            processor=machine.processor,
            utterances=len(windows),
            figures=closeness(logits[number], exact),
            sweep="forms",
            settings={"form": form.name, "session_entry": form.exact},
        )
        if machine.native:
            ratio = Ratio(to=_FP32, value=round(float(seconds[-1] / seconds[number]), 3))
            row = row.model_copy(update={"p50_ms": round(float(seconds[number]) * 1000, 2), "ratio": ratio})
        rows.append(row)
    return rows


def write_forms(bundle: Bundle, folder: Path) -> dict[str, Path]:
    """Write each form of a bundle's INT8 graph; return their paths."""
    paths = {}
    for number, (name, change) in enumerate(_FORMS.items()):
        model = onnx.load_from_string(bundle.read_graph("int8-cpu"))
        change(model)
        onnx.checker.check_model(model)
        paths[name] = folder / f"form-{number}.onnx"
        onnx.save(model, paths[name])
    return paths


@click.command("processors", cls=Tool)
@click.option("--corpus", "places", multiple=True, required=True, type=CORPUS, help="Labelled speech; repeatable.")
@path_option("--bundle", "To measure.  [default: the default bundle]", default=DEFAULT_BUNDLE, exists=True)
@click.option(
    "--machine",
    "chosen",
    multiple=True,
    type=click.Choice(list(MACHINES)),
    help="Repeatable.  [default: all here]",
)
@count_option("--clips", "Clips of each corpus, under emulation.", least=4, default=24)
@count_option("--native-clips", "Clips of each corpus, on this processor.", least=4, default=200)
@click.option(
    "--seconds", default=2.0, show_default=True, type=Number(0.1), metavar="SECONDS", help="Of each clip at most."
)
@path_option("--out", "Where figures go.", default=RESULTS / "processors.json", show_default="processors.json")
def main(
    places: tuple[NamedPath, ...],
    bundle: Path,
    chosen: tuple[str, ...],
    clips: int,
    native_clips: int,
    seconds: float,
    out: Path,
) -> None:
    """Compare the INT8 decisions of processors with exact arithmetic.

    Forms of the graph are compared with each other too.

    An emulated Haswell takes six seconds for a second of speech.

    \b
    Example:
      python -m benchmarks.lab.processors --corpus emodb=EMODB --clips 40
    """
    began = time.monotonic()
    loaded = load_bundle(bundle)
    machines = open_machines(chosen or tuple(MACHINES))
    longest = loaded.manifest.window.seconds
    many = [choose_clips(loaded, place, native_clips, longest) for place in places]
    few = [choose_clips(loaded, place, clips, seconds) for place in places]

    def measure_one(job: tuple[Machine, Clips]) -> Row:
        machine, part = job
        row = make_row(machine, part, score_on(machine, bundle, part.windows), loaded.manifest.temperature)
        say(f"{machine.processor}, {part.corpus}: {row.figures}")
        return row

    # One at a time, since latency is measured.
    native = [machine for machine in machines if machine.native]
    shortest = [_part(each, 3, loaded) for each in few]
    forms = [row for machine in native for row in measure_forms(loaded, machine, shortest)]
    rows = [measure_one((machine, part)) for machine in native for part in many]
    rest = [machine for machine in machines if not machine.native]
    with ThreadPoolExecutor(2) as pool:
        rows += pool.map(measure_one, [(machine, part) for machine in rest for part in few])
        forms += [row for found in pool.map(lambda one: measure_forms(loaded, one, shortest), rest) for row in found]
    bundled = {row.processor: row for row in forms if row.system == _BUNDLED}
    rows = [
        row.model_copy(update={"p50_ms": bundled[row.processor].p50_ms, "ratio": bundled[row.processor].ratio})
        for row in rows
    ]
    results = new_results([*rows, *forms], seconds=time.monotonic() - began, seeds=[0])
    results.bundle = loaded.hash
    publish(results, out, "export/RESULTS.md")


def open_machines(names: Sequence[str]) -> list[Machine]:
    """Return the available machines of these names, each kind of processor once; print the reason for others."""
    found: dict[str, Machine] = {}
    for name in names:
        try:
            machine = MACHINES[name]()
        except MissingPartError as error:
            say(f"{name}: left out: {error.message}")
            continue
        found.setdefault(machine.processor, machine)
    return list(found.values())


def _part(clips: Clips, count: int, bundle: Bundle) -> Clips:
    """Return the first second of a few of the clips, spread evenly."""
    chosen = np.linspace(0, len(clips.items) - 1, min(count, len(clips.items))).astype(int)
    windows = [clips.windows[index][: bundle.manifest.sample_rate] for index in chosen]
    exact = OnnxEngine.of(bundle, "int8-cpu", simulated=True).score_windows(windows)
    return Clips(clips.corpus, tuple(clips.items[index] for index in chosen), windows, clips.labels, exact)


if __name__ == "__main__":
    main()

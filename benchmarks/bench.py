"""Measure a bundle: accuracy of its graphs, and their latency beside a reference in the same run."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.accuracy import TestPart, evaluate_bundle, held_out
from benchmarks.latency import Latency, time_in_turns
from benchmarks.results import Ratio, Results, Row, accuracy_columns, new_results
from distill.corpus import Corpus
from distill.evaluation import Evaluation
from distill.metrics import paired_difference
from edge_runtime.audio import SAMPLE_RATE, Pcm, read_audio
from edge_runtime.bundle import Bundle
from edge_runtime.engine import OnnxEngine
from edge_runtime.manifest import Precision

LATENCY_WINDOWS = 16
REFERENCE = "opensmile-egemaps"
"""Extraction of eGeMAPS functionals by openSMILE alone, with no classifier behind it."""


@dataclass(frozen=True)
class Bench:
    """Everything that a report shows.

    Attributes:
        bundle: what was measured.
        part: what it was tested on.
        evaluations: decisions of each graph.
        latencies: of each graph and of the reference, by name.
        drop: loss of UA of each INT8 graph against FP32 with its 95 % interval.
        load_ms: time to load each graph.
        results: the same in the form of published figures.
    """

    bundle: Bundle
    part: TestPart
    evaluations: dict[Precision, Evaluation]
    latencies: dict[str, Latency]
    drop: dict[Precision, tuple[float, float, float]]
    load_ms: dict[Precision, float]
    results: Results = field(repr=False)


def run_bench(
    bundle: Bundle,
    corpus: Corpus,
    *,
    rounds: int,
    threads: int,
    seconds: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Measure a bundle on a corpus.

    Args:
        bundle: a verified bundle.
        corpus: labelled speech.
        rounds: timed calls of each system; 64 or more for a 90th percentile.
        threads: threads of the engine.
        seconds: window for the latency part; the bundle's own if not given.
        say: told what is being done.

    Raises:
        EdgeemoError: the bundle cannot be tested on this corpus.
    """
    began = time.monotonic()
    part = held_out(bundle, corpus)
    # TensorRT's forms are not meant for this processor; their accuracy is in the bundle, as a simulation.
    precisions = tuple(name for name in bundle.precisions if name not in ("int8-trt", "fp16"))
    say(f"latency: {rounds} windows each, in turns")
    latencies, load_ms = _latency(bundle, part, precisions, rounds, threads, seconds)
    say(f"accuracy: {len(part.utterances)} utterances ({part.folds})")
    evaluations = evaluate_bundle(bundle, part, precisions)
    fp32 = evaluations["fp32"]
    drop: dict[Precision, tuple[float, float, float]] = {
        name: paired_difference(fp32.truth, each.decided, fp32.decided, fp32.speakers)
        for name, each in evaluations.items()
        if name != "fp32"
    }
    rows = _rows(bundle, corpus, part, evaluations, latencies)
    seed = int(bundle.manifest.recipe.get("seed", 0))
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[seed])
    return Bench(bundle, part, evaluations, latencies, drop, load_ms, results)


def _latency(
    bundle: Bundle,
    part: TestPart,
    precisions: tuple[Precision, ...],
    rounds: int,
    threads: int,
    seconds: float | None,
) -> tuple[dict[str, Latency], dict[Precision, float]]:
    samples = round((seconds or bundle.manifest.window.seconds) * SAMPLE_RATE)
    windows = _equal_windows([item.path for item in part.utterances], samples)
    load_ms: dict[Precision, float] = {}
    systems: dict[str, Callable[[Pcm], object]] = {}
    for precision in precisions:
        before = time.perf_counter()
        engine = OnnxEngine.of(bundle, precision, threads=threads)
        load_ms[precision] = (time.perf_counter() - before) * 1000
        systems[f"student {precision}"] = engine.score
    if importlib.util.find_spec("opensmile") is not None:
        systems[REFERENCE] = _opensmile()
    return time_in_turns(systems, windows, rounds=rounds), load_ms


def _equal_windows(paths: list[Path], samples: int) -> list[Pcm]:
    """Return windows of real speech of one length, joining recordings where one is too short."""
    windows: list[Pcm] = []
    held = np.zeros(0, np.float32)
    for path in paths * (1 + LATENCY_WINDOWS * samples // (len(paths) * SAMPLE_RATE)):
        held = np.concatenate([held, read_audio(path)])
        while len(held) >= samples and len(windows) < LATENCY_WINDOWS:
            windows.append(np.ascontiguousarray(held[:samples]))
            held = held[samples:]
        if len(windows) == LATENCY_WINDOWS:
            break
    return windows


def _opensmile() -> Callable[[Pcm], object]:
    import opensmile

    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )
    return lambda pcm: smile.process_signal(pcm, SAMPLE_RATE)


def _rows(
    bundle: Bundle,
    corpus: Corpus,
    part: TestPart,
    evaluations: dict[Precision, Evaluation],
    latencies: dict[str, Latency],
) -> list[Row]:
    manifest = bundle.manifest
    rows = []
    for precision, evaluation in evaluations.items():
        accuracy, latency = evaluation.accuracy, latencies[f"student {precision}"]
        faster = latencies.get(REFERENCE, latencies["student fp32"])
        rows.append(
            Row(
                system="student",
                corpus=corpus.facts.name,
                classes=len(manifest.labels),
                folds=part.folds,
                speaker_independent=part.speaker_independent,
                reference_utterances=0,
                precision=precision,
                parameters=manifest.encoder.parameters,
                size_bytes=bundle.graph(precision).stat().st_size,
                **accuracy_columns(accuracy),
                **_timing(latency),
                ratio=Ratio(
                    to=REFERENCE if REFERENCE in latencies else "student fp32",
                    value=round(float(np.median(faster.milliseconds) / np.median(latency.milliseconds)), 2),
                ),
                note=corpus.facts.note,
            )
        )
    if REFERENCE in latencies:
        rows.append(
            Row(
                system=REFERENCE,
                corpus=corpus.facts.name,
                **_timing(latencies[REFERENCE]),
                note="features only, no classifier",
            )
        )
    return rows


def _timing(latency: Latency) -> dict[str, float | None]:
    median, tail = latency.percentile(50), latency.percentile(90)
    return {
        "p50_ms": None if median is None else round(median, 3),
        "p90_ms": None if tail is None else round(tail, 3),
        "real_time_factor": round(latency.real_time_factor, 5),
    }

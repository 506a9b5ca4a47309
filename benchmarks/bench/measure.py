"""Measure a bundle: accuracy of its graphs, and their latency relative to openSMILE's in the same run."""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.bench.accuracy.graphs import TestPart, evaluate_bundle, held_out, on_this_processor
from benchmarks.bench.accuracy.recordings import TestRecordings
from benchmarks.bench.accuracy.sections import measure_sections
from benchmarks.bench.device.device_bench import DeviceFigures, DeviceOptions, measure_device, student
from benchmarks.bench.device.device_sections import Decisions
from benchmarks.bench.device.environment import describe_board
from benchmarks.bench.device.latency import Latency
from benchmarks.bench.results import Ratio, Results, Row, accuracy_columns, new_results
from distill.corpus import Corpus
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Difference, mean_difference
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, read_audio

REFERENCE = "opensmile-egemaps"
"""Extraction of eGeMAPS functionals by openSMILE, without a classifier."""


@dataclass(frozen=True)
class Bench:
    """Content of a report.

    Attributes:
        bundle: the measured bundle.
        part: its test part.
        evaluations: decisions of each graph.
        device: measurements on the device.
        drop: loss of UA of each INT8 graph against FP32 with its 95 % interval; empty where the bundle holds no FP32.
        results: all of it as a results file.
    """

    bundle: Bundle
    part: TestPart
    evaluations: dict[Precision, Evaluation]
    device: DeviceFigures
    drop: dict[Precision, Difference]
    results: Results = field(repr=False)


def run_bench(
    bundle: Bundle,
    corpus: Corpus,
    options: DeviceOptions,
    *,
    most: int = 0,
    recordings: TestRecordings | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Measure a bundle on a corpus.

    Args:
        bundle: a verified bundle.
        corpus: labelled speech.
        options: extent of the measurements on the device.
        most: utterances under each acoustic condition and in a stream; 0 for neither.
        recordings: of rooms, noise and music for further conditions.
        say: receives a line before each measurement.

    Raises:
        EdgeemoError: the bundle cannot be tested on this corpus.
    """
    began = time.monotonic()
    part = held_out(bundle, corpus)
    precisions = on_this_processor(bundle)
    paths = [item.path for item in part.utterances]
    others = {REFERENCE: opensmile_extraction()} if importlib.util.find_spec("opensmile") is not None else {}
    device = measure_device(
        bundle,
        lambda seconds, count: equal_windows(paths, round(seconds * SAMPLE_RATE), count),
        precisions,
        options,
        others=others,
        say=say,
    )
    say(f"accuracy: {len(part.utterances)} utterances ({part.folds})")
    evaluations = evaluate_bundle(bundle, part, precisions)
    fp32 = evaluations.get("fp32")
    drop: dict[Precision, Difference] = {
        name: mean_difference(fp32.truth, [each.decided], [fp32.decided], fp32.speakers)
        for name, each in evaluations.items()
        if fp32 is not None and name != "fp32"
    }
    sections = measure_sections(bundle, part, corpus.utterances, evaluations, most=most, recordings=recordings, say=say)
    rows = _rows(bundle, corpus, part, evaluations, device.latencies)
    seed = int(bundle.manifest.recipe.get("seed", 0))
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[seed]).model_copy(
        update={
            "bundle": bundle.hash,
            "decisions": _decisions(corpus, evaluations),
            # Fields of `DeviceFigures` are named like those of `Results`.
            **{name: value for name, value in vars(device).items() if name != "latencies"},
            **vars(sections),
        }
    )
    results.environment.update(describe_board())
    return Bench(bundle, part, evaluations, device, drop, results)


def equal_windows(paths: Sequence[Path], samples: int, count: int) -> list[Pcm]:
    """Return windows of real speech of one length, cut from the concatenated recordings.

    Args:
        paths: recordings; repeated from the first one where they are too short.
        samples: of each window.
        count: number of windows.
    """
    windows: list[Pcm] = []
    held = np.zeros(0, np.float32)
    for path in itertools.cycle(paths):
        held = np.concatenate([held, read_audio(path)])
        while len(held) >= samples:
            windows.append(np.ascontiguousarray(held[:samples]))
            if len(windows) == count:
                return windows
            held = held[samples:]
    return windows


def _decisions(corpus: Corpus, evaluations: dict[Precision, Evaluation]) -> Decisions:
    one = next(iter(evaluations.values()))
    return Decisions(
        corpus=corpus.facts.name,
        labels=list(one.labels),
        files=[item.name for item in one.utterances],
        speakers=one.speakers,
        truth=one.truth.tolist(),
        decided={name: each.decided.tolist() for name, each in evaluations.items()},
    )


def opensmile_extraction() -> Callable[[Pcm], object]:
    """Return a function that extracts the functionals ``[1, 88]`` of a window ``[S]``."""
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
        accuracy, latency = evaluation.accuracy, latencies[student(precision)]
        than = next(name for name in (REFERENCE, student("fp32"), student(precision)) if name in latencies)
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
                macs=sum(manifest.macs.values()) or None,
                size_bytes=bundle.graph(precision).stat().st_size,
                **accuracy_columns(accuracy),
                **latency.columns(),
                ratio=Ratio(
                    to=than,
                    value=round(latencies[than].median / latency.median, 2),
                ),
                note=corpus.facts.note,
            )
        )
    if REFERENCE in latencies:
        rows.append(
            Row(
                system=REFERENCE,
                corpus=corpus.facts.name,
                **latencies[REFERENCE].columns(),
                note="features only, no classifier",
            )
        )
    return rows

"""From a finished run to a bundle: graph, INT8 forms, parity, accuracy, TensorRT check, manifest, model card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.corpora import read_corpus
from distill.corpus import Corpus
from distill.evaluation import Evaluation
from distill.folds import Fold, make_fold
from distill.huggingface import only_errors
from distill.metrics import paired_difference
from distill.run_directory import CorpusRecord, Provenance, RunRecord, RunReport, read_report, read_run
from distill.scoring import student_score
from distill.student import Student
from edge_runtime.audio import SAMPLE_RATE
from edge_runtime.clips import score_clips
from edge_runtime.engine import OnnxEngine
from edge_runtime.engine_cache import installed
from edge_runtime.errors import EdgeemoError, GateError
from edge_runtime.manifest import (
    GRAPHS,
    SCHEMA_VERSION,
    AccuracyEntry,
    CorpusEntry,
    EncoderEntry,
    FileEntry,
    FoldEntry,
    Manifest,
    Precision,
    TeacherEntry,
    WindowEntry,
    graph_name,
)
from export.bundle_writer import file_entries, staged, write_essentials, write_manifest
from export.card import model_card
from export.graph import export_graph
from export.half import write_half
from export.parity import Rung, compare
from export.quantise import FORMS, quantise
from export.tensorrt_build import build
from export.tensorrt_lint import lint
from export.windows import spread_windows

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")
CALIBRATION_WINDOWS = 128
PARITY_WINDOWS = 64


@dataclass(frozen=True)
class Outcome:
    """What `export_run` measured, for the command to show."""

    rungs: list[Rung]
    accuracy: dict[Precision, AccuracyEntry]
    drops: dict[Precision, tuple[float, float, float]]
    builds: list[dict[str, Any]]
    sizes: dict[str, int]


@dataclass(frozen=True)
class _Run:
    record: RunRecord
    report: RunReport
    corpus: Corpus
    fold: Fold
    student: Student


def export_run(
    folder: Path,
    out: Path,
    *,
    int8: bool,
    fp16: bool = False,
    corpus: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Make a bundle of a finished run.

    Args:
        folder: the run directory.
        out: the bundle directory; an older bundle there is replaced at the end.
        int8: make the INT8 graphs too.
        fp16: make the FP16 graph too, for a TensorRT engine to compare with.
        corpus: where the run's corpus lies now, if it moved.
        say: told what is being done.

    Raises:
        EdgeemoError: the run is not finished, or its corpus is gone or changed.
        GateError: a graph is too far from the one that it should equal.
    """
    only_errors()
    run = _load(folder, corpus)
    policy = run.record.recipe.window
    with staged(out) as part:
        say("FP32 graph")
        export_graph(run.student, policy, part / "model.fp32.onnx")
        if fp16:
            say("FP16 graph")
            write_half(part / "model.fp32.onnx", part / "model.fp16.onnx")
        quantisation: dict[str, Any] = {}
        if int8:
            for precision in FORMS:
                say(f"{precision} graph, calibrated on training windows")
                windows = spread_windows(run.fold.train, policy, CALIBRATION_WINDOWS)
                reference = run.student.reference.numpy()
                quantisation[precision] = quantise(
                    part / "model.fp32.onnx", part / graph_name(precision), precision, windows, reference
                )
        engines = _engines(part, run)
        say("parity ladder")
        rungs = _ladder(run, engines)
        say("accuracy on held-out speakers")
        accuracy, drops = _accuracy(run, engines)
        builds = _check_tensorrt(part, run, say)
        for build_summary in builds:
            graph = build_summary["graph"]
            quantisation.setdefault(GRAPHS[graph], {})["tensorrt_check"] = build_summary
        essentials = _essentials(run)
        for name in engines:
            write_essentials(part / graph_name(name), essentials)
        manifest = _manifest(run, accuracy, quantisation, rungs, file_entries(part))
        (part / "README.md").write_text(model_card(manifest, drops), encoding="utf-8")
        manifest = manifest.model_copy(update={"files": file_entries(part)})
        write_manifest(part, manifest)
        sizes = {entry.name: entry.size for entry in manifest.files}
    return Outcome(rungs, accuracy, drops, builds, sizes)


def _load(folder: Path, moved: Path | None) -> _Run:
    record, report = read_run(folder), read_report(folder)
    root = moved or Path(record.corpus.root)
    if not root.exists():
        raise EdgeemoError(f"{root}: the corpus of the run is gone; say where it lies now with --corpus")
    before = record.corpus
    corpus = read_corpus(root, skip_broken=True, name=before.facts.name, reader=before.reader or None)
    corpus = corpus.without(before.left_out).labelled(record.recipe.labels)
    if corpus.fingerprint() != before.fingerprint:
        raise EdgeemoError(f"{root}: is not the corpus that the run was trained on, or has changed since")
    fold = make_fold(corpus, record.recipe.folds, record.fold)
    student = Student.from_pretrained(folder / "student").eval()
    return _Run(record, report, corpus, fold, student)


def _engines(part: Path, run: _Run) -> dict[Precision, OnnxEngine]:
    reference = run.student.reference.numpy()
    return {
        precision: OnnxEngine(part / name, reference, precision)
        for name, precision in GRAPHS.items()
        if (part / name).is_file()
    }


def _ladder(run: _Run, engines: dict[Precision, OnnxEngine]) -> list[Rung]:
    windows = list(spread_windows(run.fold.validation, run.record.recipe.window, PARITY_WINDOWS))
    wanted = student_score(run.student)(windows)
    rungs = []
    upper = "pytorch"
    for precision, engine in engines.items():
        logits = engine.score_windows(windows)
        rungs.append(compare(precision, logits, upper, wanted))
        if precision == "fp32":
            upper, wanted = "fp32", logits
    return rungs


def _accuracy(
    run: _Run, engines: dict[Precision, OnnxEngine]
) -> tuple[dict[Precision, AccuracyEntry], dict[Precision, tuple[float, float, float]]]:
    """Measure every graph on the test part, and its paired loss of UA against FP32."""
    evaluations = {}
    for precision, engine in engines.items():
        scores = score_clips(engine.score_windows, [item.path for item in run.fold.test], run.record.recipe.window)
        evaluations[precision] = Evaluation(
            run.fold.test, run.record.labels, scores.probabilities(run.report.temperature)
        )
    fp32 = evaluations["fp32"]
    entries = {
        precision: AccuracyEntry(
            **evaluation.accuracy.model_dump(include={"ua", "ua_low", "ua_high", "wa", "utterances", "speakers"})
        )
        for precision, evaluation in evaluations.items()
    }
    drops: dict[Precision, tuple[float, float, float]] = {
        precision: paired_difference(fp32.truth, evaluation.decided, fp32.decided, fp32.speakers)
        for precision, evaluation in evaluations.items()
        if precision != "fp32"
    }
    return entries, drops


def _check_tensorrt(part: Path, run: _Run, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Judge the graphs that TensorRT is meant to take; build them ahead of time where ``tensorrt_rtx`` is installed."""
    names = [name for name, precision in GRAPHS.items() if precision != "int8-cpu" and (part / name).is_file()]
    for name in names:
        lint(part / name)
    if not installed("tensorrt_rtx"):
        say('TensorRT check left out; to have it, run: pip install "edgeemo[rtx]"')
        return []
    say("TensorRT check: NVIDIA's parser and builder, no GPU")
    builds = [build(part / name, run.record.recipe.window, "tensorrt_rtx") for name in names]
    for each in builds:
        if GRAPHS[each.graph] == "int8-trt" and each.int8_layers == 0:
            raise GateError(
                f"{each.library} built {each.graph} with no INT8 layer at all: it would run in float on the device, "
                "no bundle was written"
            )
    return [each.summary() for each in builds]


def _essentials(run: _Run) -> dict[str, str]:
    recipe = run.record.recipe
    return {
        "edgeemo.schema_version": SCHEMA_VERSION,
        "edgeemo.labels": json.dumps(run.record.labels),
        "edgeemo.sample_rate": str(SAMPLE_RATE),
        "edgeemo.window_seconds": str(recipe.window.seconds),
        "edgeemo.hop_seconds": str(recipe.window.hop_seconds),
        "edgeemo.temperature": f"{run.report.temperature:.6g}",
        "edgeemo.threshold": f"{run.report.threshold:.6g}",
        "edgeemo.recipe": recipe.name,
        "edgeemo.corpora": ", ".join(each.facts.name for each in (run.record.corpus, *run.record.also)),
    }


def _manifest(
    run: _Run,
    accuracy: dict[Precision, AccuracyEntry],
    quantisation: dict[str, Any],
    rungs: list[Rung],
    files: tuple[FileEntry, ...],
) -> Manifest:
    record, encoder = run.record, run.student.encoder
    folds = record.recipe.folds
    provenance = Provenance.of_this_process(PACKAGES)
    reference = np.asarray(run.student.reference.numpy()[0], np.float64)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        created=provenance.date,
        labels=record.labels,
        sample_rate=16_000,
        window=WindowEntry(**record.recipe.window.model_dump()),
        level_db=encoder.level_db,
        statistics_size=len(reference),
        reference=tuple(float(f"{value:.7g}") for value in reference),
        encoder=EncoderEntry(
            family=encoder.family,
            layers=encoder.depth,
            pooled_layers=tuple(run.student.config.pooled_layers),
            d_model=encoder.hidden_size,
            heads=encoder.heads,
            feed_forward=encoder.feed_forward,
            mel_bins=encoder.mel_bins,
            parameters=run.report.parameters,
        ),
        recipe=record.recipe.model_dump(mode="json"),
        teachers=tuple(
            TeacherEntry(name=name, ua=round(system.test.ua, 4)) for name, system in run.report.teachers.items()
        ),
        corpora=(
            _corpus_entry(
                record.corpus,
                FoldEntry(**(folds.model_dump() | {"count": folds.fold_count(run.corpus)}), index=record.fold),
            ),
            *(_corpus_entry(other, None) for other in record.also),
        ),
        metrics=dict(accuracy),
        temperature=run.report.temperature,
        threshold=run.report.threshold,
        quantisation=quantisation,
        pruning={},
        parity=[rung.model_dump() for rung in rungs],
        provenance={"export": provenance.model_dump(), "distill": record.provenance.model_dump()},
        files=files,
    )


def _corpus_entry(corpus: CorpusRecord, folds: FoldEntry | None) -> CorpusEntry:
    return CorpusEntry(
        **corpus.facts.model_dump(),
        fingerprint=corpus.fingerprint,
        utterances=corpus.utterances,
        speakers=corpus.speakers,
        hours=corpus.hours,
        labels=corpus.labels,
        left_out=corpus.left_out,
        folds=folds,
    )

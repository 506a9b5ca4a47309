"""What a bundle says of itself, from the run and what the export measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from distill.recipe import EVERYONE
from distill.runs.run_directory import CorpusRecord, Provenance
from distill.student import Student
from edge_runtime.bundles.manifest import (
    SCHEMA_VERSION,
    VOICES,
    AccuracyEntry,
    CorpusEntry,
    EncoderEntry,
    FileEntry,
    FoldEntry,
    KnownAnswersEntry,
    Manifest,
    SpeakerEntry,
    TeacherEntry,
    VoicesEntry,
    WindowEntry,
)
from edge_runtime.engines.parity import Parity
from edge_runtime.sources.audio import SAMPLE_RATE
from export.accuracy_gate.gate import Gate
from export.loaded_run import LoadedRun

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")


def essentials(run: LoadedRun) -> dict[str, str]:
    """Return what a reader of a bare graph must know, for its ``metadata_props``."""
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
        "edgeemo.corpora": ", ".join(
            each.facts.name for each in (*(run.record.corpus.parts or (run.record.corpus,)), *run.record.also)
        ),
    }


def manifest_of(
    run: LoadedRun,
    student: Student,
    *,
    accuracy: dict[str, AccuracyEntry],
    languages: dict[str, dict[str, AccuracyEntry]],
    quantisation: dict[str, Any],
    pruning: dict[str, Any],
    macs: dict[str, int],
    gate: Gate,
    rungs: list[Parity],
    known: KnownAnswersEntry,
    files: tuple[FileEntry, ...],
) -> Manifest:
    """Return the manifest.

    Args:
        run: the run.
        student: the student that was exported: the run's, or a pruned one.
        accuracy: of each graph.
        languages: of each graph by language, where there are several.
        quantisation: what was quantised and how.
        pruning: what was pruned; empty if nothing was.
        macs: multiply-accumulates of one window by part.
        gate: what the gate said.
        rungs: the parity ladder.
        known: the known answers.
        files: the files of the bundle.
    """
    record, encoder = run.record, student.encoder
    provenance = Provenance.of_this_process(PACKAGES)
    reference = np.asarray(student.reference.numpy()[0], np.float64)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        created=provenance.date,
        labels=record.labels,
        sample_rate=16_000,
        window=WindowEntry(**record.recipe.window.model_dump()),
        level_db=encoder.level_db,
        statistics_size=len(reference),
        reference=tuple(float(f"{value:.7g}") for value in reference),
        speaker=speaker_entry(student),
        encoder=EncoderEntry(
            family=encoder.family,
            layers=encoder.depth,
            pooled_layers=tuple(student.config.pooled_layers),
            d_model=encoder.hidden_size,
            heads=max(encoder.sizes.heads),
            feed_forward=max(encoder.sizes.feed_forward),
            mel_bins=encoder.mel_bins,
            parameters=sum(parameter.numel() for parameter in student.parameters()),
        ),
        recipe=record.recipe.model_dump(mode="json"),
        teachers=tuple(
            TeacherEntry(name=name, ua=round(system.test.ua, 4)) for name, system in run.report.teachers.items()
        ),
        corpora=(
            *_tested_corpora(run),
            *(_corpus_entry(other, None) for other in record.also),
        ),
        metrics=accuracy,
        languages=languages,
        temperature=run.report.temperature,
        threshold=run.report.threshold,
        quantisation=quantisation,
        pruning=pruning,
        macs=macs,
        gate=gate.model_dump(mode="json"),
        parity=[rung.model_dump() for rung in rungs],
        known_answers=known,
        provenance={"export": provenance.model_dump(), "distill": record.provenance.model_dump()},
        files=files,
    )


def _tested_corpora(run: LoadedRun) -> list[CorpusEntry]:
    """Return what the run cut into folds; nothing of it is left to test on, where the student has learnt from all."""
    record = run.record
    spec = record.recipe.folds
    folds = None
    if record.recipe.student.refit != EVERYONE:
        folds = FoldEntry(**(spec.model_dump() | {"count": spec.fold_count(run.corpus)}), index=record.fold)
    if not record.corpus.parts:
        return [_corpus_entry(record.corpus, folds)]
    tested = {item.speaker for item in run.fold.test}
    entries = []
    for part in record.corpus.parts:
        prefix = f"{part.facts.name}/"
        own = sorted(name.removeprefix(prefix) for name in tested if name.startswith(prefix))
        entry = _corpus_entry(part, folds)
        entries.append(entry.model_copy(update={"test_speakers": tuple(own)}) if folds else entry)
    return entries


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


def write_voices(student: Student, folder: Path) -> None:
    """Write the student's map, if it has one, to a staged bundle: little-endian float32 ``[directions, D]``."""
    directions = student.voice_directions()
    if directions is not None:
        (folder / VOICES).write_bytes(directions.detach().cpu().numpy().astype("<f4").tobytes())


def speaker_entry(student: Student) -> SpeakerEntry | None:
    """Return how the student gets to know its speaker; None where it does not."""
    config = student.config
    if not config.speaker_trust:
        return None
    voices = VoicesEntry(directions=config.voices, threshold=config.voice_threshold) if config.voices else None
    return SpeakerEntry(trust=config.speaker_trust, voices=voices)

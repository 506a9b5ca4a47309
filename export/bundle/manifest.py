"""The manifest of a bundle, from the run and what the export measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distill.checks.acceptance import accepted_note
from distill.evaluation.concordance import Concordance
from distill.runs.run_directory import CorpusRecord, Provenance
from distill.student import Student
from edge_runtime.bundles.known_answers import rounded
from edge_runtime.bundles.manifest import (
    GRAPHS,
    SCHEMA_VERSION,
    SPEAKER_MODEL,
    SPEAKER_PROJECTION,
    AccuracyEntry,
    ConcordanceEntry,
    CorpusEntry,
    DimensionsEntry,
    EncoderEntry,
    FileEntry,
    FoldEntry,
    KnownAnswersEntry,
    Manifest,
    SpeakerEntry,
    SpeakerProjectionEntry,
    TeacherEntry,
    WindowEntry,
)
from export.accuracy_gate.dimensions import DimensionReport
from export.bundle.known_answers import DimensionAnswers
from export.bundle.report import ExportReport
from export.loaded_run import LoadedRun

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")


def manifest_of(
    run: LoadedRun, student: Student, report: ExportReport, known: KnownAnswersEntry, files: tuple[FileEntry, ...]
) -> Manifest:
    """Return the manifest."""
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
            *(_with_accepted(each, run) for each in _tested_corpora(run)),
            *(_corpus_entry(other, None) for other in record.auxiliary),
            *(_corpus_entry(other, None).model_copy(update={"unlabelled": True}) for other in record.without_labels),
        ),
        metrics=_of_graphs(report.accuracy),
        languages={name: _of_graphs(each) for name, each in report.languages.items()},
        temperature=run.report.temperature,
        threshold=run.report.threshold,
        quantisation=report.quantisation,
        pruning=report.pruning,
        macs=report.macs,
        gate=report.gate.model_dump(mode="json"),
        parity=[each.model_dump() for each in report.parity],
        known_answers=known,
        provenance={"export": provenance.model_dump(), "distill": record.provenance.model_dump()},
        files=files,
    )


def dimensions_entry(report: DimensionReport, known: DimensionAnswers) -> DimensionsEntry:
    """Return what an export measured of predicted dimensions, with their known answers."""
    return DimensionsEntry(
        names=report.names,
        metrics={
            precision: {name: _concordance_entry(one) for name, one in each.items()}
            for precision, each in report.concordance.items()
            if precision in GRAPHS.values()
        },
        gate=report.gate.model_dump(mode="json"),
        parity=[each.model_dump() for each in report.parity],
        known_answers={precision: rounded(rows) for precision, rows in known.answers.items()},
        tolerance=float(f"{known.tolerance:.4g}"),
    )


def _concordance_entry(found: Concordance) -> ConcordanceEntry:
    interval = found.ccc_interval
    return ConcordanceEntry(
        ccc=found.ccc,
        ccc_low=None if interval is None else interval.low,
        ccc_high=None if interval is None else interval.high,
        utterances=found.utterances,
        speakers=found.speakers,
    )


def _of_graphs(accuracy: dict[str, AccuracyEntry]) -> dict[str, AccuracyEntry]:
    """Return the accuracy of graphs only, without that of the student before it was pruned."""
    return {name: value for name, value in accuracy.items() if name in GRAPHS.values()}


def _tested_corpora(run: LoadedRun) -> list[CorpusEntry]:
    """Return the corpora that the run divided into folds; without folds for a student that was trained on all."""
    record = run.record
    spec = record.recipe.folds
    folds = None
    if not record.recipe.student.train_on_all:
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


def _with_accepted(corpus: CorpusEntry, run: LoadedRun) -> CorpusEntry:
    """Return the entry with what was accepted of the corpus in its note, which the model card shows."""
    accepted = accepted_note(run.report.accepted)
    return corpus.model_copy(update={"note": f"{corpus.note} {accepted}".strip()}) if accepted else corpus


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


def write_speaker_files(student: Student, folder: Path) -> None:
    """Write the student's speaker model and speaker-embedding projection, as far as it has them, to a staged bundle."""
    model = student.speaker_model()
    if model is not None:
        (folder / SPEAKER_MODEL).write_bytes(model.dump())
    projection = student.centred_speaker_projection()
    if projection is not None:
        (folder / SPEAKER_PROJECTION).write_bytes(projection.detach().cpu().numpy().astype("<f4").tobytes())


def speaker_entry(student: Student) -> SpeakerEntry | None:
    """Return the settings of the student's speaker model; None for a student without one."""
    config = student.config
    if not config.speaker_directions:
        return None
    projection = None
    if config.speaker_embedding_size:
        projection = SpeakerProjectionEntry(
            directions=config.speaker_embedding_size, threshold=config.speaker_change_threshold
        )
    return SpeakerEntry(directions=config.speaker_directions, softness=config.speaker_softness, projection=projection)

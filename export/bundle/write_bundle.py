"""Write a bundle: all files beside its final place, hashed, then renamed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from distill.checks.training_speech import TRAINING_SPEECH
from distill.student import Student
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import (
    GRAPHS,
    KNOWN_ANSWERS,
    MANIFEST,
    SPEAKER_MODEL,
    SPEAKER_PROJECTION,
    FileEntry,
    Manifest,
    Precision,
)
from edge_runtime.engines.engine import Outputs
from edge_runtime.files import replacing_directory, sha256, write_text
from export.bundle.known_answers import dimension_answers, write_known_answers
from export.bundle.manifest import dimensions_entry, manifest_of, write_speaker_files
from export.bundle.report import REPORT, ExportReport, model_card, write_report
from export.loaded_run import LoadedRun

REPORTS = ("report.json", "report.md", "report.svg")


def staged(out: Path) -> AbstractContextManager[Path]:
    """Return a context that replaces a bundle by what is written to the directory that it yields.

    Raises:
        WrongUseError: ``out`` exists and is no bundle.
        EdgeemoError: the place cannot be written to, or the disk is full.
    """
    return replacing_directory(out, (MANIFEST,), "bundle")


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Return size and hash of every file in a staged bundle."""
    every = (*GRAPHS, SPEAKER_MODEL, SPEAKER_PROJECTION, KNOWN_ANSWERS, TRAINING_SPEECH, "README.md", *REPORTS)
    names = [name for name in every if (folder / name).is_file()]
    return tuple(
        FileEntry(name=name, size=(folder / name).stat().st_size, sha256=sha256(folder / name)) for name in names
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` and check that the bundle loads as on a device."""
    without = {"dimensions"} if manifest.dimensions is None else None
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2, exclude=without) + "\n")
    load_bundle(folder)


def write_bundle(
    part: Path,
    run: LoadedRun,
    student: Student,
    report: ExportReport,
    validation: Outputs,
    precisions: Sequence[Precision],
) -> None:
    """Complete a staged bundle that holds its graphs: report, known answers, model card, manifest.

    ``validation`` are the float graph's outputs for windows of validation speakers, ``precisions`` the graphs that
    stay; all if none are named.
    """
    write_report(report, part / REPORT)
    write_speaker_files(student, part)
    if run.training_speech:
        (part / TRAINING_SPEECH).write_bytes(run.training_speech)
    for name in GRAPHS:
        if precisions and GRAPHS[name] not in precisions:
            (part / name).unlink(missing_ok=True)
    reference = student.reference.numpy()
    known = write_known_answers(part, reference, run.policy, validation.logits, run.report.temperature)
    manifest = manifest_of(run, student, report, known, file_entries(part))
    if report.dimensions is not None:
        answers = dimension_answers(part, reference, run.policy, validation.dimensions)
        manifest = manifest.model_copy(update={"dimensions": dimensions_entry(report.dimensions, answers)})
    (part / "README.md").write_text(model_card(manifest, report), encoding="utf-8")
    write_manifest(part, manifest.model_copy(update={"files": file_entries(part)}))

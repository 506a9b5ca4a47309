"""A finished run with what an export needs of it: its student, and its corpus as it was learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from distill.corpora import read_corpus
from distill.corpus import Corpus
from distill.folds import Fold, make_fold
from distill.run_directory import RunRecord, RunReport, read_report, read_run
from distill.student import Student
from edge_runtime.errors import EdgeemoError
from edge_runtime.windows import WindowPolicy


@dataclass(frozen=True)
class LoadedRun:
    """A finished run.

    Attributes:
        record: what it was told to do.
        report: what came of it.
        corpus: what it learnt from, labelled as it was.
        fold: who was trained, validated and tested on.
        student: the trained student.
    """

    record: RunRecord
    report: RunReport
    corpus: Corpus
    fold: Fold
    student: Student

    @property
    def policy(self) -> WindowPolicy:
        """The window policy of the recipe."""
        return self.record.recipe.window


def load_run(folder: Path, moved: Path | None = None) -> LoadedRun:
    """Load a finished run.

    Args:
        folder: the run directory.
        moved: where its corpus lies now, if it moved.

    Raises:
        EdgeemoError: the run is not finished, its student cannot be loaded, or its corpus is gone or changed.
    """
    record, report = read_run(folder), read_report(folder)
    student = _load_student(folder / "student")
    root = moved or Path(record.corpus.root)
    if not root.exists():
        raise EdgeemoError(f"{root}: the corpus of the run is gone; say where it lies now with --corpus")
    before = record.corpus
    corpus = read_corpus(root, skip_broken=True, name=before.facts.name, reader=before.reader or None)
    corpus = corpus.without(before.left_out).labelled(record.recipe.labels)
    if corpus.fingerprint() != before.fingerprint:
        raise EdgeemoError(f"{root}: is not the corpus that the run was trained on, or has changed since")
    fold = make_fold(corpus, record.recipe.folds, record.fold)
    return LoadedRun(record, report, corpus, fold, student)


def _load_student(folder: Path) -> Student:
    try:
        student: Student = Student.from_pretrained(folder).eval()
    except EdgeemoError as error:
        raise EdgeemoError(f"{folder}: {error.message}") from error
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        first = str(error).strip().partition("\n")[0]
        raise EdgeemoError(
            f"{folder}: the student cannot be loaded ({first}); it was written by another version of edgeemo or is "
            "broken: run distill again"
        ) from error
    return student

"""A finished run with what an export needs: its student, and its corpus as it was at training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError

from distill.checks.identity import identified
from distill.checks.training_speech import TRAINING_SPEECH
from distill.corpora import read_corpus
from distill.corpora.argument import NamedPath
from distill.corpora.pooled import pool_corpora
from distill.corpus import Corpus
from distill.folds import Fold, make_fold
from distill.runs.run_directory import WEIGHTS, CorpusRecord, RunRecord, RunReport, read_report, read_run
from distill.speech.spread_windows import spread_windows
from distill.student import Student
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import cache_directory, sha256
from edge_runtime.sources.audio import Pcm
from edge_runtime.windows import WindowPolicy


@dataclass(frozen=True)
class LoadedRun:
    """A finished run.

    Attributes:
        record: content of ``run.json``.
        report: content of ``report.json``.
        corpus: with the labels of the training.
        fold: its parts.
        student: as trained.
        training_speech: content of ``training-speech.u32``; empty in runs of earlier versions.
    """

    record: RunRecord
    report: RunReport
    corpus: Corpus
    fold: Fold
    student: Student
    training_speech: bytes = b""

    @property
    def policy(self) -> WindowPolicy:
        """The window policy of the recipe."""
        return self.record.recipe.window

    def windows(self, part: Literal["train", "validation", "test"], count: int) -> list[Pcm]:
        """Return up to ``count`` windows ``[samples]`` of a part, spread over its utterances."""
        return list(spread_windows(getattr(self.fold, part), self.policy, count))


def load_run(folder: Path, moved: Sequence[NamedPath] = ()) -> LoadedRun:
    """Load a finished run; ``moved`` are new places of corpora that moved, by name if there are several.

    Raises:
        EdgeemoError: the run is not finished, its student cannot be loaded, or its corpus is missing or changed.
    """
    record, report = read_run(folder), read_report(folder)
    student = load_student(folder / "student")
    if report.weights not in ("", sha256(folder / "student" / WEIGHTS)):
        raise EdgeemoError(
            f"{folder / 'student' / WEIGHTS}: is not what was trained; copy the run again, or train it again"
        )
    before = record.corpus
    for each in moved:
        known = [part.facts.name for part in before.parts]
        if known and each.name not in known:
            raise WrongUseError(f"--corpus {each}: name a corpus of the run's, NAME=PATH: {', '.join(known)}")
    corpus = pool_corpora([_read(part, moved) for part in before.parts]) if before.parts else _read(before, moved)
    corpus = corpus.without(before.left_out).labelled(record.recipe.labels)
    if not corpus.is_state(before.fingerprint):
        raise EdgeemoError(f"{corpus.root}: is not the corpus that the run was trained on, or has changed since")
    fold = make_fold(corpus, record.recipe.folds, record.fold).without(record.left_out_copies)
    fold = fold.in_languages(record.recipe.languages)
    sketches = folder / TRAINING_SPEECH
    return LoadedRun(record, report, corpus, fold, student, sketches.read_bytes() if sketches.is_file() else b"")


def _read(record: CorpusRecord, moved: Sequence[NamedPath]) -> Corpus:
    root = next((each.path for each in moved if each.name in (None, record.facts.name)), Path(record.root))
    if not root.exists():
        raise EdgeemoError(f"{root}: the corpus of the run is not there; give its new place with --corpus")
    found = read_corpus(root, skip_broken=True, name=record.facts.name, reader=record.reader or None)
    return identified(found, cache_directory())


def load_student(folder: Path) -> Student:
    """Load a student from a directory, in evaluation mode.

    Raises:
        EdgeemoError: it cannot be loaded.
    """
    missing = next((name for name in ("config.json", WEIGHTS) if not (folder / name).is_file()), None)
    if missing is not None:
        raise EdgeemoError(f"{folder / missing}: is missing from the run; copy the run again, or train it again")
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

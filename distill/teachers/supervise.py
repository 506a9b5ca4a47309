"""Fit the teachers of a run to a fold and keep their outputs for every utterance in the cache, for all runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import set_seed

from distill.corpus import Corpus, Utterance
from distill.evaluation.metrics import Floats
from distill.folds import Fold, cut
from distill.recipe import Recipe, TeacherTable
from distill.rows import Rows, write_rows
from distill.teachers.interface import Context, Teacher
from distill.teachers.registry import Kind, find_kind, settings_of
from distill.training import processes
from distill.training.outputs import LanguageOutputs, Supervision, TeacherOutputs
from edge_runtime import __version__
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import digest_of, locked, sha256, write_text

TEACHER_CODE = 3
"""Raise it with every change to a built-in teacher that changes its outputs, so that old ones are not taken."""
BLOCK = 256
"""Utterances of one call of `Teacher.predict`."""
_WEIGHTS = (".safetensors", ".bin", ".json")
_PARTS = 5
"""Of the speakers of a language, of which one is validated on where the fold validates on none of that language."""


def check_teachers(recipe: Recipe, labels: tuple[str, ...]) -> int:
    """Check, before anything is decoded, that no part of the teachers is missing.

    Returns:
        Samples of the shortest waveform that all of them take.

    Raises:
        WrongUseError: the settings of a teacher are not those of its kind, or two are teachers of one language each.
        EdgeemoError: a part of a teacher is missing.
    """
    grouped = [table.name for table in recipe.teachers if find_kind(table.kind).teacher.per_language]
    if len(grouped) > 1:
        raise WrongUseError(
            f"recipe {recipe.name}: '{grouped[0]}' and '{grouped[1]}' are both teachers of one language each, of which "
            "the weighting takes one set; leave one out"
        )
    shortest = 0
    for table in recipe.teachers:
        kind, settings = find_kind(table.kind), settings_of(table, recipe.name)
        with kind.failing("failed its check"):
            shortest = max(shortest, kind.teacher.check(settings, labels))
    return shortest


def refuse_gaps(recipe: Recipe, fold: Fold, all_languages: Fold) -> None:
    """Refuse utterances that lack a column that a teacher needs.

    Args:
        recipe: names the teachers.
        fold: the student's; teachers of one language each are given that in all languages.
        all_languages: the fold in all languages.

    Raises:
        EdgeemoError: one lacks it.
    """
    for table in recipe.teachers:
        teacher = find_kind(table.kind).teacher
        for item in (all_languages if teacher.per_language else fold).everything:
            for column in teacher.needs:
                if not getattr(item, column):
                    more = " (or 'language' to corpus.json)" if column == "language" else ""
                    raise EdgeemoError(
                        f"{item.path}: has no {column}, which the {table.name} teacher needs; add the column "
                        f"'{column}' to the metadata{more} or train with --without {table.name}"
                    )


def branches_of(recipe: Recipe) -> dict[str, int]:
    """Return the branches that teachers may add to the recipe's, of size 1: their sizes are those of embeddings."""
    each = {table.name: settings_of(table, recipe.name) for table in recipe.teachers}
    names = [
        getattr(settings, "branch", None) or name for name, settings in each.items() if hasattr(settings, "signal")
    ]
    return {name: 1 for name in names if name not in recipe.student.branches}


def plugin_packages(recipe: Recipe) -> tuple[str, ...]:
    """Return the packages of the recipe's plug-in teachers, whose versions a run records."""
    kinds = [find_kind(table.kind) for table in recipe.teachers]
    return tuple(kind.plugin.dist.name for kind in kinds if kind.plugin is not None and kind.plugin.dist is not None)


def supervise(
    recipe: Recipe,
    corpora: Sequence[Corpus],
    all_languages: Fold,
    fold: Fold,
    fold_index: int,
    cache: Path,
) -> Supervision:
    """Return the outputs of all teachers of a recipe, from the cache where the same teacher met the same fold before.

    Args:
        recipe: names the teachers.
        corpora: the corpora that the fold is made of, the tested one first.
        all_languages: the fold in all languages: no teacher of one language is fitted to its test speakers.
        fold: what the student is trained and tested on, a part of it.
        fold_index: number of the fold.
        cache: directory of the cache.

    Raises:
        EdgeemoError: a teacher fails, or a language has too little speech for one.
    """
    run = _Run(recipe, corpora, fold_index, cache)
    each = {table.name: find_kind(table.kind) for table in recipe.teachers}
    single = [table for table in recipe.teachers if not each[table.name].teacher.per_language]
    teachers = {table.name: run.outputs(table, fold) for table in single}
    grouped = next((table for table in recipe.teachers if table not in single), None)
    return Supervision(teachers, None if grouped is None else run.language_outputs(grouped, all_languages, fold))


class _Run:
    """What all teachers of a run share."""

    def __init__(self, recipe: Recipe, corpora: Sequence[Corpus], fold_index: int, cache: Path) -> None:
        self._recipe = recipe
        self._labels = corpora[0].labels
        self._corpora = [corpus.utterances for corpus in corpora]
        self._fingerprints = [corpus.fingerprint() for corpus in corpora]
        self._fold_index = fold_index
        self._cache = cache

    def outputs(self, table: TeacherTable, fold: Fold) -> TeacherOutputs:
        """Return the outputs of one teacher of all languages."""
        settings = settings_of(table, self._recipe.name)
        folder, history = self._kept(table, fold, fold.everything)
        embedding = folder / "embedding.npy"
        return TeacherOutputs(
            Rows(folder / "logits.npy"),
            Rows(embedding) if embedding.is_file() else None,
            history,
            settings.branch or table.name,
            settings.signal,
        )

    def language_outputs(self, table: TeacherTable, fold: Fold, student: Fold) -> LanguageOutputs:
        """Return the outputs of the teachers of one language each."""
        chosen: tuple[str, ...] | None = settings_of(table, self._recipe.name).languages
        languages = chosen or tuple(sorted({item.language for item in fold.train}))
        parts = [language_fold(fold, language, self._labels, table.name) for language in languages]
        each = [
            self._kept(table, part, fold.everything, language) for language, part in zip(languages, parts, strict=True)
        ]
        place = {item.name: number for number, item in enumerate(fold.everything)}
        own = [languages.index(item.language) if item.language in languages else -1 for item in student.everything]
        return LanguageOutputs(
            name=table.name,
            languages=languages,
            logits=tuple(Rows(folder / "logits.npy") for folder, _ in each),
            numbers=np.array([place[item.name] for item in student.everything]),
            own=np.array(own),
            histories=tuple(history for _, history in each),
        )

    def _kept(
        self, table: TeacherTable, fold: Fold, predicted: Sequence[Utterance], language: str = ""
    ) -> tuple[Path, list[dict[str, float]]]:
        """Return the folder of a teacher's outputs in the cache, and its history; fit it if they are not there yet."""
        kind, title = find_kind(table.kind), language or table.name
        folder = self._cache / "teachers" / self._key(kind, table, language)
        history = folder / "history.json"
        with ExitStack() as stack:
            # Two runs that want the same teacher at once: one trains it, the other waits for it. Of the processes of
            # one run only the first takes the lock, or they would wait for each other.
            if processes.rank() == 0:
                stack.enter_context(locked(folder / "lock"))
            if processes.by_first(history.is_file):
                console.print(f"  {title} teacher: taken from the cache ({folder.name})")
            else:
                # No teacher gets the labels of the utterances whose outputs it predicts: the test part is among them.
                blank = [dataclasses.replace(item, emotion="") for item in predicted]
                checkpoints = folder / "checkpoints"
                context = Context(
                    self._labels, self._recipe.seed, checkpoints, self._cache, blank, self._recipe, self._corpora
                )
                fit_and_keep(kind, settings_of(table, self._recipe.name), context, fold, folder)
        rows: list[dict[str, float]] = json.loads(history.read_text(encoding="utf-8"))
        return folder, rows

    def _key(self, kind: Kind, table: TeacherTable, language: str) -> str:
        """Return the name under which a teacher's outputs are kept: another one with all that changes them."""
        recipe = self._recipe
        teacher = kind.teacher.facts(settings_of(table, recipe.name), recipe)
        facts = {
            "teacher": teacher,
            "language": language,
            "corpora": self._fingerprints,
            "folds": recipe.folds.model_dump(),
            "fold": self._fold_index,
            "seed": recipe.seed,
            "versions": [__version__, torch.__version__, transformers.__version__, version("opensmile")],
            "code": code_of(kind),
        }
        local = Path(str(teacher.get("encoder") or ""))
        if local.is_dir() and local.parts:
            # The same path may hold other weights tomorrow.
            facts["weights"] = [sha256(path) for path in sorted(local.iterdir()) if path.suffix in _WEIGHTS]
        return "-".join(filter(None, (kind.name, language, digest_of(facts, 16))))


def code_of(kind: Kind) -> dict[str, Any]:
    """Return what distinguishes two states of a teacher's code."""
    if kind.plugin is None:
        return {"code": TEACHER_CODE}
    file = getattr(sys.modules[kind.teacher.__module__], "__file__", None)
    dist = kind.plugin.dist
    return {
        "class": f"{kind.teacher.__module__}.{kind.teacher.__qualname__}",
        "package": "" if dist is None else f"{dist.name} {dist.version}",
        "code": sha256(Path(file)) if file else "",
    }


def fit_and_keep(kind: Kind, settings: Any, context: Context, fold: Fold, folder: Path) -> None:
    """Fit one teacher, and write its outputs and its history into ``folder``.

    Args:
        kind: of the teacher.
        settings: its settings.
        context: labels, seed and places; its utterances are those whose outputs are written.
        fold: whose training and validation parts it is fitted to.
        folder: of the teacher in the cache.

    Raises:
        EdgeemoError: it fails, or its outputs have the wrong shape.
    """
    set_seed(context.seed)

    def fitted() -> tuple[Teacher, list[dict[str, float]]]:
        with kind.failing("failed to fit"):
            teacher = kind.teacher(settings, context)
            history = teacher.fit(fold.train, fold.validation)
            return teacher, [{name: float(value) for name, value in row.items()} for row in history]

    early = fitted() if kind.teacher.every_process else None

    def keep() -> None:
        teacher, history = early or fitted()
        outputs = _predictions(kind, teacher, context)
        first = next(outputs)
        names = [name for name, values in first.items() if values is not None]
        write_rows({name: folder / f"{name}.npy" for name in names}, _chained(first, outputs), len(context.utterances))
        # Last, since it marks the outputs as complete.
        write_text(folder / "history.json", json.dumps(history))
        shutil.rmtree(context.folder, ignore_errors=True)

    processes.by_first(keep)


def _predictions(kind: Kind, teacher: Teacher, context: Context) -> Iterator[dict[str, Any]]:
    """Yield ``logits`` and ``embedding`` (which may be None) block by block, of the right shapes."""
    sizes: dict[str, int | None] = {"logits": len(context.labels), "embedding": None}
    for start in range(0, len(context.utterances), BLOCK):
        block = context.utterances[start : start + BLOCK]
        with kind.failing("failed to predict"):
            logits, embedding = teacher.predict(block)
            outputs = {"logits": np.asarray(logits), "embedding": None if embedding is None else np.asarray(embedding)}
            for name, values in outputs.items():
                if values is not None:
                    _refuse_wrong_shape(name, values, len(block), sizes[name])
            if start and (embedding is None) != (sizes["embedding"] is None):
                raise ValueError("some utterances have an embedding and others none")
        if outputs["embedding"] is not None:
            sizes["embedding"] = outputs["embedding"].shape[1]
        yield outputs


def _refuse_wrong_shape(name: str, values: Floats, count: int, size: int | None) -> None:
    if len(values.shape) != 2 or len(values) != count or (size is not None and values.shape[1] != size):
        columns = "one size" if size is None else size
        raise ValueError(f"{name} of {count} utterances should be [{count}, {columns}], not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")


def _chained(first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rest


def language_fold(fold: Fold, language: str, labels: Sequence[str], name: str) -> Fold:
    """Return the part of a fold in one language, without anything to test.

    Where the fold validates on no speaker of the language, a part of its training speakers is validated on.

    Raises:
        EdgeemoError: an emotion or validation speakers are missing.
    """
    train, validation = (
        tuple(item for item in part if item.language == language) for part in (fold.train, fold.validation)
    )
    if not validation:
        part = cut([item.speaker for item in train], _PARTS)
        validation = tuple(item for item in train if part[item.speaker] == 0)
        train = tuple(item for item in train if part[item.speaker] != 0)
    missing = sorted(set(labels) - {item.emotion for item in train})
    if missing or not validation:
        lacks = f"'{missing[0]}'" if missing else "speakers to validate on"
        raise EdgeemoError(
            f"the language '{language}' has no {lacks} in this fold, so it can have no teacher; name those that can in "
            f"teachers.{name}.languages"
        )
    return dataclasses.replace(fold, train=train, validation=validation, test=())

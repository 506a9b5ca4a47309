"""The outputs of a recipe's teachers for every utterance of a fold, from the cache or of teachers fitted now."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from distill.caching.arrays import Rows
from distill.caching.source_digest import AUDIO, source_digest
from distill.corpus import Corpus, Utterance
from distill.folds import Fold, cut
from distill.recipe import Recipe
from distill.teachers.cross_fit import combine, cut_speakers, without_part
from distill.teachers.fit import fit_and_keep
from distill.teachers.interface import Context
from distill.teachers.registry import Entry, Kind, entries
from distill.training import processes
from distill.training.outputs import LanguageOutputs, Supervision, TeacherOutputs
from edge_runtime import __version__
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import digest_of, locked, sha256

TEACHER_SOURCES = (
    "distill.teachers",
    "distill.distillation",
    "distill.encoders",
    "distill.heads",
    "distill.pruning",
    "distill.speech",
    "distill.student",
    "distill.training",
    *AUDIO,
)
"""The code that the outputs of built-in teachers depend on: a change to it fits them again."""
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
    found = entries(recipe)
    grouped = [entry.name for entry in found if entry.kind.teacher.per_language]
    if len(grouped) > 1:
        raise WrongUseError(
            f"recipe {recipe.name}: '{grouped[0]}' and '{grouped[1]}' are both teachers of one language each, of which "
            "the weighting takes one set; leave one out"
        )
    shortest = 0
    for entry in found:
        with entry.kind.failing("failed its check"):
            shortest = max(shortest, entry.kind.teacher.check(entry.settings, labels))
    return shortest


def refuse_gaps(recipe: Recipe, fold: Fold, all_languages: Fold, labels: Sequence[str]) -> None:
    """Refuse utterances that lack a column that a teacher needs, and too few speakers to cross-fit one.

    Args:
        recipe: names the teachers.
        fold: the student's; teachers of one language each are given that in all languages.
        all_languages: the fold in all languages.
        labels: class names.

    Raises:
        EdgeemoError: one lacks it, or speakers are too few.
    """
    for entry in entries(recipe):
        teacher = entry.kind.teacher
        # Of unlabelled speech in an unknown language no teacher is of its language.
        items = all_languages.everything if teacher.per_language else (*fold.everything, *fold.unlabelled)
        if entry.settings.cross_fit is not None and not teacher.per_language:
            cut_speakers(fold, entry.settings.cross_fit, labels, entry.name)
        for item in items:
            for column in teacher.needs:
                if not getattr(item, column):
                    more = " (or 'language' to corpus.json)" if column == "language" else ""
                    raise EdgeemoError(
                        f"{item.path}: has no {column}, which the {entry.name} teacher needs; add the column "
                        f"'{column}' to the metadata{more} or train with --without {entry.name}"
                    )


def branches_of(recipe: Recipe) -> dict[str, int]:
    """Return the branches that teachers may add to the recipe's, of size 1: their sizes are those of embeddings."""
    names = [entry.settings.branch or entry.name for entry in entries(recipe) if not entry.kind.teacher.per_language]
    return {name: 1 for name in names if name not in recipe.student.branches}


def plugin_packages(recipe: Recipe) -> tuple[str, ...]:
    """Return the packages of the recipe's plug-in teachers, whose versions a run records."""
    plugins = [entry.kind.plugin for entry in entries(recipe)]
    return tuple(plugin.dist.name for plugin in plugins if plugin is not None and plugin.dist is not None)


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
        corpora: the corpora that the fold is made of, the tested one first, unlabelled speech last.
        all_languages: the fold in all languages: no teacher of one language is fitted to its test speakers.
        fold: what the student is trained and tested on, a part of it.
        fold_index: number of the fold.
        cache: directory of the cache.

    Raises:
        EdgeemoError: a teacher fails, or a language has too little speech for one.
    """
    run, found = _Run(recipe, corpora, fold_index, all_languages, cache), entries(recipe)
    teachers = {each.name: run.outputs(each, fold) for each in found if not each.kind.teacher.per_language}
    grouped = [run.language_outputs(each, all_languages, fold) for each in found if each.kind.teacher.per_language]
    return Supervision(teachers, grouped[0] if grouped else None)


class _Run:
    """What all teachers of a run share."""

    def __init__(
        self, recipe: Recipe, corpora: Sequence[Corpus], fold_index: int, all_languages: Fold, cache: Path
    ) -> None:
        self._recipe = recipe
        self._labels = corpora[0].labels
        self._corpora = [corpus.utterances for corpus in corpora]
        self._fingerprints = [corpus.fingerprint() for corpus in corpora]
        self._fold_index = fold_index
        parts = (all_languages.train, all_languages.validation, all_languages.test, all_languages.unlabelled)
        self._members = digest_of([[item.name for item in part] for part in parts], 16)
        self._cache = cache

    def outputs(self, entry: Entry, fold: Fold) -> TeacherOutputs:
        """Return the outputs of one teacher of all languages."""
        folder, history = self._kept(entry, fold, (*fold.everything, *fold.unlabelled))
        embedding, dimensions = folder / "embedding.npy", folder / "dimensions.npy"
        return TeacherOutputs(
            Rows(folder / "logits.npy"),
            Rows(embedding) if embedding.is_file() else None,
            history,
            entry.settings.branch or entry.name,
            entry.settings.signal,
            Rows(dimensions) if dimensions.is_file() else None,
        )

    def language_outputs(self, entry: Entry, fold: Fold, student: Fold) -> LanguageOutputs:
        """Return the outputs of the teachers of one language each."""
        chosen: tuple[str, ...] | None = entry.settings.languages
        languages = chosen or tuple(sorted({item.language for item in fold.train}))
        parts = [language_fold(fold, language, self._labels, entry.name) for language in languages]
        predicted = (*fold.everything, *fold.unlabelled)
        each = [self._kept(entry, part, predicted, language) for language, part in zip(languages, parts, strict=True)]
        place = {item.name: number for number, item in enumerate(predicted)}
        wanted = (*student.everything, *student.unlabelled)
        own = [languages.index(item.language) if item.language in languages else -1 for item in wanted]
        return LanguageOutputs(
            name=entry.name,
            languages=languages,
            logits=tuple(Rows(folder / "logits.npy") for folder, _ in each),
            numbers=np.array([place[item.name] for item in wanted]),
            own=np.array(own),
            histories=tuple(history for _, history in each),
        )

    def _kept(
        self, entry: Entry, fold: Fold, predicted: Sequence[Utterance], language: str = ""
    ) -> tuple[Path, list[dict[str, float]]]:
        """Return the folder of a teacher's outputs in the cache, and its history; fit it if they are not there yet."""
        count = entry.settings.cross_fit
        if count is None:
            folder = self._fitted(entry, fold, predicted, language)
        else:
            parts = cut_speakers(fold, count, self._labels, entry.name)
            folders = [
                self._fitted(entry, without_part(fold, parts, part), predicted, language, part) for part in range(count)
            ]
            folder = self._cache / "teachers" / f"{self._key(entry, language)}-of-{count}"

            def put_together() -> None:
                with locked(folder / "lock"):
                    if not (folder / "history.json").is_file():
                        combine(folders, predicted, parts, fold, folder)

            processes.by_first(put_together)
        rows: list[dict[str, float]] = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        return folder, rows

    def _fitted(
        self,
        entry: Entry,
        fold: Fold,
        predicted: Sequence[Utterance],
        language: str,
        part: int | None = None,
    ) -> Path:
        """Return the folder of the outputs of one teacher; ``part`` of the training speakers is not in ``fold``."""
        title = language or entry.name
        if part is not None:
            title = f"{title} (part {part + 1} of {entry.settings.cross_fit})"
        folder = self._cache / "teachers" / self._key(entry, language, part)
        history = folder / "history.json"
        with ExitStack() as stack:
            # Two runs that want the same teacher at once: one trains it, the other waits for it. Of the processes of
            # one run only the first takes the lock, or they would wait for each other.
            if processes.rank() == 0:
                stack.enter_context(locked(folder / "lock"))
            if processes.by_first(history.is_file):
                console.print(f"  {title} teacher: taken from the cache ({folder.name})")
            else:
                context = Context(
                    labels=self._labels,
                    seed=self._recipe.seed,
                    folder=folder / "checkpoints",
                    cache=self._cache,
                    utterances=_blank(predicted),
                    recipe=self._recipe,
                    corpora=[_blank(each) for each in self._corpora],
                )
                fit_and_keep(entry, context, fold, folder)
        return folder

    def _key(self, entry: Entry, language: str, part: int | None = None) -> str:
        """Return the name under which a teacher's outputs are kept: another one with all that changes them."""
        recipe = self._recipe
        teacher = entry.kind.teacher.facts(entry.settings, recipe)
        facts = {
            "teacher": teacher,
            "language": language,
            "cross_fit": [entry.settings.cross_fit, part],
            "corpora": self._fingerprints,
            "folds": recipe.folds.model_dump(),
            "fold": self._fold_index,
            "members": self._members,
            "seed": recipe.seed,
            "versions": [__version__, torch.__version__, transformers.__version__, version("opensmile")],
            "code": code_of(entry.kind),
        }
        if recipe.student.dimensions is not None:
            facts["dimensions"] = recipe.student.dimensions.model_dump(mode="json", include={"names", "ridge"})
        local = Path(str(teacher.get("encoder") or ""))
        if local.is_dir() and local.parts:
            # The same path may hold other weights tomorrow.
            facts["weights"] = [sha256(path) for path in sorted(local.iterdir()) if path.suffix in _WEIGHTS]
        return "-".join(filter(None, (entry.kind.name, language, digest_of(facts, 16))))


def _blank(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return utterances without emotions and targets, which no teacher may use: the test part is among them."""
    return [dataclasses.replace(item, emotion="", dimensions={}) for item in utterances]


def code_of(kind: Kind) -> dict[str, Any]:
    """Return what distinguishes two states of a teacher's code."""
    if kind.plugin is None:
        return {"code": source_digest(*TEACHER_SOURCES)}
    file = getattr(sys.modules[kind.teacher.__module__], "__file__", None)
    dist = kind.plugin.dist
    return {
        "class": f"{kind.teacher.__module__}.{kind.teacher.__qualname__}",
        "package": "" if dist is None else f"{dist.name} {dist.version}",
        "code": sha256(Path(file)) if file else "",
    }


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

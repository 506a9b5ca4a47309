"""Monolingual teachers: one a language, made as a student is, each from speech of its language alone (MTKD)."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from distill.caching.arrays import Rows, write_rows
from distill.corpus import Utterance
from distill.distillation.objective import Distillation
from distill.distillation.train_student import train_student
from distill.folds import Fold, cut
from distill.recipe import MONOLINGUAL, Recipe
from distill.recipe import Student as StudentRecipe
from distill.teachers.supervise import kept, teacher_key
from distill.training import processes
from distill.training.loop import predict
from distill.training.outputs import MonolingualOutputs
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import write_text

_BATCH = 32
_PARTS = 5
"""Of the speakers of a language, of which one is validated on where the fold validates on none of that language."""


def supervise_languages(
    recipe: Recipe,
    labels: tuple[str, ...],
    corpora: Sequence[Sequence[Utterance]],
    learnt_from: Sequence[str],
    fold: Fold,
    taught: Fold,
    fold_index: int,
    cache: Path,
) -> MonolingualOutputs:
    """Return what a teacher of each language says, from the cache where the same teacher met the same fold before.

    Args:
        recipe: has monolingual teachers.
        labels: class names.
        corpora: all utterances of each corpus.
        learnt_from: fingerprints of the corpora.
        fold: in all languages. No teacher learns from the speakers that it tests.
        taught: what the student learns from and is tested on, a part of ``fold``.
        fold_index: number of the fold.
        cache: directory of the cache.

    Raises:
        EdgeemoError: a language has too little speech for a teacher, or utterances say none.
    """
    table = recipe.monolingual
    assert table is not None
    model = (table.model or recipe.student).model_copy(update={"refit": False, "speaker": None})
    languages = table.languages or tuple(sorted({item.language for item in fold.train}))
    if "" in languages:
        raise EdgeemoError(
            "monolingual teachers need to know the language of every utterance; name it in the manifest's column "
            "'language' or in corpus.json"
        )
    logits, histories = [], []
    for language in languages:
        own = _own_fold(fold, language, labels)
        facts = {"language": language, **model.model_dump(mode="json"), "window": recipe.window.model_dump()}
        name = f"{MONOLINGUAL}-{language}"
        folder = cache / "teachers" / teacher_key(name, facts, recipe, learnt_from, fold_index)
        train = partial(_train, _alone(recipe, model), labels, own, fold.everything, corpora, folder, cache)
        histories.append(kept(folder, language, train))
        logits.append(Rows(folder / "logits.npy"))
    place = {item.name: number for number, item in enumerate(fold.everything)}
    return MonolingualOutputs(
        languages=languages,
        logits=tuple(logits),
        numbers=np.array([place[item.name] for item in taught.everything]),
        own=np.array(
            [languages.index(item.language) if item.language in languages else -1 for item in taught.everything]
        ),
        histories=tuple(histories),
    )


def _alone(recipe: Recipe, model: StudentRecipe) -> Recipe:
    """Return the recipe of a teacher: nobody teaches it."""
    nobody = {"linguistic": None, "prosodic": None, "acoustic": None, "own": None, "monolingual": None}
    return recipe.model_copy(update={"student": model, **nobody})


def _own_fold(fold: Fold, language: str, labels: Sequence[str]) -> Fold:
    """Return a fold of one language, without anything to test."""
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
            "monolingual.languages"
        )
    return dataclasses.replace(fold, train=train, validation=validation, test=())


def _train(
    recipe: Recipe,
    labels: tuple[str, ...],
    own: Fold,
    everything: Sequence[Utterance],
    corpora: Sequence[Sequence[Utterance]],
    folder: Path,
    cache: Path,
) -> None:
    checkpoints = folder / "checkpoints"
    trained = train_student(recipe, labels, own, corpora, {}, checkpoints, cache)

    def keep() -> None:
        module = Distillation(trained.validated, recipe.student, {})
        items = trained.features.dataset(everything, None, None)
        batches = predict(module, items, trained.features.collate, _BATCH)
        write_rows({"logits": folder / "logits.npy"}, batches, len(everything))
        # Last, since it says that the teacher is whole.
        write_text(folder / "history.json", json.dumps(trained.history))
        shutil.rmtree(checkpoints, ignore_errors=True)

    processes.by_first(keep)

"""Teachers of somebody else's, which installed packages add as entry points of the group ``edgeemo.teachers``.

Such a teacher is a class, and may use any library and any means: `Teacher` says what is asked of it. A recipe names it
in its table ``[own]``.
"""

from __future__ import annotations

import dataclasses
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.metrics import Floats
from distill.folds import Fold
from distill.plugins import blamed_on, described, find_plugin, load_plugin
from distill.recipe import OwnTeacher
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import sha256

GROUP = "edgeemo.teachers"
"""An entry point of it is a subclass of `Teacher`."""
_AT_ONCE = 256
"""Utterances that a teacher is asked about at once."""


class Teacher(ABC):
    """Tells emotions apart by whatever the device will not have. One is made for each fold.

    What it says is kept in the cache, under a key that holds the recipe's ``own`` table without the signal, fold, seed,
    the version of its package and the file of its class. Whatever else changes what it says must change one of these.

    Args:
        labels: class names in the order of the logits.
        settings: ``own.settings`` of the recipe.
        seed: of the recipe; Python's, NumPy's and PyTorch's generators are seeded with it before.
    """

    def __init__(self, labels: tuple[str, ...], settings: Mapping[str, Any], seed: int) -> None:
        self.labels = labels
        self.settings = settings
        self.seed = seed

    @abstractmethod
    def learn(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> list[dict[str, float]]:
        """Learn from the training speakers; choices may be made on the validation speakers.

        Returns:
            What is reported of the learning, a dictionary for each step that is worth it; may be empty.
        """

    @abstractmethod
    def say(self, utterances: Sequence[Utterance]) -> tuple[Floats, Floats]:
        """Say what is heard in utterances, whose ``emotion`` is blank.

        Returns:
            Logits ``[N, C]``, of which the softmax is the teacher's distribution, and an embedding ``[N, E]``, to which
            a branch of the student is drawn; ``E`` is the same for every call.
        """


def find_teacher(recipe: OwnTeacher) -> tuple[EntryPoint, type[Teacher]]:
    """Return the teacher that a recipe names.

    Raises:
        WrongUseError: no package that is installed has one of this name.
        EdgeemoError: it cannot be loaded, or is no `Teacher`.
    """
    entry = find_plugin(GROUP, recipe.plugin)
    found = load_plugin(entry)
    if not (isinstance(found, type) and issubclass(found, Teacher)):
        raise EdgeemoError(
            f"{described(entry)} should be a subclass of distill.teachers.own.Teacher, and is {found!r:.100}; mend or "
            "uninstall it"
        )
    return entry, found


def identity(recipe: OwnTeacher) -> dict[str, str]:
    """Return what tells two states of a teacher's code apart."""
    entry, teacher = find_teacher(recipe)
    file = getattr(sys.modules[teacher.__module__], "__file__", None)
    return {
        "class": f"{teacher.__module__}.{teacher.__qualname__}",
        "package": "" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}",
        "code": sha256(Path(file)) if file else "",
    }


def learn_and_say(
    recipe: OwnTeacher, labels: tuple[str, ...], fold: Fold, seed: int
) -> tuple[list[dict[str, float]], Iterator[dict[str, Floats]]]:
    """Let a teacher learn from a fold.

    Args:
        recipe: names it.
        labels: class names.
        fold: whose training part it learns from.
        seed: of the recipe.

    Returns:
        Its history, and what it says of ``fold.everything`` in batches of ``logits`` and ``embedding``.

    Raises:
        EdgeemoError: it fails.
    """
    entry, kind = find_teacher(recipe)
    with blamed_on(entry, "failed to learn"):
        teacher = kind(labels, recipe.settings, seed)
        history = [
            {name: float(value) for name, value in row.items()} for row in teacher.learn(fold.train, fold.validation)
        ]
    return history, _batches(entry, teacher, len(labels), fold.everything)


def _batches(
    entry: EntryPoint, teacher: Teacher, classes: int, utterances: Sequence[Utterance]
) -> Iterator[dict[str, Floats]]:
    size = None
    for start in range(0, len(utterances), _AT_ONCE):
        # What is tested is among them.
        asked = [dataclasses.replace(item, emotion="") for item in utterances[start : start + _AT_ONCE]]
        with blamed_on(entry, "failed to say what it hears"):
            said = dict(zip(("logits", "embedding"), map(np.asarray, teacher.say(asked)), strict=True))
            for name, wanted in (("logits", classes), ("embedding", size)):
                shape = said[name].shape
                if len(shape) != 2 or shape[0] != len(asked) or (wanted is not None and shape[1] != wanted):
                    columns = "one size" if wanted is None else wanted
                    raise ValueError(
                        f"{name} of {len(asked)} utterances should be [{len(asked)}, {columns}], not {shape}"
                    )
                if not np.isfinite(said[name]).all():
                    raise ValueError(f"{name} hold what is no number")
        size = said["embedding"].shape[1]
        yield said

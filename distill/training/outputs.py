"""What teachers say of every utterance, as the student is given it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.caching.arrays import Rows, RowSource, StackedRows
from distill.evaluation.metrics import Floats, Ints
from distill.recipe import MONOLINGUAL


def weight_key(language: int, teacher: int) -> str:
    """Return how a student's history calls what a teacher counts for utterances in the language of another."""
    return f"weight_{language}_{teacher}"


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher says of every utterance of a fold, in the order of ``Fold.everything``.

    Attributes:
        logits: ``[N, C]``.
        embedding: ``[N, E]``.
        history: one dictionary an epoch.
        key: name in the cache.
    """

    logits: Rows
    embedding: Rows
    history: list[dict[str, float]]
    key: str


@dataclass(frozen=True)
class MonolingualOutputs:
    """What teachers of one language each say of the utterances of a student's fold.

    Attributes:
        languages: of the ``M`` teachers.
        logits: of each teacher, ``[A, C]``: of all utterances of the fold, in whatever language.
        numbers: ``[N]`` which of these rows belong to the student's ``Fold.everything``.
        own: ``[N]`` which teacher is of the utterance's language, -1 where none is.
        histories: of each teacher, one dictionary an epoch.
    """

    languages: tuple[str, ...]
    logits: tuple[Rows, ...]
    numbers: Ints
    own: Ints
    histories: tuple[list[dict[str, float]], ...]

    def targets(self, start: int = 0) -> dict[str, RowSource]:
        """Return what the loss is given of utterance ``start`` and those behind it: ``[M, C]`` logits, and `own`."""
        return {
            f"{MONOLINGUAL}_logits": StackedRows(self.logits, self.numbers[start:].tolist()),
            f"{MONOLINGUAL}_own": self.own[start:],
        }

    def of_teacher(self, teacher: int, start: int, end: int | None = None) -> Floats:
        """Return one teacher's logits ``[end - start, C]`` of the utterances from ``start`` on."""
        rows = self.logits[teacher]
        return np.stack([rows[number] for number in self.numbers[start:end].tolist()])

    def of_own(self, start: int, end: int | None = None) -> Floats:
        """Return the logits ``[end - start, C]`` of each utterance's own teacher; where it has none, of all together.

        All teachers on all languages, and a label of the language to choose by: what one student is measured against.
        """
        every = np.stack([self.of_teacher(teacher, start, end) for teacher in range(len(self.languages))])
        own = self.own[start:end]
        picked = every[np.maximum(own, 0), np.arange(len(own))]
        return np.where((own >= 0)[:, None], picked, every.mean(axis=0))

"""The outputs of teachers for every utterance, as the student's loss takes them. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from distill.caching.arrays import ChosenRows, Rows, RowSource, StackedRows
from distill.evaluation.metrics import Floats, Ints
from distill.recipe import TeacherSignal
from edge_runtime.errors import WrongUseError

LANGUAGE_LOGITS = "languages/logits"
"""Target of the teachers of one language each, ``[M, C]``; no teacher's name holds a slash."""
LANGUAGE_NUMBER = "languages/number"
"""Target: which of them is of the utterance's language, -1 for none."""


DIMENSIONS = "student/dimensions"
"""Targets of dimensions, ``[K]``, NaN for a missing one: of the corpus, of teachers, or of both."""


def weight_key(language: int, teacher: int) -> str:
    """Return the name in a student's history of a teacher's mean weight for utterances in another one's language."""
    return f"weight_{language}_{teacher}"


@dataclass(frozen=True)
class TeacherOutputs:
    """The outputs of a teacher for every utterance of a fold: ``Fold.everything``, then ``Fold.unlabelled``.

    Attributes:
        logits: ``[N, C]``.
        embedding: ``[N, E]``; None from a teacher that has none.
        dimensions: ``[N, K]`` from 0 to 1, of the recipe's dimensions; None from a teacher that predicts none.
        history: one dictionary an epoch.
        branch: the student's branch that matches the embedding.
        signal: the teacher's terms in the student's loss.
    """

    logits: Rows
    embedding: Rows | None
    history: list[dict[str, float]]
    branch: str
    signal: TeacherSignal
    dimensions: Rows | None = None


@dataclass(frozen=True)
class LanguageOutputs:
    """The outputs of teachers of one language each for the utterances of a student's fold.

    Attributes:
        name: of the recipe's teacher that they are.
        languages: of the ``M`` teachers.
        logits: of each teacher, ``[A, C]``: of all utterances of the fold, in whatever language.
        numbers: ``[N]`` which of these rows belong to the student's ``Fold.everything``, then ``Fold.unlabelled``.
        own: ``[N]`` which teacher is of the utterance's language, -1 where none is.
        histories: of each teacher, one dictionary an epoch.
    """

    name: str
    languages: tuple[str, ...]
    logits: tuple[Rows, ...]
    numbers: Ints
    own: Ints
    histories: tuple[list[dict[str, float]], ...]

    def targets(self, chosen: Sequence[int]) -> dict[str, RowSource]:
        """Return the targets of some utterances: ``[M, C]`` logits, and `own`."""
        rows = list(chosen)
        return {LANGUAGE_LOGITS: StackedRows(self.logits, self.numbers[rows].tolist()), LANGUAGE_NUMBER: self.own[rows]}

    def of_teacher(self, teacher: int, start: int, end: int | None = None) -> Floats:
        """Return one teacher's logits ``[end - start, C]`` of the utterances from ``start`` on."""
        rows = self.logits[teacher]
        return np.stack([rows[number] for number in self.numbers[start:end].tolist()])

    def of_own(self, start: int, end: int | None = None) -> Floats:
        """Return the logits ``[end - start, C]`` of each utterance's own teacher; where it has none, of all together.

        All teachers on all languages, and a label of the language to choose by: the baseline of one student for all.
        """
        every = np.stack([self.of_teacher(teacher, start, end) for teacher in range(len(self.languages))])
        own = self.own[start:end]
        picked = every[np.maximum(own, 0), np.arange(len(own))]
        return np.where((own >= 0)[:, None], picked, every.mean(axis=0))


@dataclass(frozen=True)
class Supervision:
    """The outputs of all teachers of a run for its ``Fold.everything``, then its ``Fold.unlabelled``.

    Attributes:
        teachers: by name, each with its own terms in the loss.
        languages: teachers of one language each, which are weighted.
    """

    teachers: Mapping[str, TeacherOutputs] = field(default_factory=dict)
    languages: LanguageOutputs | None = None

    def embedding_sizes(self) -> dict[str, int]:
        """Return the size of the embedding that each branch matches.

        Raises:
            WrongUseError: two teachers of one branch have embeddings of different sizes.
        """
        sizes: dict[str, int] = {}
        for name, outputs in self.teachers.items():
            if outputs.embedding is None:
                continue
            size = outputs.embedding.shape[1]
            if sizes.setdefault(outputs.branch, size) != size:
                raise WrongUseError(
                    f"teachers.{name}.branch: '{outputs.branch}' matches an embedding of another teacher with "
                    f"{sizes[outputs.branch]} values, and this one has {size}; give it another branch"
                )
        return sizes

    @property
    def is_empty(self) -> bool:
        """Whether there is no teacher."""
        return not self.teachers and self.languages is None

    def targets(self, trained: int, unlabelled: int = 0) -> dict[str, RowSource]:
        """Return the rows that go with the first ``trained`` utterances and with the last ``unlabelled`` ones."""
        found: dict[str, RowSource] = {}
        if self.languages is not None:
            found |= self.languages.targets(_ends(len(self.languages.numbers), trained, unlabelled))
        for name, outputs in self.teachers.items():
            chosen = _ends(len(outputs.logits), trained, unlabelled)
            found[f"{name}_logits"] = ChosenRows(outputs.logits, chosen)
            if outputs.embedding is not None:
                # Without centring, embeddings of one encoder have nearly equal directions, and cosines differ little.
                found[f"{name}_embedding"] = ChosenRows(outputs.embedding.centred(trained), chosen)
        return found

    def dimension_targets(self, targets: Floats, unlabelled: int, share: float) -> Floats:
        """Mix the teachers' predictions of dimensions with targets.

        Args:
            targets: ``[N, K]`` of the first utterances, then of the last ``unlabelled`` ones; NaN for a missing one,
                which becomes the mean of the teachers' predictions.
            unlabelled: how many have none.
            share: of the teachers' mean in the others.
        """
        predicted = [each.dimensions for each in self.teachers.values() if each.dimensions is not None]
        if not predicted:
            return targets
        chosen = [_ends(len(rows), len(targets) - unlabelled, unlabelled) for rows in predicted]
        theirs = np.mean(
            [[rows[number] for number in own] for rows, own in zip(predicted, chosen, strict=True)], axis=0
        )
        return np.asarray(np.where(np.isnan(targets), theirs, (1 - share) * targets + share * theirs))

    def validation_targets(self, trained: int) -> dict[str, RowSource] | None:
        """Return the rows of the utterances after these, by which the weights of teachers are reported."""
        return None if self.languages is None else self.languages.targets(range(trained, len(self.languages.numbers)))


def _ends(count: int, first: int, last: int) -> list[int]:
    """Return the numbers of the first and of the last of so many rows."""
    return [*range(first), *range(count - last, count)]

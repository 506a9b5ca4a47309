"""Measure a system on labelled utterances. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.concordance import DimensionScores
from distill.evaluation.metrics import Accuracy, Floats, Ints, measure

_MOST_VALUES = 12


@dataclass(frozen=True)
class Evaluation:
    """What a system decided on some utterances, beside the truth.

    Attributes:
        utterances: the ``N`` utterances.
        labels: the ``C`` class names.
        probabilities: ``[N, C]``.
        before: ``[N, C]`` probabilities before temperature scaling, where a temperature was fitted.
        dimensions: predicted dimensions beside their targets; None for a system without.
    """

    utterances: Sequence[Utterance]
    labels: tuple[str, ...]
    probabilities: Floats
    before: Floats | None = None
    dimensions: DimensionScores | None = None

    @cached_property
    def truth(self) -> Ints:
        """Class index of each utterance, ``[N]``."""
        return np.array([self.labels.index(item.emotion) for item in self.utterances])

    @cached_property
    def decided(self) -> Ints:
        """Decided class of each utterance, ``[N]``."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def speakers(self) -> list[str]:
        """Speaker of each utterance."""
        return [item.speaker for item in self.utterances]

    @cached_property
    def accuracy(self) -> Accuracy:
        """Accuracy with its interval over speakers."""
        return measure(self.probabilities, self.truth, self.speakers, self.labels, before=self.before)

    def by_language(self) -> dict[str, Evaluation]:
        """Return the same of each language alone; empty where there are fewer than two."""
        languages = np.array([item.language for item in self.utterances])
        names = np.unique(languages)
        if len(names) < 2:
            return {}
        return {str(name): self._of(np.flatnonzero(languages == name)) for name in names}

    def _of(self, numbers: Ints) -> Evaluation:
        items = tuple(self.utterances[number] for number in numbers)
        before = None if self.before is None else self.before[numbers]
        dimensions = None if self.dimensions is None else self.dimensions.rows(numbers)
        return Evaluation(items, self.labels, self.probabilities[numbers], before, dimensions)

    def by_column(self) -> dict[str, dict[str, float]]:
        """Return the share of right decisions by language and every extra column with a few values.

        Columns that some utterances lack, as where corpora with other columns are pooled, are left out.
        """
        right = self.decided == self.truth
        shared = [name for name in self.utterances[0].extra if all(name in item.extra for item in self.utterances)]
        table: dict[str, dict[str, float]] = {}
        for name in ("language", *shared):
            values = np.array([item.column(name) for item in self.utterances])
            if 2 <= len(set(values)) <= _MOST_VALUES:
                table[name] = {
                    str(value): round(float(right[values == value].mean()), 4) for value in np.unique(values)
                }
        return table

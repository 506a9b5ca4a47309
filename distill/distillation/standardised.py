"""Standardised statistics of a frozen encoder, labelled block by block for LDA: with emotions or with speakers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from distill.corpus import Utterance, corpus_of
from distill.evaluation.concordance import targets_of
from distill.evaluation.metrics import Floats, Ints
from distill.heads.dimensions import DimensionRows
from distill.heads.lda import LabelledRows
from distill.heads.speaker_model import SpeakerRows
from distill.training.frozen_statistics import AlignedStatistics
from edge_runtime.dimensions import Dimension

_BLOCK = 256
"""Utterances in memory at a time."""


class Standardised:
    """Statistics less the training mean, divided by the training deviation.

    Args:
        statistics: of a frozen encoder; ``home`` are the moments of the training utterances.
        labels: class names.
    """

    def __init__(self, statistics: AlignedStatistics, labels: Sequence[str]) -> None:
        self._statistics = statistics
        self._labels = labels

    def rows(self, utterances: Sequence[Utterance], copy: int = 0) -> Floats:
        """Return ``[N, D]`` of one copy; copy 0 is as recorded."""
        mean, deviation = self._statistics.home
        return np.asarray((np.stack([self._statistics.of(item, copy) for item in utterances]) - mean) / deviation)

    def classes(self, utterances: Sequence[Utterance]) -> Ints:
        """Return ``[N]`` class indices of the emotions."""
        return np.array([self._labels.index(item.emotion) for item in utterances])

    def by_emotion(
        self, utterances: Sequence[Utterance], *, auxiliary_weight: float, language_balance: float
    ) -> Iterator[LabelledRows]:
        """Yield all copies of the utterances with their emotions.

        Args:
            utterances: training utterances.
            auxiliary_weight: weight of an utterance of an auxiliary corpus.
            language_balance: power of the weights of languages (`language_weights`).
        """
        balance = language_weights(utterances, language_balance)
        for copy in range(self._statistics.copies):
            for start in range(0, len(utterances), _BLOCK):
                block = utterances[start : start + _BLOCK]
                weights = self._weights(block, auxiliary_weight)
                if balance is not None:
                    weights = weights * balance[start : start + _BLOCK]
                yield LabelledRows(self.rows(block, copy), self.classes(block), weights)

    def by_speaker_and_emotion(
        self, utterances: Sequence[Utterance], *, auxiliary_weight: float
    ) -> Iterator[SpeakerRows]:
        """Yield all copies of the utterances with their emotions, speakers and corpora; arguments as `by_emotion`."""
        for copy in range(self._statistics.copies):
            for start in range(0, len(utterances), _BLOCK):
                block = utterances[start : start + _BLOCK]
                yield SpeakerRows(
                    self.rows(block, copy),
                    self.classes(block),
                    [f"{copy} {item.speaker}" for item in block],
                    [corpus_of(item) for item in block],
                    self._weights(block, auxiliary_weight),
                )

    def by_dimension(
        self, utterances: Sequence[Utterance], names: Sequence[Dimension], *, auxiliary_weight: float
    ) -> Iterator[DimensionRows]:
        """Yield all copies of the utterances with their targets; arguments as `by_emotion`."""
        for copy in range(self._statistics.copies):
            for start in range(0, len(utterances), _BLOCK):
                block = utterances[start : start + _BLOCK]
                targets = targets_of(block, names)
                yield DimensionRows(self.rows(block, copy), targets, self._weights(block, auxiliary_weight))

    def by_speaker(self, utterances: Sequence[Utterance]) -> Iterator[LabelledRows]:
        """Yield all copies of the utterances with the number of their speaker, in the order of `speakers`."""
        numbers = {name: number for number, name in enumerate(speakers(utterances))}
        for copy in range(self._statistics.copies):
            for start in range(0, len(utterances), _BLOCK):
                block = utterances[start : start + _BLOCK]
                classes = np.array([numbers[item.speaker] for item in block])
                yield LabelledRows(self.rows(block, copy), classes, np.ones(len(block)))

    def _weights(self, block: Sequence[Utterance], auxiliary_weight: float) -> Floats:
        return np.array([1.0 if self._statistics.is_own(item) else auxiliary_weight for item in block])


def speakers(utterances: Sequence[Utterance]) -> list[str]:
    """Return the speakers of utterances in the order of their first ones."""
    return list(dict.fromkeys(item.speaker for item in utterances))


def language_weights(utterances: Sequence[Utterance], power: float) -> Floats | None:
    """Return ``(1 / utterances of its language)^power`` for each utterance ``[N]``, 1 on average; None for power 0."""
    if not power:
        return None
    counts = Counter(item.language for item in utterances)
    weights = np.array([float(counts[item.language]) ** -power for item in utterances])
    return np.asarray(weights / weights.mean())

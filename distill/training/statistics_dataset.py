"""Statistics of a frozen encoder as a dataset, with targets of teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from distill.caching.arrays import RowSource
from distill.corpus import Utterance, classes_of
from distill.evaluation.metrics import Floats
from distill.speech.audio_data import stacked_targets
from distill.speech.batch_order import generator
from distill.training.frozen_statistics import FrozenStatistics


class StatisticsItem(NamedTuple):
    """Statistics ``[D]`` of an utterance, its class, and the teachers' outputs for it."""

    statistics: Floats
    label: int
    targets: dict[str, np.ndarray]


class StatisticsDataset(Dataset[StatisticsItem]):
    """Statistics of utterances; `Windows` is the dataset of a student whose encoder is trained.

    Args:
        statistics: of these utterances at least.
        utterances: the items.
        labels: class names.
        targets: rows ``[N, ...]`` that go with the utterances, such as teachers' outputs.
        seed: draw the copy at random (training) instead of taking the recording as it is.
    """

    def __init__(
        self,
        statistics: FrozenStatistics,
        utterances: Sequence[Utterance],
        labels: Sequence[str],
        *,
        targets: Mapping[str, RowSource] | None = None,
        seed: int | None = None,
    ) -> None:
        self._statistics = statistics
        self._utterances = list(utterances)
        self._labels = classes_of(utterances, labels)
        self._targets = targets or {}
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._utterances)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; each one draws other copies."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> StatisticsItem:
        item = self._utterances[index]
        targets = {name: values[index] for name, values in self._targets.items()}
        copy = 0
        if self._seed is not None:
            copy = int(generator(self._seed, self._epoch, index).integers(self._statistics.copies))
        return StatisticsItem(self._statistics.of(item, copy), self._labels[index], targets)


def collate_statistics(items: list[StatisticsItem]) -> dict[str, Any]:
    """Return ``statistics`` ``[B, D]``, ``labels`` ``[B]`` and ``targets`` if any."""
    batch: dict[str, Any] = {
        "statistics": torch.from_numpy(np.stack([item.statistics for item in items])).float(),
        "labels": torch.tensor([item.label for item in items]),
    }
    return batch | stacked_targets([item.targets for item in items])

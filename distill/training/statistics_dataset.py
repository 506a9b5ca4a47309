"""Statistics of a frozen encoder as a dataset, with targets of teachers and speaker means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from distill.caching.arrays import RowSource
from distill.corpus import Utterance
from distill.evaluation.metrics import Floats
from distill.speech.audio_data import stacked_targets
from distill.speech.batch_order import generator
from distill.training.frozen_statistics import FrozenStatistics
from distill.training.speaker_means import TrainingSpeakerMeans


class StatisticsItem(NamedTuple):
    """Statistics ``[D]`` of an utterance, its class, the teachers' outputs for it, its speaker mean ``[D]`` if any."""

    statistics: Floats
    label: int
    targets: dict[str, np.ndarray]
    reference: Floats | None = None


class StatisticsDataset(Dataset[StatisticsItem]):
    """Statistics of utterances; `Windows` is the dataset of a student whose encoder is trained.

    Args:
        statistics: of these utterances at least.
        utterances: the items.
        labels: class names.
        targets: rows ``[N, ...]`` that go with the utterances, such as teachers' outputs.
        seed: draw the copy at random (training) instead of taking the recording as it is.
        speaker_means: makes a speaker mean for each utterance. As recorded, each utterance then comes twice, first all
            of them without a speaker mean, then all with one: figures of them are the mean of both conditions.
    """

    def __init__(
        self,
        statistics: FrozenStatistics,
        utterances: Sequence[Utterance],
        labels: Sequence[str],
        *,
        targets: Mapping[str, RowSource] | None = None,
        seed: int | None = None,
        speaker_means: TrainingSpeakerMeans | None = None,
    ) -> None:
        self._statistics = statistics
        self._utterances = list(utterances)
        self._labels = [list(labels).index(item.emotion) for item in utterances]
        self._targets = targets or {}
        self._seed = seed
        self._drawn_means = speaker_means
        self._epoch = 0

    def __len__(self) -> int:
        twice = self._drawn_means is not None and self._seed is None
        return len(self._utterances) * (2 if twice else 1)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; each one draws other copies."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> StatisticsItem:
        place, again = index % len(self._utterances), index >= len(self._utterances)
        item = self._utterances[place]
        targets = {name: values[place] for name, values in self._targets.items()}
        if self._seed is None:
            mean = self._drawn_means.fixed(place, given=again) if self._drawn_means else None
            return StatisticsItem(self._statistics.of(item), self._labels[place], targets, mean)
        draw = generator(self._seed, self._epoch, place)
        row = self._statistics.of(item, int(draw.integers(self._statistics.copies)))
        reference = self._drawn_means.drawn(place, draw) if self._drawn_means else None
        return StatisticsItem(row, self._labels[place], targets, reference)


def collate_statistics(items: list[StatisticsItem]) -> dict[str, Any]:
    """Return ``statistics`` ``[B, D]``, ``labels`` ``[B]``, ``targets`` and ``reference`` ``[B, D]`` if any."""
    batch: dict[str, Any] = {
        "statistics": torch.from_numpy(np.stack([item.statistics for item in items])).float(),
        "labels": torch.tensor([item.label for item in items]),
    }
    references = [item.reference for item in items if item.reference is not None]
    if references:
        batch["reference"] = torch.from_numpy(np.stack(references)).float()
    return batch | stacked_targets([item.targets for item in items])

"""Utterances for training: decoded from disk, cut to the device's window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from distill.caching.arrays import RowSource
from distill.corpus import Utterance, classes_of
from distill.speech.augmentation import Augmentation, augment
from distill.speech.batch_order import generator
from distill.speech.sessions import Sessions
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, read_audio
from edge_runtime.windows import WindowPolicy

_ENTRY = SAMPLE_RATE // 10


class Item(NamedTuple):
    """One window ``[S]``, its class, and the teachers' outputs for its utterance."""

    pcm: Pcm
    label: int
    targets: dict[str, np.ndarray]


class Windows(Dataset[Item]):
    """One window of each utterance: the middle one, or a random one where there is a ``seed``.

    Args:
        utterances: the items.
        labels: class names.
        policy: window length.
        targets: rows ``[N, ...]`` that go with the utterances, such as teachers' outputs.
        seed: augment, and draw the window at random (training) instead of from the middle. What is drawn is a function
            of seed, epoch, speaker and utterance alone: neither the order, nor processes, nor a resume change it.
        augmentation: how training speech is changed; the utterances of a speaker in one epoch are one session.

    Raises:
        WrongUseError: a directory that the augmentation names is missing, or holds no audio.
        EdgeemoError: a file in it is not readable as audio.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        labels: Sequence[str],
        policy: WindowPolicy,
        *,
        targets: Mapping[str, RowSource] | None = None,
        seed: int | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._utterances = list(utterances)
        self._labels = classes_of(utterances, labels)
        self._policy = policy
        self._targets = targets or {}
        self._seed = seed
        self._sessions = None if seed is None else Sessions(utterances, augmentation or Augmentation(), seed)
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._utterances)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; each one draws other windows."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> Item:
        item = self._utterances[index]
        pcm = read_audio(item.path)
        draw = None if self._seed is None else generator(self._seed, self._epoch, index)
        targets = {name: values[index] for name, values in self._targets.items()}
        if draw is not None and self._sessions is not None:
            pcm = augment(pcm, self._sessions.of(item, self._epoch), draw)
        return Item(self._cut(pcm, draw), self._labels[index], targets)

    def _cut(self, pcm: Pcm, draw: np.random.Generator | None) -> Pcm:
        spare = max(0, len(pcm) - self._policy.samples)
        if draw is None:
            return pcm[spare // 2 :][: self._policy.samples]
        # A device's windows start anywhere: also a recording that fits is entered at a random moment of its beginning.
        most = max(spare, min(_ENTRY, len(pcm) // 10))
        return pcm[int(draw.integers(most + 1)) :][: self._policy.samples]


def collate_windows(items: list[Item]) -> dict[str, Any]:
    """Return ``pcm`` ``[B, S]`` padded with zeros, ``lengths`` and ``labels`` ``[B]``, ``targets`` if any."""
    batch: dict[str, Any] = {
        "pcm": torch.zeros(len(items), max(len(item.pcm) for item in items)),
        "lengths": torch.tensor([len(item.pcm) for item in items]),
        "labels": torch.tensor([item.label for item in items]),
    }
    for row, item in zip(batch["pcm"], items, strict=True):
        row[: len(item.pcm)] = torch.from_numpy(item.pcm)
    return batch | stacked_targets([item.targets for item in items])


def stacked_targets(targets: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Return the batch's entry ``targets`` with rows ``[B, ...]`` by name; nothing without targets."""
    rows = {name: torch.from_numpy(np.stack([each[name] for each in targets])).float() for name in targets[0]}
    return {"targets": rows} if rows else {}

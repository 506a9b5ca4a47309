"""Teachers that are networks, trained by the training loop of the students. Imports torch when one is trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.corpus import Utterance
from distill.recipe import Schedule
from distill.teachers.interface import Teacher, TeacherSettings
from edge_runtime.decision import Floats


class NeuralSettings(TeacherSettings):
    """Settings of a network.

    Attributes:
        training: how it is optimised.
    """

    training: Schedule


class NeuralTeacher(Teacher):
    """A network that maps a batch to ``loss``, ``logits`` ``[B, C]`` and ``embedding`` ``[B, E]``."""

    every_process = True
    settings: NeuralSettings

    @abstractmethod
    def build(self, train: Sequence[Utterance]) -> tuple[Any, Any]:
        """Return the untrained network, and the function that makes a batch of data set items."""

    @abstractmethod
    def items(self, utterances: Sequence[Utterance], classes: Sequence[int], seed: int | None = None) -> Any:
        """Return utterances with their classes as a data set; with a ``seed`` for training."""

    def fit(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> list[dict[str, float]]:
        """Train the network, and keep the epoch that its schedule keeps."""
        from distill.training.loop import Task, fit

        self._network, self._collate = self.build(train)
        title, seed = f"{self.settings.name} teacher", self.context.seed
        # Every process computes whole batches: batch norms and dropout then do not depend on their number.
        task = Task(title, self._collate, self.settings.training, seed, self.context.folder, shared=False)
        parts = self.items(train, self._classes(train), seed), self.items(validation, self._classes(validation))
        return fit(self._network, *parts, task)

    def predict(self, utterances: Sequence[Utterance]) -> tuple[Floats, Floats]:
        """Return logits ``[N, C]`` and embedding ``[N, E]``."""
        from distill.training.loop import predict

        # The classes enter the loss only, which is not used.
        items = self.items(utterances, [0] * len(utterances))
        batches = list(predict(self._network, items, self._collate, self.settings.training.batch_size))
        logits, embedding = (np.concatenate([each[name] for each in batches]) for name in ("logits", "embedding"))
        return logits, embedding

    def _classes(self, utterances: Sequence[Utterance]) -> list[int]:
        return [self.context.labels.index(item.emotion) for item in utterances]

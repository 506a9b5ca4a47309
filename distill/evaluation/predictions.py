"""What a system decided on every tested utterance, as a file that can be pooled and compared.

A CSV file: ``file,speaker,emotion,decided``, a column of probability a label, and, where a temperature was fitted, a
column ``before:LABEL`` each with the probability before it. Imports no torch.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Accuracy, Floats, Ints, measure
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import replacing

PREDICTIONS = "predictions.csv"
_FACTS = ("file", "speaker", "emotion", "decided")
_BEFORE = "before:"


def predictions_of(teacher: str) -> str:
    """Return the name of a teacher's file in a run directory."""
    return f"predictions-{teacher}.csv"


@dataclass(frozen=True)
class Predictions:
    """Probabilities of one system on ``N`` utterances.

    Attributes:
        names: the files as the corpus names them.
        speakers: who speaks.
        emotions: the truth.
        labels: the ``C`` class names.
        probabilities: ``[N, C]``.
        before: ``[N, C]`` before temperature scaling, where a temperature was fitted.
    """

    names: tuple[str, ...]
    speakers: tuple[str, ...]
    emotions: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: Floats
    before: Floats | None = None

    @classmethod
    def of(cls, evaluation: Evaluation) -> Predictions:
        """Return those of an evaluation."""
        items = evaluation.utterances
        return cls(
            names=tuple(item.name for item in items),
            speakers=tuple(item.speaker for item in items),
            emotions=tuple(item.emotion for item in items),
            labels=evaluation.labels,
            probabilities=evaluation.probabilities,
            before=evaluation.before,
        )

    @classmethod
    def pool(cls, parts: Sequence[Predictions]) -> Predictions:
        """Return the predictions of all parts, sorted by file, so that those of two systems stand side by side.

        Raises:
            EdgeemoError: an utterance is in two parts, or the parts differ in labels or in having a temperature.
        """
        if len({(part.labels, part.before is None) for part in parts}) != 1:
            raise EdgeemoError("the folds' predictions have different columns; run all with one recipe and corpus")
        names = [name for part in parts for name in part.names]
        order = sorted(range(len(names)), key=names.__getitem__)
        for one, other in itertools.pairwise(order):
            if names[one] == names[other]:
                raise EdgeemoError(f"{names[one]}: is tested in two folds; run all folds with one recipe and corpus")
        before = [part.before for part in parts if part.before is not None]
        speakers = [speaker for part in parts for speaker in part.speakers]
        emotions = [emotion for part in parts for emotion in part.emotions]
        return cls(
            names=tuple(names[row] for row in order),
            speakers=tuple(speakers[row] for row in order),
            emotions=tuple(emotions[row] for row in order),
            labels=parts[0].labels,
            probabilities=np.concatenate([part.probabilities for part in parts])[order],
            before=np.concatenate(before)[order] if before else None,
        )

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read a file.

        Raises:
            EdgeemoError: there is none, or it is no such file.
        """
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                header, *rows = list(csv.reader(stream))
        except FileNotFoundError as error:
            raise EdgeemoError(f"{path}: is missing; run distill again with another --out") from error
        except ValueError as error:
            raise EdgeemoError(f"{path}: holds no predictions") from error
        labels = tuple(name for name in header[len(_FACTS) :] if not name.startswith(_BEFORE))
        if tuple(header[: len(_FACTS)]) != _FACTS or not rows or not labels:
            raise EdgeemoError(f"{path}: holds no predictions")
        try:
            numbers = np.array([row[len(_FACTS) :] for row in rows], np.float64)
        except ValueError as error:
            raise EdgeemoError(f"{path}: holds a row without its probabilities") from error
        if numbers.shape[1] not in (len(labels), 2 * len(labels)):
            raise EdgeemoError(f"{path}: holds a row without its probabilities")
        names, speakers, emotions, _ = zip(*(row[: len(_FACTS)] for row in rows), strict=True)
        probabilities, before = numbers[:, : len(labels)], numbers[:, len(labels) :]
        return cls(names, speakers, emotions, labels, probabilities, before if before.size else None)

    def write(self, path: Path) -> None:
        """Write the file as a whole."""
        before = [] if self.before is None else [f"{_BEFORE}{label}" for label in self.labels]
        columns = [self.probabilities] if self.before is None else [self.probabilities, self.before]
        numbers = np.concatenate(columns, axis=1)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([*_FACTS, *self.labels, *before])
            for name, speaker, emotion, decided, row in zip(
                self.names, self.speakers, self.emotions, self.decided, numbers, strict=True
            ):
                # Digits enough that the decision, and with it every figure, is the same after reading.
                writer.writerow([name, speaker, emotion, self.labels[decided], *(f"{value:.9g}" for value in row)])

    @cached_property
    def truth(self) -> Ints:
        """Class index of each utterance, ``[N]``."""
        return np.array([self.labels.index(emotion) for emotion in self.emotions])

    @cached_property
    def decided(self) -> Ints:
        """Decided class of each utterance, ``[N]``."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def accuracy(self) -> Accuracy:
        """Accuracy with its intervals over speakers."""
        return measure(self.probabilities, self.truth, self.speakers, self.labels, before=self.before)

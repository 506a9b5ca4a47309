"""What a system decided on every tested utterance, as a file that can be pooled and compared.

A CSV file: ``file,speaker,emotion,decided``, a column of probability a label, and, where a temperature was fitted, a
column ``before:LABEL`` each with the probability before it. Of a system that predicts dimensions, then two columns for
each of them, ``predicted:NAME`` and ``target:NAME``, empty where the target is missing. Imports no torch.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from distill.evaluation.concordance import DimensionScores, join_scores
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Accuracy, Floats, Ints, measure
from edge_runtime.dimensions import DIMENSIONS
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import replacing

PREDICTIONS = "predictions.csv"
_FACTS = ("file", "speaker", "emotion", "decided")
_BEFORE, _PREDICTED, _TARGET = "before:", "predicted:", "target:"


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
        dimensions: predicted dimensions with targets; None for a system without.
    """

    names: tuple[str, ...]
    speakers: tuple[str, ...]
    emotions: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: Floats
    before: Floats | None = None
    dimensions: DimensionScores | None = None

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
            dimensions=evaluation.dimensions,
        )

    @classmethod
    def pool(cls, parts: Sequence[Predictions]) -> Predictions:
        """Return the predictions of all parts, sorted by file, so that those of two systems stand side by side.

        Raises:
            EdgeemoError: an utterance is in two parts, or the parts differ in labels or in having a temperature.
        """
        names_of = [None if part.dimensions is None else part.dimensions.names for part in parts]
        if len({(part.labels, part.before is None) for part in parts}) != 1 or len(set(names_of)) != 1:
            raise EdgeemoError("the folds' predictions have different columns; run all with one recipe and corpus")
        names = [name for part in parts for name in part.names]
        order = sorted(range(len(names)), key=names.__getitem__)
        for one, other in itertools.pairwise(order):
            if names[one] == names[other]:
                raise EdgeemoError(f"{names[one]}: is tested in two folds; run all folds with one recipe and corpus")
        before = [part.before for part in parts if part.before is not None]
        dimensions = [part.dimensions for part in parts if part.dimensions is not None]
        speakers = [speaker for part in parts for speaker in part.speakers]
        emotions = [emotion for part in parts for emotion in part.emotions]
        return cls(
            names=tuple(names[row] for row in order),
            speakers=tuple(speakers[row] for row in order),
            emotions=tuple(emotions[row] for row in order),
            labels=parts[0].labels,
            probabilities=np.concatenate([part.probabilities for part in parts])[order],
            before=np.concatenate(before)[order] if before else None,
            dimensions=None if not dimensions else join_scores(dimensions).rows(order),
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
        count = next(
            (place for place, name in enumerate(header) if name.startswith((_PREDICTED, _TARGET))), len(header)
        )
        names = tuple(name for head in header[count:] for name in DIMENSIONS if head == f"{_PREDICTED}{name}")
        columns = header[len(_FACTS) : count]
        labels = tuple(name for name in columns if not name.startswith(_BEFORE))
        if tuple(header[: len(_FACTS)]) != _FACTS or not rows or not labels:
            raise EdgeemoError(f"{path}: holds no predictions")
        try:
            numbers = np.array([row[len(_FACTS) : count] for row in rows], np.float64)
            more = np.array([[value or "nan" for value in row[count:]] for row in rows], np.float64)
        except ValueError as error:
            raise EdgeemoError(f"{path}: holds a row without its probabilities") from error
        if numbers.shape[1] not in (len(labels), 2 * len(labels)) or more.shape[1] != 2 * len(names):
            raise EdgeemoError(f"{path}: holds a row without its probabilities")
        files, speakers, emotions, _ = zip(*(row[: len(_FACTS)] for row in rows), strict=True)
        probabilities, before = numbers[:, : len(labels)], numbers[:, len(labels) :]
        dimensions = None
        if names:
            dimensions = DimensionScores(names, more[:, ::2], more[:, 1::2], speakers)
        return cls(files, speakers, emotions, labels, probabilities, before if before.size else None, dimensions)

    def write(self, path: Path) -> None:
        """Write the file as a whole."""
        before = [] if self.before is None else [f"{_BEFORE}{label}" for label in self.labels]
        columns = [self.probabilities] if self.before is None else [self.probabilities, self.before]
        numbers = np.concatenate(columns, axis=1)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            dimensions = () if self.dimensions is None else self.dimensions.names
            heads = [f"{kind}{name}" for name in dimensions for kind in (_PREDICTED, _TARGET)]
            writer.writerow([*_FACTS, *self.labels, *before, *heads])
            for name, speaker, emotion, decided, row, more in zip(
                self.names, self.speakers, self.emotions, self.decided, numbers, self._dimension_cells(), strict=True
            ):
                # Digits enough that the decision, and with it every figure, is the same after reading.
                cells = [f"{value:.9g}" for value in row]
                writer.writerow([name, speaker, emotion, self.labels[decided], *cells, *more])

    def _dimension_cells(self) -> list[list[str]]:
        """Return prediction and target of each dimension, a row an utterance."""
        if self.dimensions is None:
            return [[] for _ in self.names]
        pairs = np.stack([self.dimensions.predicted, self.dimensions.targets], axis=2)
        rows = pairs.reshape(len(self.names), -1)
        return [["" if np.isnan(value) else f"{value:.9g}" for value in row] for row in rows]

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

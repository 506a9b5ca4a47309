"""The prosodic teacher: a small residual network on openSMILE's eGeMAPS low-level descriptors.

Where the recipe predicts dimensions, it predicts them by ridge regression on means and deviations of all descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from distill.corpus import Utterance
from distill.recipe import TeacherSignal
from distill.teachers.egemaps import DESCRIPTORS, extract
from distill.teachers.neural import NeuralSettings, NeuralTeacher
from edge_runtime.console import advance, progress_bar
from edge_runtime.decision import Floats


class ProsodicSettings(NeuralSettings):
    """Settings of the prosodic teacher.

    Attributes:
        descriptors: ``prosody`` for those of loudness, pitch and voice quality only, ``all`` for all 25.
        channels: width of each residual stage; every stage after the first halves the frame rate.
        embedding_size: size of the embedding.
        dropout: dropout before the classifier.
    """

    descriptors: Literal["prosody", "all"] = "all"
    channels: tuple[int, ...] = Field(default=(64, 96, 128), min_length=1)
    embedding_size: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    signal: TeacherSignal = TeacherSignal(temperature=0.5)


class ProsodicTeacher(NeuralTeacher):
    """A residual network on standardised descriptors."""

    Settings = ProsodicSettings
    settings: ProsodicSettings

    def fit(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> list[dict[str, float]]:
        """Compute the descriptors of all utterances, and train the network."""
        from distill.training import processes

        paths = [item.path for item in self.context.utterances]
        self._matrices: dict[Path, Path] = dict(
            zip(paths, processes.by_first(lambda: self._extract(paths)), strict=True)
        )
        if self.context.recipe.student.dimensions is not None:
            self._regression = processes.by_first(lambda: self._fit_dimensions(train, validation))
        return super().fit(train, validation)

    def build(self, train: Sequence[Utterance]) -> tuple[Any, Any]:
        """Return the network, which standardises by the training utterances."""
        from distill.teachers.networks.prosody import ProsodyResNet, collate_descriptors, standardisation

        mean, deviation = standardisation([self._matrices[item.path] for item in train])
        return ProsodyResNet(self.settings, len(self.context.labels), mean, deviation), collate_descriptors

    def items(self, utterances: Sequence[Utterance], classes: Sequence[int], seed: int | None = None) -> Any:
        """Return descriptors with classes."""
        from distill.teachers.networks.prosody import Descriptors

        return Descriptors([self._matrices[item.path] for item in utterances], classes)

    def predict_dimensions(self, utterances: Sequence[Utterance]) -> Floats | None:
        """Return the predictions of the ridge regression, ``[N, K]``."""
        from edge_runtime.dimensions import on_scale

        if self.context.recipe.student.dimensions is None:
            return None
        weight, bias = self._regression
        return on_scale(self._moments(utterances) @ weight.T + bias)

    def _fit_dimensions(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> tuple[Floats, Floats]:
        from distill.evaluation.concordance import targets_of
        from distill.heads.dimensions import DimensionFit, DimensionRows

        how = self.context.recipe.student.dimensions
        assert how is not None
        rows = self._moments(train)
        mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
        standard = (rows - mean) / deviation
        block = DimensionRows(standard, targets_of(train, how.names), np.ones(len(train)))
        heldout = (self._moments(validation) - mean) / deviation, targets_of(validation, how.names)
        (weight, bias), _ = DimensionFit(how.names, how.ridge)(lambda: iter([block]), heldout)
        return weight / deviation, bias - (weight / deviation) @ mean

    def _moments(self, utterances: Sequence[Utterance]) -> Floats:
        """Return means and deviations ``[N, 100]`` of the descriptors, over all frames and over voiced ones."""
        return np.stack([_moments_of(np.load(self._matrices[item.path])) for item in utterances])

    def _extract(self, paths: Sequence[Path]) -> list[Path]:
        with progress_bar("openSMILE descriptors", total=len(paths)) as bar:
            return extract(paths, self.context.cache, progress=lambda: advance(bar))


def _moments_of(frames: Floats) -> Floats:
    """Return the moments ``[100]`` of descriptors ``[T, 25]``; without voiced frames, those of all frames twice."""
    voiced = frames[frames[:, DESCRIPTORS.index("F0semitoneFrom27.5Hz")] > 0]
    parts = (frames, voiced if len(voiced) else frames)
    return np.concatenate(
        [moment for part in parts for moment in (part.mean(axis=0), part.std(axis=0))], dtype=np.float64
    )

"""The acoustic teacher: a pretrained speech encoder, fine-tuned to recognise emotions in speech."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from distill.corpus import Utterance
from distill.recipe import Frozen, PooledLayers
from distill.teachers.neural import NeuralSettings, NeuralTeacher
from edge_runtime.windows import WindowPolicy


class AcousticSettings(NeuralSettings):
    """Settings of the acoustic teacher.

    Attributes:
        encoder: Hugging Face name or path of a speech encoder of any family that students may have.
        layers: keep only the first blocks.
        pooled_layers: the layers whose mean and deviation over time are taken.
        frozen: the part of the encoder that is not trained.
        seconds: longest stretch that is processed; of a longer utterance its middle (in training, any part). It may be
            longer than the student's window.
        embedding_size: size of the embedding.
        dropout: dropout before the classifier.
    """

    encoder: str
    layers: int | None = Field(default=None, ge=1)
    pooled_layers: PooledLayers = (-1,)
    frozen: Frozen = "none"
    seconds: float = Field(default=8.0, ge=0.5, le=30)
    embedding_size: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class AcousticTeacher(NeuralTeacher):
    """A speech encoder, an embedding of the statistics of its layers, a classifier."""

    Settings = AcousticSettings
    settings: AcousticSettings

    @classmethod
    def check(cls, settings: AcousticSettings, labels: tuple[str, ...]) -> int:
        """Load the encoder, and return the samples of the shortest waveform that it takes."""
        from distill.teachers.networks.speech import build_classifier

        return build_classifier(settings, len(labels)).encoder.minimum_samples

    def build(self, train: Sequence[Utterance]) -> tuple[Any, Any]:
        """Load the encoder."""
        from distill.speech.audio_data import collate_windows
        from distill.teachers.networks.speech import build_classifier

        return build_classifier(self.settings, len(self.context.labels)), collate_windows

    def items(self, utterances: Sequence[Utterance], classes: Sequence[int], seed: int | None = None) -> Any:
        """Return windows of the teacher's own length with classes, drawn at random with a ``seed``."""
        from distill.speech.audio_data import Windows

        seconds, labels = self.settings.seconds, self.context.labels
        policy = WindowPolicy(
            seconds=seconds,
            hop_seconds=min(1.0, seconds),
            minimum_seconds=min(1.0, seconds),
            segment_seconds=max(10.0, seconds),
        )
        labelled = [
            dataclasses.replace(item, emotion=labels[number]) for item, number in zip(utterances, classes, strict=True)
        ]
        return Windows(labelled, labels, policy, seed=seed)

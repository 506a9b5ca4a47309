"""What is known of one speaker: recent utterances and labelled clips, and the posterior that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.speaker_model import Posterior, SpeakerModel

Floats = npt.NDArray[np.floating]
Exact = npt.NDArray[np.float64]

MEMORY = 60
"""Utterances that are kept: voices, rooms and microphones change."""


class Utterance(NamedTuple):
    """One utterance: reduced statistics ``[k]``, and its speaker embedding ``[e]``, empty without a projection."""

    reduced: Exact
    embedding: Exact


class SpeakerAdaptation:
    """The most recent utterances of one speaker, in order, and labelled clips.

    Args:
        model: the speaker model, with the classes of the clips.
        utterances: of the speaker, the most recent last.
        clips: reduced statistics ``[k]`` of labelled clips.
        classes: class index of each clip.
    """

    def __init__(
        self,
        model: SpeakerModel,
        utterances: Sequence[Utterance] = (),
        clips: Sequence[Exact] = (),
        classes: Sequence[int] = (),
    ) -> None:
        self.model = model
        self.utterances = list(utterances)[-MEMORY:]
        self.clips = list(clips)
        self.classes = list(classes)
        self._posterior: Posterior | None = None

    @property
    def count(self) -> int:
        """Number of utterances."""
        return len(self.utterances)

    @property
    def posterior(self) -> Posterior:
        """The distribution of the speaker's class means."""
        if self._posterior is None:
            size = self.model.class_means.shape[1]
            rows = np.stack([each.reduced for each in self.utterances]) if self.utterances else np.zeros((0, size))
            clips = np.stack(self.clips) if self.clips else None
            self._posterior = self.model.adapted(rows, clips, np.array(self.classes, int))
        return self._posterior

    @property
    def embedding(self) -> Exact:
        """Mean speaker embedding ``[e]`` of the utterances."""
        return np.asarray(np.mean([each.embedding for each in self.utterances], axis=0))

    def with_utterances(self, more: Sequence[Utterance]) -> SpeakerAdaptation:
        """Return a copy with more utterances."""
        return SpeakerAdaptation(self.model, [*self.utterances, *more], self.clips, self.classes)

    def update(self, utterance: Utterance) -> None:
        """Add an utterance; the oldest one beyond `MEMORY` is dropped."""
        self.utterances = [*self.utterances, utterance][-MEMORY:]
        self._posterior = None

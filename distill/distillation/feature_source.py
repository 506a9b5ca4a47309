"""What a student is trained on: waveforms, where its encoder is trained too. `frozen_features` for frozen encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from distill.caching.arrays import RowSource
from distill.corpus import Utterance
from distill.heads.speaker_calibration import Calibration
from distill.recipe import Recipe
from distill.scoring import student_score
from distill.speech.audio_data import Windows, collate_windows
from distill.student import Student
from distill.training.loop import Collate
from edge_runtime.clips import ClipScores, score_clips
from edge_runtime.windows import WindowPolicy


class FeatureSource:
    """Utterances in the form in which a student is trained on them.

    Attributes:
        collate: makes a batch of dataset items.
        calibration: temperature and threshold, where they are chosen with what is fitted in closed form; None to fit
            them to the validation part.
    """

    collate: Collate
    calibration: Calibration | None = None

    def dataset(
        self, utterances: Sequence[Utterance], targets: Mapping[str, RowSource] | None, seed: int | None
    ) -> Dataset[Any]:
        """Return a dataset: for training with a ``seed``, else of the utterances as recorded."""
        raise NotImplementedError

    def prepare(
        self, student: Student, train: Sequence[Utterance], validation: Sequence[Utterance] | None
    ) -> list[dict[str, float]]:
        """Set what is computed in closed form, before the first step of training.

        Args:
            student: untrained.
            train: training utterances.
            validation: for model selection; None to keep what was selected before.

        Returns:
            A dictionary for each value that was tried.
        """
        return []

    def score(self, student: Student, utterances: Sequence[Utterance], policy: WindowPolicy) -> ClipScores:
        """Score all windows of some utterances, as the device would."""
        return score_clips(student_score(student), [item.path for item in utterances], policy)


class WaveformFeatures(FeatureSource):
    """For a student whose encoder is trained."""

    def __init__(self, labels: tuple[str, ...], recipe: Recipe) -> None:
        self._labels = labels
        self._recipe = recipe
        self.collate = collate_windows

    def dataset(
        self, utterances: Sequence[Utterance], targets: Mapping[str, RowSource] | None, seed: int | None
    ) -> Dataset[Any]:
        """Return windows, augmented with a ``seed``."""
        how = self._recipe.student.augmentation
        return Windows(utterances, self._labels, self._recipe.window, targets=targets, seed=seed, augmentation=how)

"""The FeatureSource of a student with a frozen encoder: its statistics, and what is fitted to them in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from distill.caching.arrays import RowSource
from distill.corpus import Utterance, corpus_of
from distill.distillation.feature_source import FeatureSource
from distill.distillation.standardised import Standardised, speakers
from distill.encoders.interface import SpeechEncoder
from distill.evaluation.concordance import targets_of
from distill.heads.dimensions import DimensionFit
from distill.heads.lda import Selection, fit_lda, select_lda
from distill.heads.speaker_calibration import LeftOut, calibrate
from distill.heads.speaker_embedding import SpeakerEmbeddingFit
from distill.heads.speaker_model import fit_speaker_model, prior_head
from distill.recipe import Student as StudentRecipe
from distill.scoring import outputs_for, student_score
from distill.student import Student
from distill.training.frozen_statistics import AlignedStatistics, FrozenStatistics
from distill.training.statistics_dataset import StatisticsDataset, collate_statistics
from edge_runtime.clips import ClipScores, score_clips
from edge_runtime.console import console
from edge_runtime.windows import WindowPolicy

MIN_CORPORA = 3
"""Fewest corpora that are left out in turn: with one left out, two are fitted to."""


class FrozenFeatures(FeatureSource):
    """Statistics of a frozen encoder.

    Args:
        labels: class names.
        encoder: the frozen encoder.
        corpora: its statistics of the tested corpus, then of the auxiliary ones.
        recipe: the student's table of the recipe.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        encoder: SpeechEncoder,
        corpora: Sequence[FrozenStatistics],
        recipe: StudentRecipe,
    ) -> None:
        self._labels = labels
        self._encoder = encoder
        self._corpora = corpora
        self._recipe = recipe
        self._statistics: AlignedStatistics
        self._selection: Selection
        self._fit_speaker_embedding = SpeakerEmbeddingFit()
        how = recipe.dimensions
        self._fit_dimensions = (
            None if how is None or recipe.training is not None else DimensionFit(how.names, how.ridge)
        )
        self.collate = collate_statistics

    def dataset(
        self, utterances: Sequence[Utterance], targets: Mapping[str, RowSource] | None, seed: int | None
    ) -> Dataset[Any]:
        """Return rows of statistics, of a random copy with a ``seed``."""
        return StatisticsDataset(self._statistics, utterances, self._labels, targets=targets, seed=seed)

    def prepare(
        self, student: Student, train: Sequence[Utterance], validation: Sequence[Utterance] | None
    ) -> list[dict[str, float]]:
        """Set weights of the encoder, standardisation, speaker-embedding projection, LDA head and dimension head."""
        # A random encoder has other weights each time that it is built.
        student.encoder.load_state_dict(self._encoder.state_dict())
        tested, *auxiliary = self._corpora
        self._statistics = AlignedStatistics(tested, auxiliary, train)
        student.standardise(*(torch.from_numpy(each).float() for each in self._statistics.home))
        standardised = Standardised(self._statistics, self._labels)
        if self._recipe.speaker is not None and self._recipe.speaker.voices:
            self._set_speaker_embedding(student, standardised, train, validation)
        tried = self._set_dimension_head(student, standardised, train, validation)
        return tried + self._set_lda_head(student, standardised, train, validation)

    def score(self, student: Student, utterances: Sequence[Utterance], policy: WindowPolicy) -> ClipScores:
        """Score all windows of some utterances, as the device would.

        Most utterances are a single window, whose statistics are cached; the encoder processes only the windows of
        longer ones, and of those whose length is not in the corpus.
        """
        single = [0 < item.seconds < policy.seconds for item in utterances]
        whole = [number for number, is_single in enumerate(single) if is_single]
        longer = [number for number, is_single in enumerate(single) if not is_single]
        parts = []
        if whole:
            rows = np.stack([self._statistics.of(utterances[number]) for number in whole])
            with torch.inference_mode():
                outputs = outputs_for(student.eval().decide(torch.from_numpy(rows).to(student.reference.device)))
            parts.append(ClipScores(outputs.logits, np.array(whole), outputs.dimensions))
        if longer:
            found = score_clips(student_score(student), [utterances[number].path for number in longer], policy)
            parts.append(ClipScores(found.logits, np.array(longer)[found.owner], found.dimensions))
        dimensions = [part.dimensions for part in parts if part.dimensions is not None]
        return ClipScores(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.owner for part in parts]),
            np.concatenate(dimensions) if student.config.dimensions else None,
        )

    def _set_dimension_head(
        self,
        student: Student,
        standardised: Standardised,
        train: Sequence[Utterance],
        validation: Sequence[Utterance] | None,
    ) -> list[dict[str, float]]:
        """Fit the regression of dimensions, with ridges selected on validation utterances or selected before."""
        if self._fit_dimensions is None:
            return []
        how = self._recipe.dimensions
        assert how is not None
        assert self._recipe.lda is not None
        rows = partial(standardised.by_dimension, train, how.names, auxiliary_weight=self._recipe.lda.auxiliary_weight)
        heldout = None
        if validation is not None:
            heldout = standardised.rows(validation), targets_of(validation, how.names)
        head, tried = self._fit_dimensions(rows, heldout)
        student.set_dimension_head(*(torch.from_numpy(each).float() for each in head))
        return tried

    def _set_speaker_embedding(
        self,
        student: Student,
        standardised: Standardised,
        train: Sequence[Utterance],
        validation: Sequence[Utterance] | None,
    ) -> None:
        heldout = None
        if validation is not None:
            heldout = (
                [item.speaker for item in validation],
                [item.emotion for item in validation],
                standardised.rows(validation),
            )
        fitted = self._fit_speaker_embedding(partial(standardised.by_speaker, train), len(speakers(train)), heldout)
        if fitted is not None:
            projection, threshold = fitted
            student.set_speaker_projection(torch.from_numpy(projection), threshold)
        elif validation is not None:
            console.print("too few speakers to fit a speaker embedding: changes of speaker will not be detected")

    def _set_lda_head(
        self,
        student: Student,
        standardised: Standardised,
        train: Sequence[Utterance],
        validation: Sequence[Utterance] | None,
    ) -> list[dict[str, float]]:
        """Fit the LDA head, with the shrinkage that is selected on validation utterances or was selected before."""
        recipe = self._recipe.lda
        if recipe is None:
            return []
        if self._recipe.speaker is not None:
            return self._set_speaker_model(student, standardised, train, validation)
        rows = partial(
            standardised.by_emotion,
            train,
            auxiliary_weight=recipe.auxiliary_weight,
            language_balance=self._recipe.language_balance,
        )
        tried: list[dict[str, float]] = []
        if validation is None:
            (head,) = fit_lda(rows, len(self._labels), (self._selection.shrinkage,))
        else:
            heads = fit_lda(rows, len(self._labels), recipe.shrinkage)
            truth = standardised.classes(validation)
            self._selection = select_lda(heads, recipe.shrinkage, standardised.rows(validation), truth)
            head, tried = self._selection.head, self._selection.tried
        temperature = self._selection.temperature
        student.set_lda_head(*(torch.from_numpy(each / temperature).float() for each in head))
        return tried

    def _set_speaker_model(
        self,
        student: Student,
        standardised: Standardised,
        train: Sequence[Utterance],
        validation: Sequence[Utterance] | None,
    ) -> list[dict[str, float]]:
        """Fit the speaker model, and set the LDA head to what it gives for an unknown speaker."""
        assert self._recipe.lda is not None
        rows = partial(standardised.by_speaker_and_emotion, auxiliary_weight=self._recipe.lda.auxiliary_weight)
        tried: list[dict[str, float]] = []
        if validation is not None:
            groups = [
                LeftOut(partial(rows, fitted), standardised.rows(left), standardised.classes(left), left)
                for fitted, left in self._left_out(train, validation)
            ]
            self.calibration = calibrate(groups, len(self._labels), self._recipe.lda.shrinkage)
            tried = self.calibration.tried
        assert self.calibration is not None
        (model,) = fit_speaker_model(partial(rows, train), len(self._labels), (self.calibration.shrinkage,))
        student.set_speaker_model(model)
        student.set_lda_head(*(torch.from_numpy(each).float() for each in prior_head(model)))
        return tried

    def _left_out(
        self, train: Sequence[Utterance], validation: Sequence[Utterance]
    ) -> list[tuple[Sequence[Utterance], Sequence[Utterance]]]:
        """Return what to fit to and what to leave out: each corpus in turn, or else the validation speakers."""
        known = [*train, *validation]
        own = sorted({corpus_of(item) for item in known if self._statistics.is_own(item)})
        if len(own) < MIN_CORPORA:
            return [(train, validation)]
        return [
            ([item for item in known if corpus_of(item) != name], [item for item in known if corpus_of(item) == name])
            for name in own
        ]

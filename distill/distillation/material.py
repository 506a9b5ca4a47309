"""Training utterances as datasets, and what a student knows of them before its first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from distill.corpus import Utterance
from distill.distillation.language_balance import language_weights
from distill.encoders.interface import SpeechEncoder
from distill.evaluation.calibration import fit_temperature
from distill.evaluation.metrics import Floats, unweighted_accuracy
from distill.frozen.discriminant import LabelledRows, Linear, fit_discriminants
from distill.frozen.frozen_statistics import AlignedStatistics, FrozenStatistics
from distill.frozen.speakers import Spoken, usual_statistics
from distill.frozen.statistics_items import StatisticsItems, collate_statistics
from distill.frozen.training_references import TrainingReferences
from distill.frozen.voices import FEWEST_SPEAKERS, choose_threshold, fit_directions, grouped
from distill.recipe import LdaHead, Recipe
from distill.recipe import Student as StudentRecipe
from distill.rows import RowSource
from distill.scoring import student_score
from distill.speech.audio_data import Windows, collate_windows
from distill.student import Student
from distill.training.loop import Collate
from edge_runtime.clips import ClipScores, score_clips
from edge_runtime.console import console
from edge_runtime.windows import WindowPolicy

_BLOCK = 256
"""Utterances in memory at a time while the direct map is fitted."""


class Material:
    """Utterances in the form in which a student hears them.

    Attributes:
        collate: makes a batch of dataset items.
    """

    collate: Collate

    def items(
        self, utterances: Sequence[Utterance], targets: Mapping[str, RowSource] | None, seed: int | None
    ) -> Dataset[Any]:
        """Return a dataset; with a ``seed`` for training, else as recorded."""
        raise NotImplementedError

    def prepare(
        self, student: Student, learnt: Sequence[Utterance], validation: Sequence[Utterance] | None
    ) -> list[dict[str, float]]:
        """Set what a student knows of its training utterances before the first step.

        Args:
            student: untrained.
            learnt: training utterances.
            validation: on which choices are made; None to take those that were made before.

        Returns:
            What was tried for it, a dictionary each.
        """
        return []

    def score(self, student: Student, utterances: Sequence[Utterance], policy: WindowPolicy) -> ClipScores:
        """Score all windows of some utterances, as the device would."""
        return score_clips(student_score(student), [item.path for item in utterances], policy)


class Waveforms(Material):
    """For a student whose encoder is trained."""

    def __init__(self, labels: tuple[str, ...], recipe: Recipe) -> None:
        self._labels = labels
        self._recipe = recipe
        self.collate = collate_windows

    def items(
        self, utterances: Sequence[Utterance], targets: Mapping[str, RowSource] | None, seed: int | None
    ) -> Dataset[Any]:
        """Return windows, augmented with a ``seed``."""
        how = self._recipe.student.augmentation
        return Windows(utterances, self._labels, self._recipe.window, targets=targets, seed=seed, augmentation=how)


class FrozenOutputs(Material):
    """For a student whose encoder is frozen.

    Args:
        labels: class names.
        encoder: the frozen encoder.
        corpora: its statistics of the tested corpus, then of the others.
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
        self._usual: Mapping[str, Floats] = {}
        self._chosen: tuple[float, float]
        self._voice_threshold: float | None = None
        self.collate = collate_statistics

    def items(
        self, utterances: Sequence[Utterance], targets: Mapping[str, RowSource] | None, seed: int | None
    ) -> Dataset[Any]:
        """Return rows of statistics, of a random copy each with a ``seed``; with references if the recipe says so."""
        swap, references = self._recipe.swap_speakers, self._references(utterances)
        return StatisticsItems(
            self._statistics, utterances, self._labels, targets=targets, seed=seed, swap=swap, references=references
        )

    def _references(self, utterances: Sequence[Utterance]) -> TrainingReferences | None:
        if self._recipe.speaker is None:
            return None
        default, row = self._statistics.home.mean, self._statistics.of
        return TrainingReferences(utterances, self._labels, row, self._statistics.copies, default, self._recipe.speaker)

    def prepare(
        self, student: Student, learnt: Sequence[Utterance], validation: Sequence[Utterance] | None
    ) -> list[dict[str, float]]:
        """Set weights of the encoder, standardisation and direct map."""
        # A random encoder is another one each time that it is built.
        student.encoder.load_state_dict(self._encoder.state_dict())
        own, *others = self._corpora
        self._statistics = AlignedStatistics(own, others, learnt)
        student.standardise(*(torch.from_numpy(each).float() for each in self._statistics.home))
        if self._recipe.speaker is not None and self._recipe.speaker.voices:
            self._tell_voices_apart(student, learnt, validation)
        if self._recipe.lda is None:
            return []
        recipe = self._recipe.lda
        if self._recipe.speaker is not None:
            self._usual = usual_statistics(self._spoken(learnt), len(self._labels))
        tried: list[dict[str, float]] = []
        if validation is None:
            # As chosen before, on those who are learnt from now.
            shrinkage, _ = self._chosen
            (found,) = self._discriminants(learnt, recipe, (shrinkage,))
        else:
            found, tried = self._choose(learnt, validation, recipe)
            self._chosen = (tried[-1]["shrinkage"], tried[-1]["temperature"])
        student.set_direct(*(torch.from_numpy(each / self._chosen[1]).float() for each in found))
        return tried

    def score(self, student: Student, utterances: Sequence[Utterance], policy: WindowPolicy) -> ClipScores:
        """Score all windows of some utterances, as the device would.

        One window is the whole of most utterances: what the encoder gives for it is known.
        """
        known = [0 < item.seconds < policy.seconds for item in utterances]
        whole = [number for number, is_known in enumerate(known) if is_known]
        longer = [number for number, is_known in enumerate(known) if not is_known]
        parts = []
        if whole:
            rows = np.stack([self._statistics.of(utterances[number]) for number in whole])
            with torch.inference_mode():
                logits = student.eval().decide(torch.from_numpy(rows).to(student.reference.device)).logits
            parts.append(ClipScores(logits.cpu().numpy(), np.array(whole)))
        if longer:
            found = super().score(student, [utterances[number] for number in longer], policy)
            parts.append(ClipScores(found.logits, np.array(longer)[found.owner]))
        return ClipScores(
            np.concatenate([part.logits for part in parts]), np.concatenate([part.owner for part in parts])
        )

    def _choose(
        self, learnt: Sequence[Utterance], validation: Sequence[Utterance], recipe: LdaHead
    ) -> tuple[Linear, list[dict[str, float]]]:
        """Choose the shrinkage, and a temperature that leaves little for the student's own to do.

        A student that takes references is to do well without one and with one: their mean decides.
        """
        rows, truth = self._standardised(validation, 0), self._classes(validation)
        known = rows - _means_by([item.speaker for item in validation], rows) if self._recipe.speaker else rows
        each = []
        for shrinkage, found in zip(
            recipe.shrinkage, self._discriminants(learnt, recipe, recipe.shrinkage), strict=True
        ):
            logits = rows @ found.weight.T + found.bias
            ua = unweighted_accuracy(truth, logits.argmax(axis=1))
            facts = {"validation_ua": ua, "shrinkage": shrinkage, "temperature": fit_temperature(logits, truth)}
            if self._recipe.speaker is not None:
                with_reference = (known @ found.weight.T + found.bias).argmax(axis=1)
                facts["validation_ua_reference"] = unweighted_accuracy(truth, with_reference)
            each.append((found, facts))
        # Of equals, the one that trusts the training speakers least.
        each.sort(
            key=lambda one: (
                one[1]["validation_ua"] + one[1].get("validation_ua_reference", 0.0),
                one[1]["shrinkage"],
            )
        )
        return each[-1][0], [facts for _, facts in each]

    def _tell_voices_apart(
        self, student: Student, learnt: Sequence[Utterance], validation: Sequence[Utterance] | None
    ) -> None:
        """Set the map that tells voices apart, with a threshold of speakers that the judge's map did not learn from."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(item.speaker for item in learnt))}
        if validation is None and self._voice_threshold is None:
            return
        directions: Floats | None = None
        if len(numbers) >= FEWEST_SPEAKERS:
            directions = fit_directions(partial(self._by_speaker, learnt, numbers), len(numbers))
            if validation is not None:
                places = self._standardised(validation, 0) @ directions.T
                self._voice_threshold = choose_threshold(grouped([item.speaker for item in validation], places))
        if directions is None or not len(directions) or self._voice_threshold is None:
            console.print("too few speakers to learn how voices are told apart: no change of speaker will be noticed")
            return
        student.set_voices(torch.from_numpy(directions), self._voice_threshold)

    def _by_speaker(self, utterances: Sequence[Utterance], numbers: Mapping[str, int]) -> Iterator[LabelledRows]:
        """Yield all copies of the utterances, standardised, block by block, with their speakers for classes."""
        for copy in range(self._statistics.copies):
            for start in range(0, len(utterances), _BLOCK):
                block = utterances[start : start + _BLOCK]
                classes = np.array([numbers[item.speaker] for item in block])
                yield LabelledRows(self._standardised(block, copy), classes, np.ones(len(block)))

    def _discriminants(
        self, learnt: Sequence[Utterance], recipe: LdaHead, shrinkages: Sequence[float]
    ) -> Iterator[Linear]:
        return fit_discriminants(partial(self._rows, learnt, recipe), len(self._labels), shrinkages)

    def _rows(self, utterances: Sequence[Utterance], recipe: LdaHead) -> Iterator[LabelledRows]:
        """Yield all copies of the utterances, standardised, block by block.

        Where speakers are told apart each one comes twice, with and without their usual statistics.
        """
        share = self._recipe.speaker.share if self._recipe.speaker else 0.0
        balance = language_weights(utterances, self._recipe.language_balance)
        for copy in range(self._statistics.copies):
            for start in range(0, len(utterances), _BLOCK):
                block = utterances[start : start + _BLOCK]
                weights = np.array(
                    [1.0 if self._statistics.is_own(item) else recipe.auxiliary_weight for item in block]
                )
                if balance is not None:
                    weights = weights * balance[start : start + _BLOCK]
                rows, classes = self._standardised(block, copy), self._classes(block)
                if share < 1:
                    yield LabelledRows(rows, classes, weights * (1.0 - share))
                if share > 0:
                    mean, deviation = self._statistics.home
                    usual = np.stack([self._usual[item.speaker] for item in block])
                    yield LabelledRows(rows - (usual - mean) / deviation, classes, weights * share)

    def _spoken(self, utterances: Sequence[Utterance]) -> Iterator[Spoken]:
        """Yield all copies of the utterances."""
        for copy in range(self._statistics.copies):
            for item in utterances:
                yield Spoken(self._statistics.of(item, copy), item.speaker, self._labels.index(item.emotion))

    def _standardised(self, utterances: Sequence[Utterance], copy: int) -> np.ndarray:
        mean, deviation = self._statistics.home
        return np.asarray((np.stack([self._statistics.of(item, copy) for item in utterances]) - mean) / deviation)

    def _classes(self, utterances: Sequence[Utterance]) -> np.ndarray:
        return np.array([self._labels.index(item.emotion) for item in utterances])


def _means_by(names: Sequence[str], rows: Floats) -> Floats:
    """Return for each row ``[D]`` the mean of all rows of the same name."""
    _, number = np.unique(names, return_inverse=True)
    sums = np.zeros((number.max() + 1, rows.shape[1]))
    np.add.at(sums, number, rows)
    return np.asarray((sums / np.bincount(number)[:, None])[number])

"""Train the student of one fold: on waveforms, or on the statistics of an encoder that is frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset
from transformers import set_seed

from distill.audio_data import Windows, collate_windows
from distill.build_student import build_student
from distill.corpus import Utterance
from distill.encoders.interface import SpeechEncoder
from distill.folds import Fold
from distill.frozen_statistics import (
    FrozenStatistics,
    Heard,
    StatisticsItems,
    collate_statistics,
    frozen_statistics,
)
from distill.objective import EmoDistill
from distill.recipe import TEACHERS, Recipe
from distill.rows import Rows
from distill.student import Student
from distill.teachers.supervise import TeacherOutputs
from distill.training import Collate, Task, fit


class Trained(NamedTuple):
    """What training leaves.

    Attributes:
        student: the student.
        judge: the student that has not learnt from the validation speakers, for all that is fitted on them; the same
            one, unless the recipe refits.
        history: one dictionary an epoch.
    """

    student: Student
    judge: Student
    history: list[dict[str, float]]


def train_student(
    recipe: Recipe,
    labels: tuple[str, ...],
    fold: Fold,
    corpora: Sequence[Sequence[Utterance]],
    teachers: Mapping[str, TeacherOutputs],
    checkpoints: Path,
    cache: Path,
) -> Trained:
    """Train the student.

    Args:
        recipe: the recipe.
        labels: class names.
        fold: who is learnt from, and who is validated on.
        corpora: all utterances of each corpus, so that what a frozen encoder gives is computed once for all folds.
        teachers: what the teachers say of ``fold.everything``.
        checkpoints: directory for checkpoints.
        cache: directory of the cache.
    """
    if recipe.student.frozen == "all":
        set_seed(recipe.seed)
        encoder, heard = _untrained(recipe, labels, teachers).encoder, _heard(recipe)
        each = [frozen_statistics(encoder, recipe.student.pooled_layers, items, heard, cache) for items in corpora]
        material: _Material = _FrozenMaterial(
            labels, encoder, FrozenStatistics.together(each), recipe.student.swap_speakers
        )
    else:
        material = _WaveMaterial(labels, recipe)
    history, judge = _train(recipe, labels, fold.train, fold.validation, teachers, material, checkpoints / "student")
    student = judge
    if recipe.student.refit:
        everyone = fold.train + fold.validation
        _, student = _train(recipe, labels, everyone, None, teachers, material, checkpoints / "refit")
    return Trained(student, judge, history)


class _Material:
    """Utterances as datasets."""

    collate: Collate

    def items(
        self, utterances: Sequence[Utterance], targets: Mapping[str, Rows] | None, seed: int | None
    ) -> Dataset[Any]:
        raise NotImplementedError

    def prepare(self, student: Student, utterances: Sequence[Utterance]) -> None:
        """Set what the student knows of its training utterances before the first step."""


class _WaveMaterial(_Material):
    def __init__(self, labels: tuple[str, ...], recipe: Recipe) -> None:
        self._labels = labels
        self._recipe = recipe
        self.collate = collate_windows

    def items(
        self, utterances: Sequence[Utterance], targets: Mapping[str, Rows] | None, seed: int | None
    ) -> Dataset[Any]:
        how = self._recipe.student.augmentation
        return Windows(utterances, self._labels, self._recipe.window, targets=targets, seed=seed, augmentation=how)


class _FrozenMaterial(_Material):
    def __init__(
        self, labels: tuple[str, ...], encoder: SpeechEncoder, statistics: FrozenStatistics, swap: float
    ) -> None:
        self._labels = labels
        self._encoder = encoder
        self._statistics = statistics
        self._swap = swap
        self.collate = collate_statistics

    def items(
        self, utterances: Sequence[Utterance], targets: Mapping[str, Rows] | None, seed: int | None
    ) -> Dataset[Any]:
        return StatisticsItems(self._statistics, utterances, self._labels, targets=targets, seed=seed, swap=self._swap)

    def prepare(self, student: Student, utterances: Sequence[Utterance]) -> None:
        # A random encoder is another one each time that it is built.
        student.encoder.load_state_dict(self._encoder.state_dict())
        mean, deviation = self._statistics.mean_and_deviation(utterances)
        student.standardise(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())


def _train(
    recipe: Recipe,
    labels: tuple[str, ...],
    learnt: Sequence[Utterance],
    validation: Sequence[Utterance] | None,
    teachers: Mapping[str, TeacherOutputs],
    material: _Material,
    checkpoints: Path,
) -> tuple[list[dict[str, float]], Student]:
    set_seed(recipe.seed)
    student = _untrained(recipe, labels, teachers)
    material.prepare(student, learnt)
    targets = {}
    for name, outputs in teachers.items():
        targets[f"{name}_logits"] = outputs.logits
        # Without centring, embeddings of one encoder all point the same way, and their cosines say little.
        targets[f"{name}_embedding"] = outputs.embedding.centred(len(learnt))
    signals = {name: getattr(recipe, name).signal for name in teachers}
    weights = _class_weights(learnt, labels, recipe.student.label_balance)
    task = Task("student", material.collate, recipe.student.training, recipe.seed, checkpoints)
    history = fit(
        EmoDistill(student, recipe.student, signals, weights),
        material.items(learnt, targets, recipe.seed),
        None if validation is None else material.items(validation, None, None),
        task,
    )
    return history, student


def _untrained(recipe: Recipe, labels: tuple[str, ...], teachers: Mapping[str, TeacherOutputs]) -> Student:
    sizes = {f"{name}_size": teachers[name].embedding.shape[1] if name in teachers else None for name in TEACHERS}
    return build_student(recipe.student, labels, **sizes)


def _heard(recipe: Recipe) -> Heard:
    how = recipe.student
    return Heard(recipe.window, how.pooled_frames, how.augmentation, how.copies)


def _class_weights(utterances: Sequence[Utterance], labels: Sequence[str], power: float) -> torch.Tensor | None:
    """Return ``(mean count / count)^power`` of each class, scaled so that an utterance weighs 1 on average."""
    if not power:
        return None
    counts = Counter(item.emotion for item in utterances)
    weights = torch.tensor([counts[label] ** -power for label in labels])
    share = torch.tensor([counts[label] / len(utterances) for label in labels])
    return weights / (weights * share).sum()

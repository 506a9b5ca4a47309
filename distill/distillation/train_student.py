"""Train the student of one fold: on waveforms, or on the statistics of an encoder that is frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import set_seed

from distill.caching.arrays import RowSource
from distill.corpus import Utterance
from distill.distillation.build_student import build_student
from distill.distillation.feature_source import FeatureSource, WaveformFeatures
from distill.distillation.frozen_features import FrozenFeatures
from distill.distillation.language_balance import language_weights
from distill.distillation.objective import Distillation
from distill.folds import Fold
from distill.pruning.structured import prune_encoder
from distill.recipe import EVERYONE, TEACHERS, Recipe
from distill.student import Student
from distill.training.frozen_statistics import Processing, frozen_statistics
from distill.training.loop import Task, fit
from distill.training.outputs import MonolingualOutputs, TeacherOutputs


class Trained(NamedTuple):
    """What training leaves.

    Attributes:
        student: the student.
        validated: the student that was not trained on the validation speakers, for all that is fitted on them; the same
            one, unless the recipe refits.
        history: a dictionary for each shrinkage that was tried for the LDA head, the selected one last; then one an
            epoch.
        features: what it was trained on.
    """

    student: Student
    validated: Student
    history: list[dict[str, float]]
    features: FeatureSource


def train_student(
    recipe: Recipe,
    labels: tuple[str, ...],
    fold: Fold,
    corpora: Sequence[Sequence[Utterance]],
    teachers: Mapping[str, TeacherOutputs],
    checkpoints: Path,
    cache: Path,
    monolingual: MonolingualOutputs | None = None,
) -> Trained:
    """Train the student.

    Args:
        recipe: the recipe.
        labels: class names.
        fold: training and validation part.
        corpora: all utterances of each corpus, so that statistics of a frozen encoder are computed once for all folds.
        teachers: their outputs for ``fold.everything``.
        checkpoints: directory for checkpoints.
        cache: directory of the cache.
        monolingual: outputs of monolingual teachers for ``fold.everything``.
    """
    features = make_features(recipe, labels, fold.train, corpora, checkpoints / "pruning", cache)
    teachers_of_fold = TeacherTargets(teachers, monolingual)
    history, validated = _train(
        recipe, labels, fold.train, fold.validation, teachers_of_fold, features, checkpoints / "student"
    )
    student = validated
    if recipe.student.refit:
        tested = fold.test if recipe.student.refit == EVERYONE else ()
        all_speakers = fold.train + fold.validation + tested
        _, student = _train(recipe, labels, all_speakers, None, teachers_of_fold, features, checkpoints / "refit")
    return Trained(student, validated, history, features)


def make_features(
    recipe: Recipe,
    labels: tuple[str, ...],
    train: Sequence[Utterance],
    corpora: Sequence[Sequence[Utterance]],
    checkpoints: Path,
    cache: Path,
) -> FeatureSource:
    """Return utterances in the form in which the recipe's student is trained on them.

    Args:
        recipe: the recipe.
        labels: class names.
        train: the training part, which a pruned encoder is fitted to: each fold has its own.
        corpora: all utterances of each corpus, so that statistics of a frozen encoder are computed once for all folds.
        checkpoints: directory for checkpoints of a pruned encoder.
        cache: directory of the cache.
    """
    if recipe.student.frozen != "all":
        return WaveformFeatures(labels, recipe)
    set_seed(recipe.seed)
    student = build_student(recipe.student.model_copy(update={"pruning": None}), labels)
    encoder, processing = student.encoder, _processing(recipe)
    if recipe.student.pruning is not None:
        encoder = prune_encoder(student, recipe, labels, train, checkpoints)
    each = [frozen_statistics(encoder, recipe.student.pooled_layers, items, processing, cache) for items in corpora]
    return FrozenFeatures(labels, encoder, each, recipe.student)


@dataclass(frozen=True)
class TeacherTargets:
    """Outputs of all teachers for ``Fold.everything``, as targets of the student."""

    teachers: Mapping[str, TeacherOutputs]
    monolingual: MonolingualOutputs | None

    def rows(self, count: int) -> dict[str, RowSource]:
        """Return the rows of the first ``count`` utterances, by name."""
        found: dict[str, RowSource] = {} if self.monolingual is None else self.monolingual.targets()
        for name, outputs in self.teachers.items():
            found[f"{name}_logits"] = outputs.logits
            # Not centred, embeddings of one encoder have almost the same direction, and their cosines hardly differ.
            found[f"{name}_embedding"] = outputs.embedding.centred(count)
        return found

    def validation_rows(self, count: int) -> dict[str, RowSource] | None:
        """Return the rows of the utterances after these, for reports of the weights of monolingual teachers."""
        return None if self.monolingual is None else self.monolingual.targets(count)


def _train(
    recipe: Recipe,
    labels: tuple[str, ...],
    train: Sequence[Utterance],
    validation: Sequence[Utterance] | None,
    targets: TeacherTargets,
    features: FeatureSource,
    checkpoints: Path,
) -> tuple[list[dict[str, float]], Student]:
    set_seed(recipe.seed)
    student = _untrained(recipe, labels, targets.teachers)
    tried = features.prepare(student, train, validation)
    signals = {name: getattr(recipe, name).signal for name in targets.teachers}
    weights = _class_weights(train, labels, recipe.student.label_balance)
    if recipe.student.training is None:
        return tried, student
    chances = language_weights(train, recipe.student.language_balance)
    task = Task("student", features.collate, recipe.student.training, recipe.seed, checkpoints, chances=chances)
    history = fit(
        Distillation(student, recipe.student, signals, weights, recipe.monolingual if targets.monolingual else None),
        features.dataset(train, targets.rows(len(train)), recipe.seed),
        None if validation is None else features.dataset(validation, targets.validation_rows(len(train)), None),
        task,
    )
    return tried + history, student


def _untrained(recipe: Recipe, labels: tuple[str, ...], teachers: Mapping[str, TeacherOutputs]) -> Student:
    sizes = {f"{name}_size": teachers[name].embedding.shape[1] if name in teachers else None for name in TEACHERS}
    return build_student(recipe.student, labels, **sizes)


def _processing(recipe: Recipe) -> Processing:
    how = recipe.student
    return Processing(recipe.window, how.pooled_frames, how.augmentation, how.copies)


def _class_weights(utterances: Sequence[Utterance], labels: Sequence[str], power: float) -> torch.Tensor | None:
    """Return ``(mean count / count)^power`` of each class, scaled so that an utterance weighs 1 on average."""
    if not power:
        return None
    counts = Counter(item.emotion for item in utterances)
    weights = torch.tensor([counts[label] ** -power for label in labels])
    share = torch.tensor([counts[label] / len(utterances) for label in labels])
    return weights / (weights * share).sum()

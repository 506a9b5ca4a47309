"""Train the student of one fold: on waveforms, or on the statistics of an encoder that is frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import set_seed

from distill.corpus import Utterance
from distill.distillation.build_student import build_student
from distill.distillation.language_balance import language_weights
from distill.distillation.material import FrozenOutputs, Material, Waveforms
from distill.distillation.objective import Distillation
from distill.folds import Fold
from distill.frozen.frozen_statistics import Heard, frozen_statistics
from distill.pruning.structured import prune_encoder
from distill.recipe import EVERYONE, TEACHERS, Recipe
from distill.rows import RowSource
from distill.student import Student
from distill.training.loop import Task, fit
from distill.training.outputs import MonolingualOutputs, TeacherOutputs


class Trained(NamedTuple):
    """What training leaves.

    Attributes:
        student: the student.
        judge: the student that has not learnt from the validation speakers, for all that is fitted on them; the same
            one, unless the recipe refits.
        history: a dictionary for each value that was tried for the direct map, the chosen one last; then one an epoch.
        material: what it learnt from.
    """

    student: Student
    judge: Student
    history: list[dict[str, float]]
    material: Material


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
        fold: who is learnt from, and who is validated on.
        corpora: all utterances of each corpus, so that what a frozen encoder gives is computed once for all folds.
        teachers: what the teachers say of ``fold.everything``.
        checkpoints: directory for checkpoints.
        cache: directory of the cache.
        monolingual: what monolingual teachers say of ``fold.everything``.
    """
    material = make_material(recipe, labels, fold.train, corpora, checkpoints / "pruning", cache)
    taught = Taught(teachers, monolingual)
    history, judge = _train(recipe, labels, fold.train, fold.validation, taught, material, checkpoints / "student")
    student = judge
    if recipe.student.refit:
        tested = fold.test if recipe.student.refit == EVERYONE else ()
        everyone = fold.train + fold.validation + tested
        _, student = _train(recipe, labels, everyone, None, taught, material, checkpoints / "refit")
    return Trained(student, judge, history, material)


def make_material(
    recipe: Recipe,
    labels: tuple[str, ...],
    learnt: Sequence[Utterance],
    corpora: Sequence[Sequence[Utterance]],
    checkpoints: Path,
    cache: Path,
) -> Material:
    """Return utterances in the form in which the recipe's student hears them.

    Args:
        recipe: the recipe.
        labels: class names.
        learnt: the training part, which a pruned encoder is fitted to: each fold has its own.
        corpora: all utterances of each corpus, so that what a frozen encoder gives is computed once for all folds.
        checkpoints: directory for checkpoints of a pruned encoder.
        cache: directory of the cache.
    """
    if recipe.student.frozen != "all":
        return Waveforms(labels, recipe)
    set_seed(recipe.seed)
    student = build_student(recipe.student.model_copy(update={"pruning": None}), labels)
    encoder, heard = student.encoder, _heard(recipe)
    if recipe.student.pruning is not None:
        encoder = prune_encoder(student, recipe, labels, learnt, checkpoints)
    each = [frozen_statistics(encoder, recipe.student.pooled_layers, items, heard, cache) for items in corpora]
    return FrozenOutputs(labels, encoder, each, recipe.student)


@dataclass(frozen=True)
class Taught:
    """What all teachers say of ``Fold.everything``."""

    teachers: Mapping[str, TeacherOutputs]
    monolingual: MonolingualOutputs | None

    def targets(self, learnt: int) -> dict[str, RowSource]:
        """Return the rows that go with the first ``learnt`` utterances."""
        found: dict[str, RowSource] = {} if self.monolingual is None else self.monolingual.targets()
        for name, outputs in self.teachers.items():
            found[f"{name}_logits"] = outputs.logits
            # Without centring, embeddings of one encoder all point the same way, and their cosines say little.
            found[f"{name}_embedding"] = outputs.embedding.centred(learnt)
        return found

    def validation_targets(self, learnt: int) -> dict[str, RowSource] | None:
        """Return the rows that go with the utterances after these, by which the weights of teachers are watched."""
        return None if self.monolingual is None else self.monolingual.targets(learnt)


def _train(
    recipe: Recipe,
    labels: tuple[str, ...],
    learnt: Sequence[Utterance],
    validation: Sequence[Utterance] | None,
    taught: Taught,
    material: Material,
    checkpoints: Path,
) -> tuple[list[dict[str, float]], Student]:
    set_seed(recipe.seed)
    student = _untrained(recipe, labels, taught.teachers)
    tried = material.prepare(student, learnt, validation)
    targets = taught.targets(len(learnt))
    signals = {name: getattr(recipe, name).signal for name in taught.teachers}
    weights = _class_weights(learnt, labels, recipe.student.label_balance)
    if recipe.student.training is None:
        return tried, student
    chances = language_weights(learnt, recipe.student.language_balance)
    task = Task("student", material.collate, recipe.student.training, recipe.seed, checkpoints, chances=chances)
    history = fit(
        Distillation(student, recipe.student, signals, weights, recipe.monolingual if taught.monolingual else None),
        material.items(learnt, targets, recipe.seed),
        None if validation is None else material.items(validation, taught.validation_targets(len(learnt)), None),
        task,
    )
    return tried + history, student


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

"""Train the student of one fold: on waveforms, or on the statistics of a frozen encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
from distill.narrowing.narrow import narrow
from distill.recipe import Recipe
from distill.student import Student
from distill.training.loop import Task, fit
from distill.training.outputs import Supervision


class Trained(NamedTuple):
    """A trained student.

    Attributes:
        student: the student.
        judge: the student that is not trained on the validation speakers, for all that is fitted on them; the same
            one, unless the recipe refits.
        history: a dictionary for each value that was tried for the LDA head, the chosen one last; then one an epoch.
        material: what it is trained on.
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
    supervision: Supervision | None,
    checkpoints: Path,
    cache: Path,
) -> Trained:
    """Train the student.

    Args:
        recipe: the recipe.
        labels: class names.
        fold: the training and the validation part.
        corpora: all utterances of each corpus, so that statistics of a frozen encoder are computed once for all folds.
        supervision: the teachers' outputs for ``fold.everything``; None without teachers.
        checkpoints: directory for checkpoints.
        cache: directory of the cache.
    """
    material = make_material(recipe, labels, fold.train, corpora, checkpoints / "narrow", cache)
    supervision = supervision or Supervision()
    history, judge = _train(recipe, labels, fold.train, fold.validation, supervision, material, checkpoints / "student")
    student = judge
    if recipe.student.refit or recipe.student.train_on_all:
        more = fold.train + fold.validation + (fold.test if recipe.student.train_on_all else ())
        _, student = _train(recipe, labels, more, None, supervision, material, checkpoints / "refit")
    return Trained(student, judge, history, material)


def make_material(
    recipe: Recipe,
    labels: tuple[str, ...],
    trained: Sequence[Utterance],
    corpora: Sequence[Sequence[Utterance]],
    checkpoints: Path,
    cache: Path,
) -> Material:
    """Return utterances in the form that the recipe's student processes.

    Args:
        recipe: the recipe.
        labels: class names.
        trained: the training part, which a narrower encoder is fitted to: it is another one in each fold.
        corpora: all utterances of each corpus, so that statistics of a frozen encoder are computed once for all folds.
        checkpoints: directory for checkpoints of a narrower encoder.
        cache: directory of the cache.
    """
    if recipe.student.frozen != "all":
        return Waveforms(labels, recipe)
    set_seed(recipe.seed)
    wide = build_student(recipe.student.model_copy(update={"narrow": None}), labels)
    encoder, heard = wide.encoder, _heard(recipe)
    if recipe.student.narrow is not None:
        encoder = narrow(wide, recipe, labels, trained, checkpoints)
    each = [frozen_statistics(encoder, recipe.student.pooled_layers, items, heard, cache) for items in corpora]
    return FrozenOutputs(labels, encoder, each, recipe.student)


def _train(
    recipe: Recipe,
    labels: tuple[str, ...],
    trained: Sequence[Utterance],
    validation: Sequence[Utterance] | None,
    supervision: Supervision,
    material: Material,
    checkpoints: Path,
) -> tuple[list[dict[str, float]], Student]:
    set_seed(recipe.seed)
    student = build_student(recipe.student, labels, supervision.embedding_sizes())
    tried = material.prepare(student, trained, validation)
    targets = supervision.targets(len(trained))
    signals = {name: each.signal for name, each in supervision.teachers.items()}
    branches = {name: each.branch for name, each in supervision.teachers.items() if each.embedding is not None}
    weighting = None if supervision.languages is None else recipe.weighting
    weights = _class_weights(trained, labels, recipe.student.label_balance)
    if recipe.student.training is None:
        return tried, student
    chances = language_weights(trained, recipe.student.language_balance)
    task = Task("student", material.collate, recipe.student.training, recipe.seed, checkpoints, chances=chances)
    history = fit(
        Distillation(student, recipe.student, signals, weights, weighting, branches),
        material.items(trained, targets, recipe.seed),
        None if validation is None else material.items(validation, supervision.validation_targets(len(trained)), None),
        task,
    )
    return tried + history, student


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

"""Train the student of one fold: on waveforms, or on the statistics of a frozen encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import set_seed

from distill.caching.arrays import RowSource
from distill.corpus import Utterance
from distill.distillation.build_student import build_student
from distill.distillation.feature_source import FeatureSource, WaveformFeatures
from distill.distillation.frozen_features import FrozenFeatures
from distill.distillation.objective import Distillation
from distill.distillation.standardised import language_weights
from distill.encoders.interface import SpeechEncoder
from distill.evaluation.concordance import targets_of
from distill.folds import Fold
from distill.pruning.structured import prune_encoder
from distill.recipe import Recipe
from distill.student import Student
from distill.training.frozen_statistics import Processing, frozen_statistics
from distill.training.loop import Task, fit
from distill.training.outputs import DIMENSIONS, Supervision


class Trained(NamedTuple):
    """A trained student.

    Attributes:
        student: the student.
        validated: the student that is not trained on the validation speakers, for all that is fitted on them; the same
            one, unless the recipe refits.
        history: a dictionary for each value that was tried for the LDA head, the chosen one last; then one an epoch.
        features: what it is trained on.
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
    supervision: Supervision | None,
    checkpoints: Path,
    cache: Path,
    unlabelled: Sequence[Sequence[Utterance]] = (),
) -> Trained:
    """Train the student.

    Args:
        recipe: the recipe.
        labels: class names.
        fold: the training and the validation part, and unlabelled speech: an encoder is distilled on it, and teachers'
            outputs are matched on it.
        corpora: all utterances of each corpus, so that statistics of a frozen encoder are computed once for all folds;
            with teachers, those of unlabelled speech too.
        supervision: the teachers' outputs for ``fold.everything`` and ``fold.unlabelled``; None without teachers.
        checkpoints: directory for checkpoints.
        cache: directory of the cache.
        unlabelled: all utterances of each corpus that an encoder is distilled on only.
    """
    how = recipe.student
    again = how.refit or how.train_on_all
    last = fold.trained_in_the_end(how.refit, how.train_on_all)
    # An encoder is distilled on all that the student is trained on in the end; its labels are not used.
    distilled = fold.unlabelled if recipe.distils_on_unlabelled_alone else (*last, *fold.unlabelled)
    features = make_features(recipe, labels, distilled, corpora, checkpoints / "pruning", cache, unlabelled)
    supervision = supervision or Supervision()
    more = () if supervision.is_empty else fold.unlabelled
    parts = fold.train, more, fold.validation
    history, validated = _train(recipe, labels, *parts, supervision, features, checkpoints / "student")
    student = validated
    if again:
        _, student = _train(recipe, labels, last, more, None, supervision, features, checkpoints / "refit")
    return Trained(student, validated, history, features)


def make_features(
    recipe: Recipe,
    labels: tuple[str, ...],
    trained: Sequence[Utterance],
    corpora: Sequence[Sequence[Utterance]],
    checkpoints: Path,
    cache: Path,
    unlabelled: Sequence[Sequence[Utterance]] = (),
) -> FeatureSource:
    """Return utterances in the form that the recipe's student processes.

    Args:
        recipe: the recipe.
        labels: class names.
        trained: what a smaller encoder is distilled on: it is another one in each fold, if it has labelled speech.
        corpora: all utterances of each corpus, so that statistics of a frozen encoder are computed once for all folds.
        checkpoints: directory for checkpoints of a smaller encoder.
        cache: directory of the cache.
        unlabelled: all utterances of each corpus that a smaller encoder is distilled on only.
    """
    if recipe.student.frozen != "all":
        return WaveformFeatures(labels, recipe)
    set_seed(recipe.seed)
    unpruned = build_student(recipe.student.model_copy(update={"pruning": None}), labels, chunk=recipe.window.chunk)
    encoder, how = unpruned.encoder, recipe.student
    whole = recipe.window.model_copy(update={"seconds": recipe.window.segment_seconds})
    processing = Processing(
        whole, how.pooled_frames, how.pooled_deviation, how.augmentation, how.copies, how.voice_copies
    )
    if recipe.student.pruning is not None:
        teacher = _original(unpruned, recipe, labels)
        speech = unlabelled if recipe.distils_on_unlabelled_alone else [*corpora, *unlabelled]
        encoder = prune_encoder(unpruned, teacher, recipe, trained, speech, checkpoints, cache)
    each = [frozen_statistics(encoder, recipe.student.pooled_layers, items, processing, cache) for items in corpora]
    return FrozenFeatures(labels, encoder, each, recipe.student)


def _original(unpruned: Student, recipe: Recipe, labels: tuple[str, ...]) -> SpeechEncoder:
    """Return the original encoder up to the deepest layer to match; its first blocks are those of ``unpruned``."""
    how = recipe.student.pruning
    assert how is not None
    layers = None if how.distillation is None else how.distillation.layers
    if layers is None:
        teacher = copy.deepcopy(unpruned.encoder)
        # Of the student's chunks, each has the rest of the waveform around it.
        teacher.in_chunks(0)
        return teacher
    deep = {"pruning": None, "layers": max(layers), "pooled_layers": layers}
    teacher = build_student(recipe.student.model_copy(update=deep), labels).encoder
    weights = teacher.state_dict() | unpruned.encoder.state_dict()
    teacher.load_state_dict({name: weights[name] for name in teacher.state_dict()})
    return teacher


def _train(
    recipe: Recipe,
    labels: tuple[str, ...],
    trained: Sequence[Utterance],
    unlabelled: Sequence[Utterance],
    validation: Sequence[Utterance] | None,
    supervision: Supervision,
    features: FeatureSource,
    checkpoints: Path,
) -> tuple[list[dict[str, float]], Student]:
    set_seed(recipe.seed)
    student = build_student(recipe.student, labels, supervision.embedding_sizes(), recipe.window.chunk)
    tried = features.prepare(student, trained, validation)
    targets = supervision.targets(len(trained), len(unlabelled))
    targets |= _dimension_targets(recipe, trained, unlabelled, supervision)
    signals = {name: each.signal for name, each in supervision.teachers.items()}
    branches = {name: each.branch for name, each in supervision.teachers.items() if each.embedding is not None}
    weighting = None if supervision.languages is None else recipe.weighting
    if recipe.student.training is None:
        return tried, student
    chances = language_weights(trained, recipe.student.language_balance)
    if chances is not None:
        # On average those of labelled utterances are 1 too.
        chances = np.append(chances, np.ones(len(unlabelled)))
    task = Task("student", features.collate, recipe.student.training, recipe.seed, checkpoints, chances=chances)
    history = fit(
        Distillation(student, recipe.student, signals, weighting, branches),
        features.dataset([*trained, *unlabelled], targets, recipe.seed),
        None
        if validation is None
        else features.dataset(validation, supervision.validation_targets(len(trained)), None),
        task,
    )
    return tried + history, student


def _dimension_targets(
    recipe: Recipe, trained: Sequence[Utterance], unlabelled: Sequence[Utterance], supervision: Supervision
) -> dict[str, RowSource]:
    how = recipe.student.dimensions
    if how is None:
        return {}
    targets = targets_of([*trained, *unlabelled], how.names)
    return {DIMENSIONS: supervision.dimension_targets(targets, len(unlabelled), how.teacher_share)}

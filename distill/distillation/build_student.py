"""Make an untrained student from a recipe: random, or on the first blocks of a pretrained encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from distill.encoders.load import check_and_freeze, load_encoder, needed_layers
from distill.heads.branches import SHARED
from distill.pruning.structured import resize_encoder
from distill.recipe import RandomEncoder
from distill.recipe import Student as StudentRecipe
from distill.student import Student, StudentConfig
from edge_runtime.dimensions import HIGHEST, LOWEST
from edge_runtime.errors import WrongUseError

_PARTS = (
    "config",
    "dimension_head",
    "lda_head",
    "encoder",
    "head",
    "reference",
    "scale",
    SHARED,
    "statistics_dropout",
    "training",
    "speaker_between",
    "speaker_class_means",
    "speaker_directions",
    "speaker_interaction",
    "speaker_projection",
)
"""Attributes of students, under whose names no branch can stand."""


def build_student(
    recipe: StudentRecipe,
    labels: tuple[str, ...],
    embeddings: Mapping[str, int] | None = None,
    chunk: int = 0,
) -> Student:
    """Return an untrained student.

    Args:
        recipe: the student's table of the recipe.
        labels: class names.
        embeddings: size of the teacher's embedding for each branch that has a teacher: it replaces the recipe's size,
            and adds a branch where the recipe has none of this name.
        chunk: samples of the chunks that waveforms are encoded in; 0 for waveforms as a whole.

    Raises:
        EdgeemoError: the encoder cannot be loaded.
        WrongUseError: the encoder is of an unknown family, or has fewer layers than the recipe names; or a branch has
            the name of another part of the student.
    """
    branches = recipe.branches | dict(embeddings or {}) if recipe.training is not None else {}
    for name in branches:
        if hasattr(Student, name) or name in _PARTS:
            raise WrongUseError(f"no branch can be called '{name}', as a part of the student is; set another 'branch'")
    sizes: dict[str, Any] = {
        "labels": list(labels),
        "pooled_layers": list(recipe.pooled_layers),
        "pooled_frames": list(recipe.pooled_frames),
        "pooled_deviation": recipe.pooled_deviation,
        "branches": list(branches.items()),
        "shared_branch": recipe.shared_branch,
        "lda_head": recipe.lda is not None,
        "hidden_size": recipe.hidden_size,
        "head_dropout": recipe.dropout,
        "statistics_dropout": recipe.statistics_dropout,
        "standardised": recipe.frozen == "all",
        "dimensions": list(recipe.dimensions.names) if recipe.dimensions is not None else [],
    }
    if recipe.random is not None:
        layers = needed_layers(recipe.pooled_layers, recipe.random.layers, "student.random")
        settings = _random_encoder(recipe.random) | {"encoder_layers": layers or recipe.random.layers}
        student = Student(StudentConfig(family="whisper", encoder=settings, **sizes))
    else:
        assert recipe.encoder is not None
        loaded = load_encoder(recipe.encoder, needed_layers(recipe.pooled_layers, recipe.layers, "student"), "student")
        student = Student(StudentConfig(family=loaded.family, encoder=loaded.settings, **sizes))
        weights = loaded.state_dict()
        student.encoder.load_state_dict({name: weights[name] for name in student.encoder.state_dict()})
    if chunk:
        student.encoder.in_chunks(chunk)
        student.config.encoder = student.encoder.settings
    if recipe.time_reduction:
        student.encoder.reduce_time(recipe.time_reduction)
        student.config.encoder = student.encoder.settings
    if recipe.pruning is not None:
        resize_encoder(student, recipe.pruning)
    check_and_freeze(student.encoder, recipe.pooled_layers, recipe.frozen, "student")
    _start_head(student)
    return student


def _start_head(student: Student) -> None:
    """Start branches and head with PyTorch's own initialisation.

    Transformers draws every weight with a deviation of 0.02, which suits wide models; four small layers of it in a row
    give logits of 1e-5 and a slow start.
    """
    if not student.branches:
        return
    if student.config.dimensions:
        student.dimension_head.reset_parameters()
        nn.init.constant_(student.dimension_head.bias, (LOWEST + HIGHEST) / 2)
    for module in (*student.branches.values(), student.head):
        for layer in module.children():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    if student.config.lda_head:
        # What the branches add to the LDA head starts at zero.
        for parameter in student.head[-1].parameters():
            nn.init.zeros_(parameter)


def _random_encoder(recipe: RandomEncoder) -> dict[str, Any]:
    return {
        "d_model": recipe.d_model,
        "encoder_attention_heads": recipe.heads,
        "encoder_ffn_dim": recipe.feed_forward,
        "num_mel_bins": recipe.mel_bins,
        # As in Whisper. Dropout between layers would widen the deviation over time in training only, and with it shift
        # what the head sees.
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        # The deviation that PyTorch's own initialisation gives a layer of this width.
        "init_std": (3 * recipe.d_model) ** -0.5,
    }

"""Make an untrained student from a recipe: random, or on the first blocks of a pretrained encoder."""

from __future__ import annotations

from typing import Any

from torch import nn

from distill.encoders.layers import check_and_freeze, needed_layers
from distill.encoders.load import load_encoder
from distill.pruning.structured import resize_encoder
from distill.recipe import RandomEncoder
from distill.recipe import Student as StudentRecipe
from distill.student import Student, StudentConfig


def build_student(
    recipe: StudentRecipe,
    labels: tuple[str, ...],
    *,
    linguistic_size: int | None = None,
    prosodic_size: int | None = None,
    acoustic_size: int | None = None,
    own_size: int | None = None,
) -> Student:
    """Return an untrained student.

    Args:
        recipe: the student's table of the recipe.
        labels: class names.
        linguistic_size: size of the linguistic teacher's embedding, if there is one.
        prosodic_size: size of the prosodic teacher's embedding, if there is one.
        acoustic_size: size of the acoustic teacher's embedding, if there is one.
        own_size: size of the embedding of a teacher that another package adds, if there is one.

    Raises:
        EdgeemoError: the encoder cannot be loaded.
        WrongUseError: the encoder is of an unknown family, or has fewer layers than the recipe speaks of.
    """
    has_branches = recipe.training is not None
    sizes: dict[str, Any] = {
        "labels": list(labels),
        "pooled_layers": list(recipe.pooled_layers),
        "pooled_frames": list(recipe.pooled_frames),
        "linguistic_size": (linguistic_size or recipe.linguistic_size) if has_branches else 0,
        "prosodic_size": (prosodic_size or recipe.prosodic_size) if has_branches else 0,
        "acoustic_size": (acoustic_size or recipe.acoustic_size) if has_branches else 0,
        "own_size": (own_size or 0) if has_branches else 0,
        "lda_head": recipe.discriminant is not None,
        "branches": recipe.branches,
        "hidden_size": recipe.hidden_size,
        "head_dropout": recipe.dropout,
        "statistics_dropout": recipe.statistics_dropout,
        "standardised": recipe.frozen == "all",
        "speaker_trust": recipe.speaker.trust if recipe.speaker else 0.0,
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
    for module in (*student.branches.values(), student.head):
        for layer in module.children():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    if student.config.lda_head:
        # What the branches add to the LDA head is 0 at first.
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

"""Make an untrained student from a recipe: random, or on the first blocks of a pretrained Whisper encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, WhisperModel

from distill.recipe import RandomEncoder
from distill.recipe import Student as StudentRecipe
from distill.student import Student, StudentConfig
from edge_runtime.errors import EdgeemoError, WrongUseError

_ENCODER_KEYS = (
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "num_mel_bins",
    "max_source_positions",
    "activation_function",
    "dropout",
    "attention_dropout",
    "activation_dropout",
)


def build_student(
    recipe: StudentRecipe, labels: tuple[str, ...], *, linguistic_size: int | None, prosodic_size: int | None
) -> Student:
    """Return an untrained student.

    Args:
        recipe: the student's table of the recipe.
        labels: class names.
        linguistic_size: size of the linguistic teacher's embedding, if there is one.
        prosodic_size: size of the prosodic teacher's embedding, if there is one.

    Raises:
        EdgeemoError: the encoder cannot be loaded.
        WrongUseError: the encoder is of another family, or has fewer layers than asked for.
    """
    sizes: dict[str, Any] = {
        "labels": list(labels),
        "linguistic_size": linguistic_size or recipe.linguistic_size,
        "prosodic_size": prosodic_size or recipe.prosodic_size,
        "hidden_size": recipe.hidden_size,
        "head_dropout": recipe.dropout,
    }
    if recipe.random is not None:
        student = Student(StudentConfig(encoder=_random_encoder(recipe.random), **sizes))
    else:
        assert recipe.encoder is not None
        student = _pretrained(recipe.encoder, recipe.layers, sizes)
    _start_head(student)
    return student


def _start_head(student: Student) -> None:
    """Start branches and head with PyTorch's own initialisation.

    Transformers draws every weight with a deviation of 0.02, which suits wide models; four small layers of it in a row
    give logits of 1e-5 and a slow start.
    """
    for module in (student.linguistic, student.prosodic, student.head):
        for layer in module:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()


def _random_encoder(recipe: RandomEncoder) -> dict[str, Any]:
    return {
        "d_model": recipe.d_model,
        "encoder_layers": recipe.layers,
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


def _pretrained(name: str, layers: int | None, sizes: dict[str, Any]) -> Student:
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        where = (
            "is no model directory" if Path(name).exists() else "is neither a directory nor a model that the hub gives"
        )
        raise EdgeemoError(f"student.encoder: '{name}' {where}") from error
    if config.model_type != "whisper":
        raise WrongUseError(f"student.encoder: '{name}' is of the family '{config.model_type}'; supported: whisper")
    keep = layers or config.encoder_layers
    if keep > config.encoder_layers:
        raise WrongUseError(f"student.layers: '{name}' has {config.encoder_layers} layers, not {keep}")
    settings = {key: getattr(config, key) for key in _ENCODER_KEYS} | {"encoder_layers": keep}
    student = Student(StudentConfig(encoder=settings, **sizes))
    try:
        source = WhisperModel.from_pretrained(name, dtype="float32").encoder
    except (OSError, ValueError) as error:
        raise EdgeemoError(f"student.encoder: '{name}' holds no weights that can be loaded") from error
    student.encoder.load_state_dict(source.state_dict(), strict=False)
    if keep < config.encoder_layers:
        # The last norm was learnt for the last layer; after an earlier one it starts afresh.
        nn.init.ones_(student.encoder.layer_norm.weight)
        nn.init.zeros_(student.encoder.layer_norm.bias)
    return student

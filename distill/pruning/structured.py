"""Structured pruning with distillation, before training: a pretrained frozen encoder to the sizes that a recipe states.

`[student.pruning]` fixes how many units of each group stay. Those with the largest importance are kept, least squares
fits what reads them, and the pruned encoder may then be trained to match the original one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from transformers import set_seed

from distill.corpus import Utterance
from distill.encoders.interface import SpeechEncoder
from distill.encoders.units import Units
from distill.pruning.importance import importance
from distill.pruning.matching import EncoderMatching
from distill.pruning.reconstruct import reconstruct
from distill.recipe import Recipe, StructuredPruning
from distill.scoring import outputs_of
from distill.speech.audio_data import Windows, collate_windows
from distill.speech.spread_windows import spread_windows
from distill.student import Student
from distill.training import processes
from distill.training.loop import Task, fit
from edge_runtime.errors import WrongUseError
from edge_runtime.files import replacing

WEIGHTS = "pruned.safetensors"


def prune_encoder(
    original: Student, recipe: Recipe, labels: Sequence[str], train: Sequence[Utterance], folder: Path
) -> SpeechEncoder:
    """Return the pruned encoder of an untrained student; the student stays as it is.

    Args:
        original: an untrained student with the original encoder.
        recipe: sizes and training of the pruned encoder.
        labels: class names.
        train: training utterances; their labels are not used.
        folder: where checkpoints and the finished weights go; an interrupted run continues from there.

    Raises:
        WrongUseError: the encoder has fewer units than are to stay, or its frames cannot be left out.
        EdgeemoError: a file cannot be read, or a checkpoint cannot be written.
    """
    how = recipe.student.pruning
    assert how is not None
    original = copy.deepcopy(original).eval()
    weights = folder / WEIGHTS
    if weights.is_file():
        resize_encoder(original, how)
        original.encoder.load_state_dict(load_file(weights))
        return original.encoder
    original.encoder.thin(how.every)
    encoder: SpeechEncoder = copy.deepcopy(original.encoder)
    windows = list(spread_windows(train, recipe.window, how.windows))
    measured = importance(original, windows, recipe.seed, trained=False)
    kept = {
        group.name: np.sort(np.argsort(-measured[group.name], kind="stable")[:size]).tolist()
        for group, size in _wanted_sizes(encoder, how)
    }
    encoder.keep(kept)
    reconstruct(original.encoder, encoder, windows, kept)
    if how.training is not None:
        set_seed(recipe.seed)
        deviation = outputs_of(original, windows)[1].clone().std(dim=0)
        encoder.requires_grad_(True)
        layers, frames = recipe.student.pooled_layers, recipe.student.pooled_frames
        fit(
            EncoderMatching(encoder, original.encoder, layers, frames, deviation),
            Windows(train, labels, recipe.window, seed=recipe.seed, augmentation=recipe.student.augmentation),
            None,
            Task("pruned encoder", collate_windows, how.training, recipe.seed, folder),
        )
        encoder.cpu().eval()

    def save() -> None:
        with replacing(weights) as part:
            save_file(encoder.state_dict(), part)

    processes.by_first(save)
    encoder.requires_grad_(False)
    return encoder


def resize_encoder(student: Student, recipe: StructuredPruning) -> None:
    """Give a student's encoder the sizes of the recipe, with the first units of each group.

    Raises:
        WrongUseError: the encoder has fewer units than are to stay, or its frames cannot be left out.
    """
    encoder = student.encoder
    encoder.thin(recipe.every)
    encoder.keep({group.name: range(size) for group, size in _wanted_sizes(encoder, recipe)})
    student.config.encoder = encoder.settings


def _wanted_sizes(encoder: SpeechEncoder, recipe: StructuredPruning) -> list[tuple[Units, int]]:
    """Return how many units of each group stay.

    Raises:
        WrongUseError: more than there are.
    """
    found = []
    for group in encoder.units():
        size = getattr(recipe, group.kind)
        if size is not None and size > group.count:
            raise WrongUseError(f"student.pruning.{group.kind}: {group.name} has {group.count}, not {size}")
        found.append((group, group.count if size is None else size))
    return found

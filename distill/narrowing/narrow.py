"""Make a pretrained encoder narrower: choose units, fit what reads them anew, and let it learn from the wide one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from transformers import set_seed

from distill.corpus import Utterance
from distill.encoders.interface import SpeechEncoder
from distill.narrowing.importance import importance, outputs_of
from distill.narrowing.likeness import Likeness
from distill.narrowing.reconstruct import reconstruct
from distill.narrowing.shape import shape_narrow, wanted_sizes
from distill.recipe import Recipe
from distill.speech.audio_data import Windows, collate_windows
from distill.speech.spread_windows import spread_windows
from distill.student import Student
from distill.training import processes
from distill.training.loop import Task, fit
from edge_runtime.files import replacing

WEIGHTS = "narrow.safetensors"


def narrow(
    wide: Student, recipe: Recipe, labels: Sequence[str], learnt: Sequence[Utterance], folder: Path
) -> SpeechEncoder:
    """Return a narrower encoder, its weights chosen and taught; the student stays as it is.

    Args:
        wide: an untrained student with the wide encoder, all frames of it.
        recipe: says how narrow, and how it is taught.
        labels: class names.
        learnt: training utterances; their labels are not used.
        folder: where checkpoints and the finished weights go; a run that was stopped goes on from there.

    Raises:
        WrongUseError: it has fewer units than are to stay, or its frames cannot be left out.
        EdgeemoError: a file cannot be read, or a checkpoint cannot be written.
    """
    how = recipe.student.narrow
    assert how is not None
    teacher: Student = copy.deepcopy(wide).eval()
    weights = folder / WEIGHTS
    if weights.is_file():
        shape_narrow(teacher, how)
        teacher.encoder.load_state_dict(load_file(weights))
        return teacher.encoder
    teacher.encoder.thin(how.every)
    encoder: SpeechEncoder = copy.deepcopy(teacher.encoder)
    windows = list(spread_windows(learnt, recipe.window, how.windows))
    measured = importance(teacher, windows, recipe.seed, decided=False)
    kept = {
        group.name: np.sort(np.argsort(-measured[group.name], kind="stable")[:size]).tolist()
        for group, size in wanted_sizes(encoder, how)
    }
    encoder.keep(kept)
    reconstruct(teacher.encoder, encoder, windows, kept)
    if how.training is not None:
        set_seed(recipe.seed)
        deviation = outputs_of(teacher, windows)[1].clone().std(dim=0)
        encoder.requires_grad_(True)
        fit(
            Likeness(encoder, teacher.encoder, recipe.student.pooled_layers, recipe.student.pooled_frames, deviation),
            Windows(learnt, labels, recipe.window, seed=recipe.seed, augmentation=recipe.student.augmentation),
            None,
            Task("narrow encoder", collate_windows, how.training, recipe.seed, folder),
        )
        encoder.cpu().eval()

    def save() -> None:
        with replacing(weights) as part:
            save_file(encoder.state_dict(), part)

    processes.by_first(save)
    encoder.requires_grad_(False)
    return encoder

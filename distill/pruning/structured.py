"""Structured pruning and distillation of an encoder, before a classifier is fitted to its statistics.

`[student.pruning]` fixes how many units of each group stay. Those with the largest importance are kept, least squares
fits what reads them, and the pruned encoder may then be trained to match the original one, whose deeper layers it can
match too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import set_seed

from distill.caching.contents import contents_of
from distill.caching.source_digest import source_digest
from distill.corpus import Utterance
from distill.encoders.interface import SpeechEncoder
from distill.encoders.units import Units
from distill.pruning.importance import importance
from distill.pruning.matching import EncoderMatching
from distill.pruning.reconstruct import reconstruct
from distill.pruning.teacher_states import SOURCES, TeacherStates, teacher_states
from distill.recipe import EncoderDistillation, Recipe, StructuredPruning
from distill.speech.degraded_speech import DegradedSpeech, Voices, collate_pairs
from distill.speech.spread_windows import spread_windows
from distill.student import Student
from distill.training import processes
from distill.training.frozen_statistics import augmentation_facts, digest_of_weights
from distill.training.loop import Task, fit
from edge_runtime import __version__
from edge_runtime.engines.chunks import LEAD
from edge_runtime.errors import WrongUseError
from edge_runtime.files import digest_of, locked, replacing

WEIGHTS = "pruned.safetensors"
_MEASURED = 400
"""Utterances that mean and deviation of the teacher's states are measured on."""


def prune_encoder(
    original: Student,
    teacher: SpeechEncoder,
    recipe: Recipe,
    train: Sequence[Utterance],
    corpora: Sequence[Sequence[Utterance]],
    folder: Path,
    cache: Path,
) -> SpeechEncoder:
    """Return the pruned and distilled encoder of an untrained student; the student stays as it is.

    Args:
        original: an untrained student with the first blocks of the original encoder.
        teacher: the original encoder, up to the deepest layer to match.
        recipe: sizes and training of the pruned encoder.
        train: training utterances; their labels are not used.
        corpora: all utterances of each corpus, so that the teacher's states are computed once for all folds.
        folder: where checkpoints and the finished weights go; an interrupted run continues from there.
        cache: directory of the cache, for the teacher's states.

    Raises:
        WrongUseError: the encoder has fewer units than are to stay, or its frames cannot be left out.
        EdgeemoError: a file cannot be read, or a checkpoint cannot be written.
    """
    how = recipe.student.pruning
    assert how is not None
    original = copy.deepcopy(original).eval()
    if recipe.distils_on_unlabelled_alone:
        # The same encoder in all folds: the first one trains it, the others wait and load it.
        folder = cache / "encoders" / _digest(teacher, recipe, train)
    with locked(folder / "encoder.lock") if processes.rank() == 0 else nullcontext():
        weights = folder / WEIGHTS
        if weights.is_file():
            resize_encoder(original, how)
            original.encoder.load_state_dict(load_file(weights))
            return original.encoder
        original.encoder.thin(how.every)
        encoder = _with_fewer_units(original, recipe, train)
        if how.distillation is not None:
            _distil(encoder, teacher, recipe, how.distillation, train, corpora, folder, cache)

        def save() -> None:
            with replacing(weights) as part:
                save_file(encoder.state_dict(), part)

        processes.by_first(save)
    encoder.requires_grad_(False)
    return encoder


def _digest(teacher: SpeechEncoder, recipe: Recipe, utterances: Sequence[Utterance]) -> str:
    student = recipe.student
    return digest_of(
        {
            "weights": digest_of_weights(teacher),
            "pruning": student.pruning and student.pruning.model_dump(mode="json"),
            "layers": [student.layers, *student.pooled_layers],
            "frames": list(student.pooled_frames),
            "augmentation": augmentation_facts(student.augmentation),
            "window": recipe.window.model_dump(mode="json"),
            "seed": recipe.seed,
            "utterances": list(zip(contents_of(utterances), [item.speaker for item in utterances], strict=True)),
            "versions": [__version__, torch.__version__, transformers.__version__],
            "code": source_digest("distill.pruning", "distill.training.loop", *SOURCES),
        },
        24,
    )


def _with_fewer_units(original: Student, recipe: Recipe, train: Sequence[Utterance]) -> SpeechEncoder:
    """Return the encoder with the units that stay, and with what reads them fitted by least squares."""
    how = recipe.student.pruning
    assert how is not None
    encoder: SpeechEncoder = copy.deepcopy(original.encoder)
    wanted = _wanted_sizes(encoder, how)
    if all(group.count == size for group, size in wanted):
        return encoder
    windows = list(spread_windows(train, recipe.window, how.windows))
    measured = importance(original, windows, recipe.seed, trained=False)
    kept = {
        group.name: np.sort(np.argsort(-measured[group.name], kind="stable")[:size]).tolist() for group, size in wanted
    }
    encoder.keep(kept)
    reconstruct(original.encoder, encoder, windows, kept)
    return encoder


def _distil(
    encoder: SpeechEncoder,
    teacher: SpeechEncoder,
    recipe: Recipe,
    how: EncoderDistillation,
    train: Sequence[Utterance],
    corpora: Sequence[Sequence[Utterance]],
    folder: Path,
    cache: Path,
) -> None:
    """Train the pruned encoder in place."""
    student = recipe.student
    assert student.pruning is not None
    voices = Voices(how.voices, student.augmentation.speed, recipe.window.segment, recipe.seed)
    layers, frames, every = how.layers or student.pooled_layers, student.pooled_frames, student.pruning.every
    lead = LEAD if encoder.chunk_samples else 0
    each = [teacher_states(teacher, layers, frames, every, items, voices, cache, lead) for items in corpora]
    where = {item.path: states for states, items in zip(each, corpora, strict=True) for item in items}
    before = copy.deepcopy(encoder.state_dict())
    set_seed(recipe.seed)
    matching = EncoderMatching(
        encoder.requires_grad_(True), layers, frames, *_moments(train, where, len(layers), len(frames))
    )
    data = DegradedSpeech(
        train,
        lambda item, voice: where[item.path].of(item, voice),
        how.voices,
        student.augmentation,
        how.clean_share,
        recipe.seed,
    )
    lengths = np.array([item.seconds for item in train])
    task = Task("distilled encoder", collate_pairs, how.training, recipe.seed, folder, lengths=lengths)
    with _blocks_in_bfloat16(encoder) if how.bfloat16 else nullcontext():
        fit(matching, data, None, task)
    encoder.cpu().eval()
    if how.interpolation < 1:
        after = encoder.state_dict()
        encoder.load_state_dict({name: torch.lerp(before[name], after[name], how.interpolation) for name in after})


@contextmanager
def _blocks_in_bfloat16(encoder: SpeechEncoder) -> Iterator[None]:
    """Compute the matrix products of the blocks in bfloat16 while the block runs; what lies before them is too fine."""
    for block in encoder.blocks:
        block.forward = _in_bfloat16(block.forward)
    try:
        yield
    finally:
        for block in encoder.blocks:
            del block.forward  # the one of its class again


def _in_bfloat16(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(hidden: Tensor, *arguments: Any, **options: Any) -> Tensor:
        with torch.autocast(hidden.device.type, torch.bfloat16):
            return forward(hidden, *arguments, **options)

    return run


def _moments(
    train: Sequence[Utterance], where: dict[Path, TeacherStates], layers: int, frames: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and deviation ``[D]`` of the teacher's states, and the deviation of their means over time."""
    chosen = [train[number] for number in np.linspace(0, len(train) - 1, min(len(train), _MEASURED)).astype(int)]
    targets = [where[item.path].of(item, 0) for item in chosen]
    total = sum(target.states.astype(np.float64).sum(axis=0) for target in targets)
    squares = sum(np.square(target.states.astype(np.float64)).sum(axis=0) for target in targets)
    count = sum(len(target.states) for target in targets)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    means = np.stack([target.statistics for target in targets]).reshape(len(targets), layers, frames, -1)
    spread = means[:, :, 0].reshape(len(targets), -1).std(axis=0)
    found = (mean, deviation, spread)
    return tuple(torch.from_numpy(np.asarray(values)).float() for values in found)  # type: ignore[return-value]


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

"""What a frozen speech encoder makes of whole utterances: mean and deviation over time of every layer, cached."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.build_student import build_student
from distill.features import Matrix, extract_with
from distill.huggingface import only_errors
from distill.recipe import Schedule
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from edge_runtime.audio import SAMPLE_RATE, read_audio

LONGEST = 30 * SAMPLE_RATE
"""Samples that an encoder of the Whisper family takes; the rest of a longer utterance is not heard."""

STATISTICS_CODE = 1
"""Raise it with every change to the features, so that cached ones of before are not taken."""


def extract_statistics(
    paths: Sequence[Path],
    encoder: str,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Compute the statistics of audio files as `distill.features.extract` computes descriptors.

    Args:
        paths: audio files.
        encoder: Hugging Face name or path.
        cache: directory of the cache.
        workers: processes; the number of cores if not given.
        progress: called after each file.

    Returns:
        One ``.npy`` path a file, holding float32 ``[layers, 2 * width]``.

    Raises:
        EdgeemoError: the encoder cannot be loaded, or a file cannot be read.
    """
    folder = cache / f"encoder-statistics-{_fingerprint(_load(encoder))}"
    return extract_with(_Statistics(encoder), paths, folder, workers=workers, progress=progress)


def layer_statistics(student: Student, pcm: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation over time of every encoder block's output, ``[S]`` to ``[layers, 2 * width]``.

    The one place that knows where a student keeps its encoder's blocks.
    """
    heard: list[torch.Tensor] = []

    def hear(_module: torch.nn.Module, _given: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        deviation, mean = torch.std_mean(hidden, dim=1, correction=0)
        heard.append(torch.cat([mean, deviation], dim=1))

    handles = [block.register_forward_hook(hear) for block in student.encoder.layers]
    try:
        student(pcm.unsqueeze(0))
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(heard)


@dataclass(frozen=True)
class _Statistics:
    """A function from a path to the statistics that a worker process can be sent."""

    encoder: str

    def __call__(self, path: Path) -> Matrix:
        torch.set_num_threads(1)  # the files are what runs in parallel
        with torch.inference_mode():
            return layer_statistics(_load(self.encoder), torch.from_numpy(read_audio(path)[:LONGEST])).numpy()


@functools.cache
def _load(encoder: str) -> Student:
    only_errors()
    # The heads are not used.
    recipe = StudentRecipe(encoder=encoder, training=Schedule(epochs=1, learning_rate=1.0))
    student = build_student(recipe, ("one", "other"), linguistic_size=None, prosodic_size=None)
    student.eval()
    return student


def _fingerprint(student: Student) -> str:
    digest = hashlib.sha256(f"{STATISTICS_CODE}".encode())
    for name, values in sorted(student.encoder.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(values.numpy()).tobytes())
    return digest.hexdigest()[:16]

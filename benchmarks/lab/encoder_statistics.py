"""Features of the probe: mean and deviation over time of every layer of a frozen speech encoder, for whole utterances.

Not those of `distill.training.frozen_statistics`, which are of a student's windows, with augmentation: these are of
whole audio files, each alone and without padding, and published figures of the probe are computed from them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from distill.caching.per_file import Matrix, extract_with
from distill.caching.source_digest import AUDIO, source_digest
from distill.encoders.interface import SpeechEncoder
from distill.encoders.load import load_encoder
from distill.encoders.pooling import statistics
from distill.training.huggingface import only_errors
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio

LONGEST = 30 * SAMPLE_RATE
"""Samples that an encoder of the Whisper family takes; the rest of a longer utterance is left out."""

SOURCES = (__name__, "distill.encoders", *AUDIO)
"""The code that the features depend on: they are computed again after a change to it."""


def extract_statistics(
    paths: Sequence[Path],
    encoder: str,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Compute the statistics of audio files as `distill.teachers.egemaps.extract` computes descriptors.

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


def layer_statistics(encoder: SpeechEncoder, pcm: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation over time of each block's raw output, ``[S]`` to ``[layers, 2 * width]``."""
    states, _ = encoder(pcm.unsqueeze(0))
    return torch.cat([statistics(state, None) for state in states[1:]])


@dataclass(frozen=True)
class _Statistics:
    """A function from a path to the statistics that a worker process can be sent."""

    encoder: str

    def __call__(self, path: Path) -> Matrix:
        torch.set_num_threads(1)  # the files are what runs in parallel
        with torch.inference_mode():
            return layer_statistics(_load(self.encoder), torch.from_numpy(read_audio(path)[:LONGEST])).numpy()


@functools.cache
def _load(encoder: str) -> SpeechEncoder:
    only_errors()
    return load_encoder(encoder, None, "probe").eval()


def _fingerprint(encoder: SpeechEncoder) -> str:
    digest = hashlib.sha256(source_digest(*SOURCES).encode())
    for name, values in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(values.numpy()).tobytes())
    return digest.hexdigest()[:16]

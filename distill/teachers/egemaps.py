"""openSMILE's eGeMAPS of whole utterances: low-level descriptors and functionals, cached by the content of the file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from distill.caching.per_file import Matrix, extract_with
from distill.caching.source_digest import AUDIO, source_digest
from edge_runtime.errors import EdgeemoError, missing_extra
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio

SOURCES = (__name__, *AUDIO)
"""The code that the features depend on: a change to it computes them again."""

DESCRIPTORS = (
    "Loudness", "alphaRatio", "hammarbergIndex", "slope0-500", "slope500-1500", "spectralFlux",
    "mfcc1", "mfcc2", "mfcc3", "mfcc4",
    "F0semitoneFrom27.5Hz", "jitterLocal", "shimmerLocaldB", "HNRdBACF", "logRelF0-H1-H2", "logRelF0-H1-A3",
    "F1frequency", "F1bandwidth", "F1amplitudeLogRelF0",
    "F2frequency", "F2bandwidth", "F2amplitudeLogRelF0",
    "F3frequency", "F3bandwidth", "F3amplitudeLogRelF0",
)  # fmt: skip
"""The low-level descriptors of eGeMAPSv02 (Eyben et al. 2016) in openSMILE's order, one row every 10 ms."""

PROSODY = (
    "Loudness", "alphaRatio", "hammarbergIndex",
    "F0semitoneFrom27.5Hz", "jitterLocal", "shimmerLocaldB", "HNRdBACF", "logRelF0-H1-H2",
)  # fmt: skip
"""Descriptors of prosody: loudness, vocal effort, pitch, voice quality. Cepstra and formants, frame by frame, carry the
words as well: a network over all 25 recognises those of a small vocabulary."""


def extract(
    paths: Sequence[Path], cache: Path, *, workers: int | None = None, progress: Callable[[], None] = lambda: None
) -> list[Path]:
    """Compute the descriptors of audio files, in parallel, and return where each one's matrix lies.

    Args:
        paths: audio files.
        cache: directory of the cache; a file is named by the sha256 of the audio file.
        workers: processes; the number of cores if not given.
        progress: called after each file.

    Returns:
        One ``.npy`` path a file, holding float32 ``[T, 25]``.

    Raises:
        EdgeemoError: a file cannot be read, or is too short for openSMILE.
        MissingPartError: the package ``opensmile`` is not installed.
    """
    folder = cache / f"eGeMAPSv02-lld-{version('opensmile')}-{source_digest(*SOURCES)}"
    return extract_with(descriptors, paths, folder, workers=workers, progress=progress)


def extract_functionals(
    paths: Sequence[Path], cache: Path, *, workers: int | None = None, progress: Callable[[], None] = lambda: None
) -> list[Path]:
    """Compute the eGeMAPSv02 functionals of audio files as `extract` does: float32 ``[88]`` a file."""
    folder = cache / f"eGeMAPSv02-functionals-{version('opensmile')}-{source_digest(*SOURCES)}"
    return extract_with(functionals, paths, folder, workers=workers, progress=progress)


def descriptors(path: Path) -> Matrix:
    """Return the eGeMAPS low-level descriptors of one audio file, float32 ``[T, 25]``."""
    frame = _smile("LowLevelDescriptors").process_signal(read_audio(path), SAMPLE_RATE)
    if [name.partition("_sma3")[0] for name in frame.columns] != list(DESCRIPTORS):
        raise EdgeemoError("this openSMILE gives other descriptors than eGeMAPSv02; install opensmile>=2.5")
    return _finite(frame.to_numpy(dtype=np.float32), path)


def functionals(path: Path) -> Matrix:
    """Return the eGeMAPSv02 functionals of one audio file, float32 ``[88]``."""
    frame = _smile("Functionals").process_signal(read_audio(path), SAMPLE_RATE)
    return _finite(frame.to_numpy(dtype=np.float32)[0], path)


def _finite(matrix: Matrix, path: Path) -> Matrix:
    if not np.isfinite(matrix).all():
        raise EdgeemoError(f"{path}: is too short or too broken for openSMILE's descriptors")
    return np.asarray(matrix)


@functools.cache
def _smile(level: str) -> Any:
    try:
        import opensmile
    except ImportError as error:
        raise missing_extra("distill", "opensmile") from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=getattr(opensmile.FeatureLevel, level)
    )

"""openSMILE eGeMAPS low-level descriptors of whole utterances, computed once and cached by content."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import SAMPLE_RATE, read_audio
from edge_runtime.errors import EdgeemoError, missing_extra
from edge_runtime.files import replacing, sha256

DESCRIPTORS = 25
"""Low-level descriptors in eGeMAPSv02 (Eyben et al. 2016), one row every 10 ms."""

_SET = "eGeMAPSv02-lld"


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
    found = []
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for path in pool.map(functools.partial(_extract_one, cache=cache), paths, chunksize=8):
            found.append(path)
            progress()
    return found


def _extract_one(path: Path, cache: Path) -> Path:
    target = cache / _SET / f"{sha256(path)}.npy"
    if not target.is_file():
        matrix = descriptors(path)
        with replacing(target) as temporary:
            np.save(temporary, matrix)
    return target


def descriptors(path: Path) -> npt.NDArray[np.float32]:
    """Return the eGeMAPS low-level descriptors of one audio file, float32 ``[T, 25]``."""
    frame = _smile().process_signal(read_audio(path), SAMPLE_RATE)
    matrix = frame.to_numpy(dtype=np.float32)
    if not np.isfinite(matrix).all():
        raise EdgeemoError(f"{path}: is too short or too broken for openSMILE's descriptors")
    return np.asarray(matrix)


@functools.cache
def _smile() -> Any:
    try:
        import opensmile
    except ImportError as error:
        raise missing_extra("distill", "opensmile") from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
    )

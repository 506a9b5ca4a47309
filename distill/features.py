"""Features of whole utterances, computed once and cached by content: openSMILE's eGeMAPS."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.rows import write_array
from edge_runtime.errors import EdgeemoError, missing_extra
from edge_runtime.files import sha256
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio

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
"""Those that tell how something is said: loudness, vocal effort, pitch, voice quality. Cepstra and formants, frame by
frame, also tell what is said: a network over all 25 recognises the words of a small vocabulary."""

Matrix = npt.NDArray[np.float32]
_File = tuple[Path, Path]
"""Where the result belongs, and what it is of."""


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
    folder = cache / f"eGeMAPSv02-lld-{version('opensmile')}"
    return extract_with(descriptors, paths, folder, workers=workers, progress=progress)


def extract_functionals(
    paths: Sequence[Path], cache: Path, *, workers: int | None = None, progress: Callable[[], None] = lambda: None
) -> list[Path]:
    """Compute the eGeMAPSv02 functionals of audio files as `extract` does: float32 ``[88]`` a file."""
    folder = cache / f"eGeMAPSv02-functionals-{version('opensmile')}"
    return extract_with(functionals, paths, folder, workers=workers, progress=progress)


def extract_with(
    function: Callable[[Path], Matrix],
    paths: Sequence[Path],
    folder: Path,
    *,
    workers: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Apply a function to audio files, in processes of their own, where ``folder`` does not hold its result.

    Args:
        function: maps a path to an array; must be picklable.
        paths: audio files.
        folder: of the cache; its name must tell everything that changes the result. Files are named by the sha256 of
            the audio file.
        workers: processes; the number of cores if not given.
        progress: called after each file.

    Returns:
        One ``.npy`` path a file.
    """
    workers = workers or os.cpu_count() or 1
    # Threads do for what is known: hashing holds no lock, and a process starts for longer than it hashes a corpus.
    with ThreadPoolExecutor(workers) as threads:
        found = [folder / f"{content}.npy" for content in threads.map(sha256, paths)]
    # By its content, so that of equal files one is computed.
    missing = {target: path for target, path in zip(found, paths, strict=True) if not target.is_file()}
    for _ in range(len(paths) - len(missing)):
        progress()
    if missing:
        one = functools.partial(_extract_one, function=function)
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for _ in _in_order(pool, one, list(missing.items()), 16 * workers):
                progress()
    return found


def _in_order(
    pool: ProcessPoolExecutor, one: Callable[[_File], None], files: Sequence[_File], most: int
) -> Iterator[None]:
    """Yield as files are done, with ``most`` of them handed out at a time; ``pool.map`` would hand out all at once."""
    waiting: deque[Future[None]] = deque()
    for file in files:
        if len(waiting) == most:
            yield waiting.popleft().result()
        waiting.append(pool.submit(one, file))
    while waiting:
        yield waiting.popleft().result()


def _extract_one(file: _File, function: Callable[[Path], Matrix]) -> None:
    target, path = file
    write_array(target, function(path))


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

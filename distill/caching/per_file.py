"""One array of each audio file, cached by the file's content and computed in parallel processes."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill.caching.arrays import write_array
from edge_runtime.files import sha256

Matrix = npt.NDArray[np.float32]
_File = tuple[Path, Path]
"""File of the result, and the audio file."""


def extract_with(
    function: Callable[[Path], Matrix],
    paths: Sequence[Path],
    folder: Path,
    *,
    workers: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Apply a function to the audio files whose result is not in ``folder``, in parallel processes.

    Args:
        function: maps a path to an array; must be picklable.
        paths: audio files.
        folder: of the cache; its name must contain everything that changes the result. Files are named by the sha256
            of the audio file.
        workers: processes; the number of cores if not given.
        progress: called after each file.

    Returns:
        One ``.npy`` path a file.
    """
    workers = workers or os.cpu_count() or 1
    # Threads are enough to find cached files: hashing holds no lock, and starting a process takes longer.
    with ThreadPoolExecutor(workers) as threads:
        found = [folder / f"{content}.npy" for content in threads.map(sha256, paths)]
    # By content, so that equal files are computed once.
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

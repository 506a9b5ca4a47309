"""What is in audio files, sample by sample: decoded once, block by block, in parallel, and kept by content.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import BaseModel, ValidationError

from distill.caching.source_digest import AUDIO, source_digest
from distill.checks.fingerprint import Fingerprinter
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import sha256, write_text
from edge_runtime.sources.audio import mono_of
from edge_runtime.sources.decoding.audio_file import AudioFile
from edge_runtime.text import valid_unicode

SCAN = f"scan-{source_digest(__name__, Fingerprinter.__module__, *AUDIO)}"
"""Folder of the results in the cache: another one after a change to the code."""

FULL_SCALE = 0.999
"""Samples at or above this share of full scale count as clipped; a lossy codec moves them a little."""

FLAT = 4
"""So many equal samples in a row, loud ones, are a flat top: clipped before the level was lowered."""

_FLAT_LEVEL = 0.1
_BLOCK = 1 << 16
_FRAME_SECONDS = 0.025
_QUIETEST_DB = -120.0
_EDGE_SECONDS = 0.02
_FEW = 64
_STORED = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_")
"""How libsndfile's names of formats begin that store samples, FLAC's included."""


class AudioScan(BaseModel, extra="forbid", frozen=True):
    """One decoded file.

    Attributes:
        problem: why it cannot be used (unreadable, empty, samples that are not numbers), or empty.
        content: sha256 of the decoded samples and their rate: equal for equal sound, whatever the file format.
        identity: `content` where a file stores samples, so that they are the same on every machine; sha256 of the file
            for formats whose decoders differ in the last bits (MP3, Opus), and for files that cannot be decoded.
        fingerprint: of the sound, as `Fingerprint.encode` writes it.
        seconds: duration of what was decoded.
        peak: largest absolute sample, 1 is full scale.
        level_db: root mean square in dB of full scale.
        floor_db: the 10th percentile of the levels of 25 ms frames, in dB: the noise between the words.
        full_scale: share of samples at full scale.
        flat_tops: share of loud samples that lie in flat runs.
        first_db: level of the first 20 ms, in dB.
        last_db: level of the last 20 ms, in dB.
    """

    problem: str = ""
    content: str = ""
    identity: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    peak: float = 0.0
    level_db: float = _QUIETEST_DB
    floor_db: float = _QUIETEST_DB
    full_scale: float = 0.0
    flat_tops: float = 0.0
    first_db: float = _QUIETEST_DB
    last_db: float = _QUIETEST_DB


_State = tuple[Path, Path, int, int, int, int, int]
_SCANNED: dict[_State, AudioScan] = {}
"""What this process found, so that it hashes a file once."""


def scan(
    paths: Sequence[Path], cache: Path, *, workers: int | None = None, progress: Callable[[], None] = lambda: None
) -> list[AudioScan]:
    """Decode files and describe their audio; a file that was scanned before is only hashed.

    Within a process a file is hashed again only if its path, device, inode, size or times differ. Later processes hash
    it again: times may be set back, and hashing takes a hundredth of the time of decoding.

    Args:
        paths: audio files.
        cache: directory of the cache; a result is named by the sha256 of the file.
        workers: processes; the number of cores if not given.
        progress: called after each file.

    Returns:
        One result a file, in the order of ``paths``; for those that cannot be read, `AudioScan.problem` is set.
    """
    workers = workers or os.cpu_count() or 1
    found: list[AudioScan | None] = []
    missing: list[tuple[int, Path, Path]] = []
    # Threads do for what is known: hashing holds no lock, and a process starts for longer than it hashes a corpus.
    with ThreadPoolExecutor(workers) as threads:
        kept = threads.map(functools.partial(_known, cache=cache), paths)
        for path, (target, known) in zip(paths, kept, strict=True):
            if known is None:
                missing.append((len(found), path, target))
            else:
                progress()
            found.append(known)
    states = [_state(path, cache) for _, path, _ in missing]
    scanned = _scan_all([each[1:] for each in missing], workers)
    for (place, *_), state, result in zip(missing, states, scanned, strict=True):
        found[place] = result
        if state is not None:
            _SCANNED[state] = result
        progress()
    return [result for result in found if result is not None]


def _known(path: Path, cache: Path) -> tuple[Path, AudioScan | None]:
    """Return where the result for a file belongs, and the result if it lies there or the file cannot be opened."""
    state = _state(path, cache)
    if state is not None and state in _SCANNED:
        return cache, _SCANNED[state]
    try:
        target = cache / SCAN / f"{sha256(path)}.json"
    except OSError as error:
        return cache, AudioScan(problem=f"cannot be read ({error.strerror})")
    with contextlib.suppress(FileNotFoundError, ValidationError):  # what is damaged is made again
        found = AudioScan.model_validate_json(target.read_bytes())
        if state is not None:
            _SCANNED[state] = found
        return target, found
    return target, None


def _state(path: Path, cache: Path) -> _State | None:
    """Return what changes with a file: device, inode, size and times; None for a file that is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return cache, path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _scan_all(files: Sequence[tuple[Path, Path]], workers: int) -> Iterator[AudioScan]:
    if len(files) <= _FEW or workers == 1:
        yield from map(_scan_into, files)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_scan_into, files, chunksize=16)


def _scan_into(file: tuple[Path, Path]) -> AudioScan:
    path, target = file
    result = scan_file(path)
    if not result.content or not _stores_samples(path):
        result = result.model_copy(update={"identity": target.stem})
    write_text(target, result.model_dump_json())
    return result


def _stores_samples(path: Path) -> bool:
    """Return whether the format holds samples that every decoder gives alike."""
    try:
        return str(soundfile.info(os.fsencode(path)).subtype).startswith(_STORED)
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        return False


def scan_file(path: Path) -> AudioScan:
    """Decode one file, block by block, so that memory does not grow with its length."""
    try:
        with AudioFile(path) as file:
            return _scan_open(file)
    except EdgeemoError as error:
        return AudioScan(problem=error.message.removeprefix(f"{valid_unicode(str(path))}: "))


def _scan_open(file: AudioFile) -> AudioScan:
    rate = file.rate
    digest = hashlib.sha256(str(rate).encode())
    fingerprinter = Fingerprinter(rate)
    frame = max(1, round(rate * _FRAME_SECONDS))
    levels: list[npt.NDArray[np.float64]] = []
    edge = max(1, round(rate * _EDGE_SECONDS))
    first = last = np.zeros(0)
    samples, peak, energy, full, loud, flat = 0, 0.0, 0.0, 0, 0, 0
    for mono in _blocks(file, _BLOCK // frame * frame or frame):
        if file.ledger.replaced:
            return AudioScan(problem="holds samples that are not numbers (NaN or infinity)")
        digest.update(mono.tobytes())
        fingerprinter.add(mono)
        size = np.abs(mono)
        squares = mono.astype(np.float64) ** 2
        samples += len(mono)
        first = first if len(first) == edge else np.append(first, squares)[:edge]
        last = np.append(last, squares[-edge:])[-edge:]
        peak = max(peak, float(size.max(initial=0.0)))
        energy += float(squares.sum())
        full += int((size >= FULL_SCALE).sum())
        loud += int((size >= _FLAT_LEVEL).sum())
        flat += _flat(mono, size)
        whole = len(mono) // frame * frame
        if whole:
            levels.append(squares[:whole].reshape(-1, frame).mean(axis=1))
    if not samples:
        return AudioScan(problem="holds no samples")
    mean = energy / samples
    floor = float(np.percentile(np.concatenate(levels), 10)) if levels else mean
    return AudioScan(
        content=digest.hexdigest(),
        identity=digest.hexdigest(),
        fingerprint=fingerprinter.finish().encode(),
        seconds=samples / rate,
        peak=peak,
        level_db=_decibels(mean),
        floor_db=_decibels(floor),
        full_scale=full / samples,
        flat_tops=flat / loud if loud else 0.0,
        first_db=_decibels(float(first.mean())),
        last_db=_decibels(float(last.mean())),
    )


def _blocks(file: AudioFile, size: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the waveform at the rate of its first frames, in blocks of ``size`` samples and a shorter last one."""
    waiting: list[npt.NDArray[np.float32]] = []
    count = 0
    for rate, mono in mono_of(file):
        if rate != file.rate:
            raise EdgeemoError(f"{file.name}: changes its sample rate from {file.rate} to {rate} Hz; resample it")
        waiting.append(mono)
        count += len(mono)
        if count >= size:
            joined = np.concatenate(waiting)
            whole = len(joined) // size * size
            yield from np.split(joined[:whole], whole // size)
            waiting, count = [joined[whole:]], len(joined) - whole
    if count:
        yield np.concatenate(waiting)


def _flat(mono: npt.NDArray[np.float32], size: npt.NDArray[np.float32]) -> int:
    """Return how many loud samples lie in runs of `FLAT` or more equal ones."""
    if len(mono) < FLAT:
        return 0
    starts = np.flatnonzero(np.concatenate([[True], mono[1:] != mono[:-1]]))
    lengths = np.diff(np.append(starts, len(mono)))
    return int(lengths[(lengths >= FLAT) & (size[starts] >= _FLAT_LEVEL)].sum())


def _decibels(power: float) -> float:
    return max(_QUIETEST_DB, 10 * float(np.log10(power))) if power > 0 else _QUIETEST_DB

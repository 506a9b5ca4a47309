"""Directories of recorded noise, of room impulse responses and of speech for babble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.corpus import AUDIO_SUFFIXES
from distill.speech.acoustics import Floats, trimmed_response
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import sha256
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.decoding.audio_file import AudioFile


def sound_files(directory: Path) -> tuple[Path, ...]:
    """Return the audio files at any depth of a directory, in the order of their names.

    Raises:
        WrongUseError: there is no such directory, or it holds no audio.
        EdgeemoError: a file is not readable as audio.
    """
    if not directory.is_dir():
        raise WrongUseError(f"{directory}: there is no such directory of recordings; check the path")
    files = sorted(path for path in directory.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        raise WrongUseError(f"{directory}: holds no audio files; give a directory of recordings (WAV, FLAC, Ogg, MP3)")
    for path in files:
        AudioFile(path).close()
    return tuple(files)


def content_of(directories: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Return name and sha256 of each audio file of each directory, for the keys of caches.

    Raises:
        EdgeemoError: as `sound_files`.
    """
    return [
        [(path.relative_to(directory).as_posix(), sha256(path)) for path in sound_files(Path(directory))]
        for directory in directories
    ]


def read_response(path: Path) -> Floats:
    """Return a recorded room impulse response ``[taps]``, from the direct sound on, with energy 1.

    Raises:
        EdgeemoError: the file cannot be read, or is silent.
    """
    recorded = read_audio(path)
    if not np.abs(recorded).max():
        raise EdgeemoError(f"{path}: is silent, and no impulse response of a room; take it out of the directory")
    return trimmed_response(recorded)

"""Read an audio file as the one form that everything here works on: float32, mono, 16 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from edge_runtime.errors import EdgeemoError

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside edgeemo."""

_RATES = (1_000, 768_000)
_MOST_CHANNELS = 64

Pcm = npt.NDArray[np.float32]
"""Waveform in the range -1..1, shape ``[samples]``, mono, at `SAMPLE_RATE`."""


def to_mono(frames: npt.NDArray[np.float32]) -> Pcm:
    """Mix ``[samples, channels]`` (or ``[samples]``) down to ``[samples]`` by the mean of channels."""
    if frames.ndim == 1:
        return frames
    return np.asarray(frames.mean(axis=1), dtype=np.float32)


def check_format(name: str, rate: int, channels: int) -> None:
    """Check what a header claims, which sizes buffers, before anything is made of it.

    Raises:
        EdgeemoError: a sample rate or channel count that no recording has.
    """
    if not (_RATES[0] <= rate <= _RATES[1] and 1 <= channels <= _MOST_CHANNELS):
        raise EdgeemoError(
            f"{name}: says that it has {channels} channels at {rate} Hz; "
            f"{_RATES[0]} to {_RATES[1]} Hz and up to {_MOST_CHANNELS} channels are read"
        )


def unreadable(path: Path, error: Exception) -> str:
    """Return why libsndfile does not read a file, without the name that it repeats: "cannot be read as audio (...)"."""
    if path.is_file() and path.stat().st_size == 0:
        return "is an empty file"
    return f"cannot be read as audio ({getattr(error, 'error_string', error)})"


def read_audio(path: Path) -> Pcm:
    """Read a whole audio file, any rate and channel count that libsndfile knows.

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus), MP3 or any other format of libsndfile.

    Returns:
        Waveform of shape ``[samples]``, float32 in -1..1, mono, 16 kHz.

    Raises:
        EdgeemoError: the file is missing, is not audio, is empty, holds NaN or does not fit into memory.
    """
    if not path.is_file():
        raise EdgeemoError(f"{path}: there is no such audio file")
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            check_format(str(path), rate, file.channels)
            frames = file.read(dtype="float32", always_2d=True)
    except MemoryError as error:
        # The length is what a header claims.
        raise EdgeemoError(f"{path}: is longer than fits into memory") from error
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        # TypeError is what raw samples without a header raise.
        raise EdgeemoError(f"{path}: {unreadable(path, error)}") from error
    if len(frames) == 0:
        raise EdgeemoError(f"{path}: holds no samples")
    if not np.isfinite(frames).all():
        raise EdgeemoError(f"{path}: holds samples that are not numbers (NaN or infinity)")
    mono = to_mono(frames)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)
    return np.ascontiguousarray(mono)

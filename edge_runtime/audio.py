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

Pcm = npt.NDArray[np.float32]
"""Waveform in the range -1..1, shape ``[samples]``, mono, at `SAMPLE_RATE`."""


def to_mono(frames: npt.NDArray[np.float32]) -> Pcm:
    """Mix ``[samples, channels]`` (or ``[samples]``) down to ``[samples]`` by the mean of channels."""
    if frames.ndim == 1:
        return frames
    return np.asarray(frames.mean(axis=1), dtype=np.float32)


def read_audio(path: Path) -> Pcm:
    """Read a whole audio file, any rate and channel count that libsndfile knows.

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus), MP3 or any other format of libsndfile.

    Returns:
        Waveform of shape ``[samples]``, float32 in -1..1, mono, 16 kHz.

    Raises:
        EdgeemoError: the file is missing, is not audio, is empty or holds NaN.
    """
    if not path.is_file():
        raise EdgeemoError(f"{path}: there is no such audio file")
    try:
        frames, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise EdgeemoError(f"{path}: cannot be read as audio ({error})") from error
    if len(frames) == 0:
        raise EdgeemoError(f"{path}: holds no samples")
    if not np.isfinite(frames).all():
        raise EdgeemoError(f"{path}: holds samples that are not numbers (NaN or infinity)")
    mono = to_mono(frames)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)
    return np.ascontiguousarray(mono)

"""Audio files, and the form of all audio inside edgeemo: float32, mono, 16 kHz."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.channels import ChannelSelector

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside edgeemo."""

_RATES = (1_000, 768_000)
_MAX_CHANNELS = 64

Pcm = npt.NDArray[np.float32]
"""Waveform in the range -1..1, shape ``[samples]``, mono, at `SAMPLE_RATE`."""


def to_mono(frames: npt.NDArray[np.float32]) -> Pcm:
    """Mix ``[samples, channels]`` (or ``[samples]``) down to ``[samples]`` by the mean of channels."""
    if frames.ndim == 1:
        return frames
    return np.asarray(frames.mean(axis=1), dtype=np.float32)


def check_format(name: str, rate: int, channels: int) -> None:
    """Check a format before buffers are allocated for it.

    Raises:
        EdgeemoError: an implausible sample rate or channel count.
    """
    if not (_RATES[0] <= rate <= _RATES[1] and 1 <= channels <= _MAX_CHANNELS):
        raise EdgeemoError(
            f"{name}: has {channels} channels at {rate} Hz; {_RATES[0]} to {_RATES[1]} Hz and up to {_MAX_CHANNELS} "
            "channels are supported"
        )


def check_finite(name: str, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return frames without NaN and infinity, from which INT8 would compute a confident result.

    Raises:
        EdgeemoError: they hold NaN or infinity.
    """
    if not np.isfinite(frames).all():
        raise EdgeemoError(f"{name}: holds samples that are not numbers (NaN or infinity)")
    return frames


def unreadable(path: Path, error: Exception) -> str:
    """Return libsndfile's reason without the path that it repeats, as "cannot be read as audio (...)"."""
    if path.is_file() and path.stat().st_size == 0:
        return "is an empty file"
    return f"cannot be read as audio ({getattr(error, 'error_string', error)})"


def open_audio(path: Path) -> soundfile.SoundFile:
    """Open an audio file.

    Raises:
        EdgeemoError: the file is missing, is not audio, or has an implausible format.
    """
    if not path.is_file():
        raise EdgeemoError(f"{path}: there is no such audio file")
    try:
        # As bytes, since soundfile refuses names that are not UTF-8.
        file = soundfile.SoundFile(os.fsencode(path))
    except TypeError as error:
        # libsndfile needs the rate of a file whose name ends in ".raw".
        raise EdgeemoError(f"{path}: has no header; give raw 16-bit 16 kHz PCM by --source - < FILE") from error
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise EdgeemoError(f"{path}: {unreadable(path, error)}") from error
    check_format(str(path), file.samplerate, file.channels)
    return file


def read_audio(path: Path, channels: Channels = "auto") -> Pcm:
    """Read a whole audio file of any rate and channel count: WAV, FLAC, Ogg (Vorbis, Opus), MP3.

    The channels are chosen as while listening, from the beginning to the end, so that both hear the same.

    Returns:
        Waveform of shape ``[samples]``, float32 in -1..1, mono, 16 kHz.

    Raises:
        WrongUseError: ``channels`` names a channel that the file does not have.
        EdgeemoError: the file is missing, is not audio, is empty, holds NaN or does not fit into memory.
    """
    with open_audio(path) as file:
        rate = file.samplerate
        try:
            frames = file.read(dtype="float32", always_2d=True)
        except MemoryError as error:
            # The length is that of the header.
            raise EdgeemoError(f"{path}: is longer than fits into memory") from error
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise EdgeemoError(f"{path}: {unreadable(path, error)}") from error
    if len(frames) == 0:
        raise EdgeemoError(f"{path}: holds no samples")
    check_finite(str(path), frames)
    mono = ChannelSelector(channels, frames.shape[1], rate, str(path)).select(frames, last=True)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE).astype(np.float32)
    return np.ascontiguousarray(mono)

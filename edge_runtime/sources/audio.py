"""Audio files, and the form of all audio inside edgeemo: float32, mono, 16 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding.audio_file import AudioFile

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
    """Read a whole audio file of any format, rate and channel count (`edge_runtime.sources.decoding`).

    Files that were joined are read one after the other, whatever their rates.

    Returns:
        Waveform of shape ``[samples]``, float32, mono, 16 kHz; full scale is 1.

    Raises:
        EdgeemoError: the file is missing, is not audio, is empty, is damaged so that more than a second is missing,
            holds NaN or infinity, or does not fit into memory.
    """
    parts: list[tuple[int, list[npt.NDArray[np.float32]]]] = []
    with AudioFile(path) as file:
        try:
            for each in file.frames():
                if not parts or parts[-1][0] != each.rate:
                    parts.append((each.rate, []))
                parts[-1][1].append(to_mono(each.samples))
            waveform = np.concatenate([_resampled(np.concatenate(mono), rate) for rate, mono in parts])
        except MemoryError as error:
            raise EdgeemoError(f"{path}: is longer than fits into memory; cut it into shorter files") from error
        if file.ledger.replaced:
            # An INT8 graph computes a confident result from them, and training nothing at all.
            raise EdgeemoError(f"{path}: holds samples that are not numbers (NaN or infinity)")
    return np.ascontiguousarray(waveform)


def _resampled(mono: npt.NDArray[np.float32], rate: int) -> Pcm:
    if rate == SAMPLE_RATE:
        return mono
    return np.asarray(soxr.resample(mono, rate, SAMPLE_RATE), np.float32)

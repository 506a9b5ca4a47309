"""Audio files, and the form of all audio inside edgeemo: float32, mono, 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.channels import ChannelSelector
from edge_runtime.sources.decoding.audio_file import AudioFile
from edge_runtime.sources.low_frequencies import without_low_frequencies

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside edgeemo."""

Pcm = npt.NDArray[np.float32]
"""Waveform in the range -1..1, shape ``[samples]``, mono, at `SAMPLE_RATE`."""


def read_audio(path: Path, channels: Channels = "auto") -> Pcm:
    """Read a whole audio file of any format, rate and channel count (`edge_runtime.sources.decoding`).

    The channels are chosen as while listening, from the beginning on, so that both get the same samples. Files that
    were joined are read one after the other, whatever their rates and channels. A large offset and strong rumble are
    removed (`edge_runtime.sources.low_frequencies`).

    Returns:
        Waveform of shape ``[samples]``, float32, mono, 16 kHz; full scale is 1.

    Raises:
        WrongUseError: ``channels`` names a channel that the file does not have.
        EdgeemoError: the file is missing, is not audio, is empty, is damaged so that more than a second is missing,
            holds NaN or infinity, or does not fit into memory.
    """
    parts: list[tuple[int, list[npt.NDArray[np.float32]]]] = []
    with AudioFile(path) as file:
        try:
            for rate, mono in mono_of(file, channels):
                if not parts or parts[-1][0] != rate:
                    parts.append((rate, []))
                parts[-1][1].append(mono)
            waveform = np.concatenate([_resampled(np.concatenate(mono), rate) for rate, mono in parts])
        except MemoryError as error:
            raise EdgeemoError(f"{file.name}: is longer than fits into memory; cut it into shorter files") from error
        if file.ledger.replaced:
            # An INT8 graph computes a confident result from them, and training nothing at all.
            raise EdgeemoError(f"{file.name}: holds samples that are not numbers (NaN or infinity)")
    return np.ascontiguousarray(without_low_frequencies(waveform))


def mono_of(file: AudioFile, channels: Channels = "auto") -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield the rate and the samples ``[S]`` of the chosen channels of a file, part by part.

    Raises:
        WrongUseError: ``channels`` names a channel that the file does not have.
        EdgeemoError: audio is missing or damaged, after all that could be decoded.
    """
    selector: ChannelSelector | None = None
    rate, count = 0, 0
    for each in file.frames():
        found = each.samples.shape[1]
        if not len(each.samples):
            # Only shows that decoding failed.
            continue
        if selector is None or (rate, count) != (each.rate, found):
            if selector is not None:
                yield rate, selector.select(np.zeros((0, count), np.float32), last=True)
            selector = ChannelSelector(channels, found, each.rate, file.name)
            rate, count = each.rate, found
        yield rate, selector.select(each.samples)
    if selector is not None:
        yield rate, selector.select(np.zeros((0, count), np.float32), last=True)


def _resampled(mono: npt.NDArray[np.float32], rate: int) -> Pcm:
    if rate == SAMPLE_RATE:
        return mono
    return np.asarray(soxr.resample(mono, rate, SAMPLE_RATE), np.float32)

"""Recording for ``--record``: the only code in the runtime that writes audio to files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import soundfile

from edge_runtime.errors import EdgeemoError, next_step
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.interface import Block, Source

_FILE_SECONDS = 600
_LONGEST_GAP_SECONDS = 60


class RecordedSource:
    """A source whose audio is also written, to FLAC files of ten minutes that are named by their begin.

    Lost samples are written as silence, which keeps the sample clock; a long gap begins a new file. A new directory can
    be read by its owner only; one that exists keeps its mode.

    Raises:
        EdgeemoError: the directory cannot be made.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._file: soundfile.SoundFile | None = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EdgeemoError(
                f"{folder}: the directory of the recording cannot be made ({error.strerror}){next_step(error)}"
            ) from error

    @property
    def name(self) -> str:
        """Name of the source."""
        return self._source.name

    @property
    def live(self) -> bool:
        """Whether audio is lost when it is not taken in time."""
        return self._source.live

    def close(self) -> None:
        """End `blocks` soon."""
        self._source.close()

    def blocks(self) -> Iterator[Block]:
        """Write and yield the source's blocks.

        Raises:
            EdgeemoError: a block cannot be written, as on a full disk; a recording must not be incomplete unnoticed.
        """
        try:
            for block in self._source.blocks():
                try:
                    self._write(block)
                except (OSError, soundfile.LibsndfileError) as error:
                    raise EdgeemoError(
                        f"{self._folder}: the recording cannot be written ({error}); check that there is room"
                    ) from error
                yield block
        finally:
            self._end()

    def _write(self, block: Block) -> None:
        if block.lost > _LONGEST_GAP_SECONDS * SAMPLE_RATE:
            self._end()
        elif block.lost and self._file is not None:
            self._append(np.zeros(block.lost, np.float32))
        if len(block.pcm):
            self._append(block.pcm)

    def _append(self, pcm: Pcm) -> None:
        if self._file is None:
            name = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
            self._file = soundfile.SoundFile(
                os.fsencode(self._folder / f"{name}.flac"), "x", samplerate=SAMPLE_RATE, channels=1, subtype="PCM_16"
            )
        self._file.write(np.nan_to_num(pcm))
        if self._file.frames >= _FILE_SECONDS * SAMPLE_RATE:
            self._end()

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

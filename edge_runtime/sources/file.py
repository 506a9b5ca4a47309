"""An audio file as a source."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.channel_setting import Channels, check_channels
from edge_runtime.sources.conversion import converted
from edge_runtime.sources.decoding.audio_file import AudioFile
from edge_runtime.sources.decoding.raw import RawPcm
from edge_runtime.sources.interface import Block
from edge_runtime.text import valid_unicode


class FileSource:
    """An audio file of any format, rate and channel count.

    If paced, each block is yielded when a microphone would. That is also the time when it arrived, however late it is
    taken, so that the latency includes the delay of the listener.

    Args:
        path: the file.
        paced: whether it is played in real time.
        channels: which channels are used.
        raw: how to read a file without a header; no format is recognised then.

    Raises:
        WrongUseError: ``channels`` names a channel that the file does not have.
        EdgeemoError: the file is missing, is not audio, or is empty.
    """

    def __init__(
        self, path: Path, *, paced: bool = False, channels: Channels = "auto", raw: RawPcm | None = None
    ) -> None:
        self._file = AudioFile(path, raw)
        self.name = valid_unicode(str(path))
        try:
            check_channels(self.name, channels, self._file.channels)
        except WrongUseError:
            self._file.close()
            raise
        self.live = paced
        self._converted = converted(self._file.frames(), self._file.ledger, self.name, channels)
        self._reading = False

    def blocks(self) -> Iterator[Block]:
        """Yield the file in blocks of about 100 ms; called again after a pause, go on where the last call stopped.

        Raises:
            EdgeemoError: it is damaged, or audio is missing; after all blocks that could be decoded.
        """
        began, samples = time.monotonic(), 0
        while (block := self._next()) is not None:
            samples += len(block.pcm)
            if self.live and len(block.pcm):
                due = began + samples / SAMPLE_RATE
                time.sleep(max(0.0, due - time.monotonic()))
                block = block._replace(arrived=due, real_time=True)
            yield block

    def _next(self) -> Block | None:
        block = None
        self._reading = True
        try:
            block = next(self._converted, None)
        finally:
            self._reading = False
            if block is None:
                self._file.close()
        return None if self._file.closed else block

    def close(self) -> None:
        """End `blocks` at the next block."""
        if self._reading:
            # In a signal handler, while the decoder runs.
            self._file.closed = True
        else:
            self._file.close()

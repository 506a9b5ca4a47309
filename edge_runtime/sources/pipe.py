"""Standard input, named pipes and process substitution as audio sources."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.background import BackgroundSource
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.conversion import converted
from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.decode import Decoder
from edge_runtime.sources.decoding.raw import RawPcm
from edge_runtime.sources.interface import Block
from edge_runtime.text import valid_unicode


class PipeSource(BackgroundSource):
    """Standard input or a pipe: files of any format one after the other, or raw 16-bit little-endian PCM, 16 kHz, mono.

    A full pipe makes its writer wait, so nothing is lost.

    Args:
        stream: what to read; standard input by default.
        channels: which channels are used.
        raw: how to read bytes without a header; no format is recognised then.
        name: in messages.
    """

    def __init__(
        self,
        stream: BinaryIO | Callable[[], BinaryIO] | None = None,
        *,
        channels: Channels = "auto",
        raw: RawPcm | None = None,
        name: str = "standard input",
    ) -> None:
        super().__init__(name)
        self._stream = stream or _standard_input()
        self._channels = channels
        self._raw = raw

    def _read(self) -> Iterator[Block]:
        # Opening a named pipe waits for its writer.
        opened = self._stream() if callable(self._stream) else self._stream
        try:
            decoder = Decoder(ByteStream(opened, lambda: self._closed), self.name, raw=self._raw, bare=True)
            yield from converted(decoder.frames(), decoder.ledger, self.name, self._channels)
            if self._closed:
                return
            decoder.ledger.check(self.name)
            if not decoder.ledger.decoded:
                raise EdgeemoError(f"{self.name}: holds no samples")
        finally:
            if callable(self._stream):
                opened.close()


def open_pipe(path: Path, *, channels: Channels = "auto", raw: RawPcm | None = None) -> PipeSource:
    """Open a named pipe, ``/dev/stdin`` or what the shell makes of ``<(…)``."""

    def opened() -> BinaryIO:
        try:
            return cast("BinaryIO", path.open("rb", buffering=0))
        except OSError as error:
            raise EdgeemoError(f"{path}: cannot be read ({error.strerror}); check who may read it") from error

    return PipeSource(opened, channels=channels, raw=raw, name=valid_unicode(str(path)))


def _standard_input() -> BinaryIO:
    """Return standard input without the buffer of `sys.stdin`, whose lock aborts the interpreter while a read waits.

    Raises:
        WrongUseError: it is a terminal.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise WrongUseError("--source - reads standard input, which is a terminal or closed; pipe audio into it")
    return cast("BinaryIO", open(sys.stdin.fileno(), "rb", buffering=0, closefd=False))

"""Decoded frames to blocks of 16 kHz mono, over changes of rate and of the number of channels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.decoding.ledger import Frames, Ledger
from edge_runtime.sources.interface import BLOCK_SECONDS, Block, Converter, bad_audio

_SIZE = round(BLOCK_SECONDS * SAMPLE_RATE)


def converted(frames: Iterable[Frames], ledger: Ledger, name: str, channels: Channels = "auto") -> Iterator[Block]:
    """Yield blocks of 16 kHz mono, and an empty block for each notice of the ledger.

    `Converter.convert` is the one place where channels become one. Each change of the rate or of the number of channels
    begins a new choice of channels.

    Raises:
        WrongUseError: ``channels`` names a channel that the audio does not have.
    """
    part: _Part | None = None
    reported = 0
    for each in frames:
        for what in ledger.notices[reported:]:
            yield bad_audio(name, what)
        reported = len(ledger.notices)
        if not len(each.samples):
            # Only brings the notices.
            continue
        form = each.rate, each.samples.shape[1]
        if part is not None and part.form != form:
            yield from part.end()
            part = None
        if part is None:
            part = _Part(form, channels, name)
        yield from part.take(each)
    if part is not None:
        yield from part.end()
    for what in ledger.notices[reported:]:
        yield bad_audio(name, what)


class _Part:
    """Consecutive audio of one rate and number of channels."""

    def __init__(self, form: tuple[int, int], channels: Channels, name: str) -> None:
        self.form = form
        self._converter = Converter(form[0], channels, name)
        self._replaced = False

    def take(self, frames: Frames) -> Iterator[Block]:
        yield from self._blocks(self._converter.convert(frames.samples), frames.replaced)

    def end(self) -> Iterator[Block]:
        """Yield what the choice of channels and the resampler still hold."""
        yield from self._blocks(self._converter.convert(np.zeros((0, self.form[1]), np.float32), last=True), False)

    def _blocks(self, pcm: Pcm, replaced: bool) -> Iterator[Block]:
        replaced_here = replaced or self._replaced
        # Samples of several channels are held back for a while.
        self._replaced = replaced and self.form[1] > 1 if len(pcm) else replaced_here
        if not len(pcm):
            return
        notice = self._converter.notice()
        # The choice of channels holds back the first second, which no listener shall get at once.
        cuts = range(_SIZE, len(pcm), _SIZE) if len(pcm) >= 2 * _SIZE else ()
        for piece in np.split(pcm, cuts):
            yield Block(piece, 0, time.monotonic(), notice, replaced_here)
            notice = None

"""Decoded frames to blocks of 16 kHz mono, over changes of rate and of the number of channels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np

from edge_runtime.sources.decoding.ledger import Frames, Ledger
from edge_runtime.sources.interface import Block, Converter, bad_audio


def converted(frames: Iterable[Frames], ledger: Ledger, name: str) -> Iterator[Block]:
    """Yield blocks of 16 kHz mono, and an empty block for each notice of the ledger.

    `Converter.convert` is the one place where channels become one.
    """
    converter: Converter | None = None
    rate, reported = 0, 0
    for each in frames:
        for what in ledger.notices[reported:]:
            yield bad_audio(name, what)
        reported = len(ledger.notices)
        if converter is not None and each.rate != rate:
            yield from _rest(converter)
            converter = None
        if converter is None:
            converter, rate = Converter(each.rate), each.rate
        pcm = converter.convert(each.samples)
        if len(pcm):
            yield Block(pcm, 0, time.monotonic(), replaced=each.replaced)
    if converter is not None:
        yield from _rest(converter)
    for what in ledger.notices[reported:]:
        yield bad_audio(name, what)


def _rest(converter: Converter) -> Iterator[Block]:
    """Yield what the resampler still holds."""
    pcm = converter.convert(np.zeros((0, 1), np.float32), last=True)
    if len(pcm):
        yield Block(pcm, 0, time.monotonic())

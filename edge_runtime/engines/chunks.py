"""Windows in chunks: each second is encoded once, however many windows it belongs to (`WindowPolicy.chunk_seconds`).

The graph of such a bundle takes a chunk, with the `LEAD` samples before it, and what it returned for the chunk before
(``past``; zeros for the first chunk), and returns logits and statistics of the window up to the end of the chunk. So a
window may be scored as it grows (`Begun`), and its result is that of the window scored as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from edge_runtime.sources.audio import Pcm

LEAD = 240
"""Samples before a chunk that its first frames begin in (25 ms, every 10 ms): a chunk of n hops has n frames."""
REST = 800
"""A shorter rest of a window, after the first chunk, is left out: too few frames to encode."""
PAST, NEXT = "past", "next"
"""The graph's further input and output."""
CHUNK_KEY = "edgeemo.chunk_samples"
"""The graph's metadata that holds the length of a chunk, without which it cannot be called."""

Result = TypeVar("Result")
Past = npt.NDArray[np.float32]


@dataclass
class Begun(Generic[Result]):
    """What an engine has of the whole chunks of a window, for other windows that begin with the same sample.

    Attributes:
        engine: that computed it; another engine begins again.
        chunks: of each, in order, the samples up to its end, what the graph passes on, and the result up to there.
    """

    engine: object = None
    chunks: list[tuple[int, Past, Result]] = field(default_factory=list)


def pieces(pcm: Pcm, chunk: int, start: int = 0) -> Iterator[tuple[int, Pcm]]:
    """Yield the end of each chunk from a sample on, and the chunk with the samples before it, ``[LEAD + S]``."""
    for at in range(start, len(pcm), chunk):
        end = min(at + chunk, len(pcm))
        if end - at < REST and at:
            return
        lead = np.zeros(max(0, LEAD - at), np.float32)
        yield end, np.concatenate([lead, pcm[max(0, at - LEAD) : end]])


def score_in_chunks(
    engine: object,
    step: Callable[[Pcm, Past | None], tuple[Result, Past]],
    pcm: Pcm,
    chunk: int,
    begun: Begun[Result],
) -> Result:
    """Score a window, of which some chunks may be scored already, and keep its whole chunks.

    It may be shorter than one before: speech ends some time before its end is certain.

    Args:
        engine: that ``step`` belongs to.
        step: runs the graph on a chunk of `pieces`; None stands for the zeros before the first chunk.
        pcm: ``[samples]``, from the first sample of the window on.
        chunk: samples of a chunk.
        begun: what is there already; changed.
    """
    if begun.engine is not engine:
        begun.engine, begun.chunks = engine, []
    start = 0
    past: Past | None = None
    result: Result | None = None
    for done in begun.chunks:
        if done[0] <= len(pcm):
            start, past, result = done
    for end, piece in pieces(pcm, chunk, start):
        result, past = step(piece, past)
        if not end % chunk:
            begun.chunks.append((end, past, result))
    assert result is not None, "a window has samples"
    return result

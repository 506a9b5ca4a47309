"""A source that a test lays out block by block."""

import time

from edge_runtime.sources.interface import Block


class LaidOut:
    """Gives the blocks that it was made with."""

    name = "laid out"

    def __init__(self, *blocks, live=True):
        self._blocks = blocks
        self.live = live

    def blocks(self):
        yield from self._blocks

    def close(self):
        pass


def in_blocks(pcm, size=1_600):
    """SegmenterOutput audio into blocks that come without a pause."""
    return [Block(pcm[at : at + size], 0, time.monotonic()) for at in range(0, len(pcm), size)]

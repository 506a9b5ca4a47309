"""One loop over several sources: each waits for its audio in a thread, and all are scored here by order of arrival.

The graph takes one window at a time, and on one core a batch is no faster. So the earliest block is taken first, which
is the one whose decisions are due first: all sources have the same hop.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from queue import PriorityQueue

from edge_runtime.errors import EdgeemoError
from edge_runtime.events import Event
from edge_runtime.loop.listener import Listener
from edge_runtime.sources.interface import Block, Source

_WAITING = 2
"""Blocks of one source that wait at most: a live source keeps, and at last drops, what does not fit."""
_CHECK = 0.5
"""Seconds between checks whether a source that waits for room was closed."""

_Item = Block | Exception | None
"""A block, the error of a source, or None for its end."""


class Feed:
    """A source with the listener that scores it; of several, the blocks of each wait to be taken.

    Args:
        listener: not used before.
        source: not used before; or the error for which it could not be opened.

    Attributes:
        live: whether audio is lost when it is not taken in time.
        failure: the error for which it could not be opened, or which ended it.
    """

    def __init__(self, listener: Listener, source: Source | EdgeemoError) -> None:
        self.listener = listener
        self.source = source
        self.live = not isinstance(source, EdgeemoError) and source.live
        self.failure = source if isinstance(source, EdgeemoError) else None
        self._room = threading.Semaphore(_WAITING)
        self._closed = False
        self._reading = False

    @property
    def name(self) -> str:
        """The name in the settings, else that of the source."""
        if self.listener.name is not None:
            return self.listener.name
        return "" if isinstance(self.source, EdgeemoError) else self.source.name

    def close(self) -> None:
        """End it within half a second; a signal handler may call it."""
        self._closed = True
        # A file is closed by the thread that reads it.
        if not (self._reading or isinstance(self.source, EdgeemoError)):
            self.source.close()

    def read(self, put: Callable[[float, _Item], None]) -> None:
        """Start a thread that gives all blocks, with the time when each arrived, and the end."""
        self._reading = True
        threading.Thread(target=self._fill, args=(put,), name=f"source {self.name}", daemon=True).start()

    def _fill(self, put: Callable[[float, _Item], None]) -> None:
        arrived = 0.0
        last: _Item = None
        try:
            if isinstance(self.source, EdgeemoError):
                raise self.source
            blocks = self.source.blocks()
            try:
                for block in blocks:
                    # A block without samples may have a later time than the next one with samples.
                    arrived = max(arrived, block.arrived)
                    while not self._room.acquire(timeout=_CHECK):
                        if self._closed:
                            break
                    put(arrived, block)
                    if self._closed:
                        self.source.close()
            finally:
                if isinstance(blocks, Generator):
                    blocks.close()
        except OSError as error:
            last = EdgeemoError(f"{self.name}: cannot be read ({error.strerror or error})")
        except Exception as error:  # raised again by the loop
            last = error
        put(max(arrived, time.monotonic()), last)

    def events(self, item: _Item) -> Iterator[Event]:
        """Yield the events of an item that `read` gave."""
        if isinstance(item, Block):
            self._room.release()
            yield from self.listener.take(item)
        elif item is None:
            assert not isinstance(self.source, EdgeemoError)
            yield from self.listener.end(self.listener.ending or f"the end of {self.source.name}")
        elif isinstance(item, EdgeemoError):
            # The audio until then still gives its events.
            self.failure = item
            yield from self.listener.end(item.message)
        else:
            raise item


def listen_to_several(feeds: Sequence[Feed]) -> Iterator[tuple[Listener, Event]]:
    """Yield the events of all sources, each with its listener, until the last source has ended.

    A source that fails ends alone (`Feed.failure`).
    """
    # By arrival; items of one time in the order in which they came.
    items: PriorityQueue[tuple[float, int, int, _Item]] = PriorityQueue()
    count = itertools.count()

    def give(number: int) -> Callable[[float, _Item], None]:
        return lambda arrived, item: items.put((arrived, next(count), number, item))

    try:
        for feed in feeds:
            if not isinstance(feed.source, EdgeemoError):
                for event in feed.listener.begin(feed.source.name):
                    yield feed.listener, event
        for number, feed in enumerate(feeds):
            feed.read(give(number))
        running = len(feeds)
        while running:
            *_, number, item = items.get()
            running -= not isinstance(item, Block)
            for event in feeds[number].events(item):
                yield feeds[number].listener, event
    finally:
        # For a caller that stops before the end.
        for feed in feeds:
            feed.close()
            feed.listener.close()

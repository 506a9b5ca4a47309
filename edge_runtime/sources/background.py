"""A source whose bytes may take any time to come: read in a thread, with empty blocks meanwhile."""

from __future__ import annotations

import contextlib
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

from edge_runtime.sources.interface import HEARTBEAT, Block, heartbeat


class BackgroundSource(ABC):
    """Reads in a thread, since a read cannot be interrupted: signals would wait for the writer.

    Attributes:
        name: of the source, in messages.
        live: whether audio is lost when it is not taken in time.
    """

    def __init__(self, name: str, *, live: bool = False) -> None:
        self.name = name
        self.live = live
        self._closed = False
        self._queue: queue.Queue[Block | Exception | None] = queue.Queue(maxsize=8)

    @abstractmethod
    def _read(self) -> Iterator[Block]:
        """Yield blocks; runs in the thread."""

    def blocks(self) -> Iterator[Block]:
        """Yield blocks until the source ends, and empty ones while nothing comes.

        Raises:
            EdgeemoError: the source cannot be read or decoded, or audio is missing.
        """
        threading.Thread(target=self._fill, name=f"source {self.name}", daemon=True).start()
        try:
            while not self._closed:
                try:
                    block = self._queue.get(timeout=HEARTBEAT)
                except queue.Empty:
                    yield heartbeat()
                    continue
                if block is None:
                    return
                if isinstance(block, Exception):
                    raise block
                yield block
        finally:
            # Ends the thread, which may wait for room in the queue.
            self._closed = True

    def _fill(self) -> None:
        try:
            for block in self._read():
                self._put(block)
                if self._closed:
                    return
            self._put(None)
        except Exception as error:  # raised again in `blocks`
            self._put(error)

    def _put(self, what: Block | Exception | None) -> None:
        while not self._closed:
            with contextlib.suppress(queue.Full):
                self._queue.put(what, timeout=HEARTBEAT)
                return

    def close(self) -> None:
        """End `blocks` within half a second."""
        self._closed = True

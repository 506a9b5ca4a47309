"""One JSON object a line."""

from __future__ import annotations

from typing import TextIO

from edge_runtime.events import Event
from edge_runtime.sinks.interface import Sink


class JsonLines(Sink):
    """One JSON object a line, flushed at once.

    Args:
        stream: where to write; it is left open.
        name: what a person calls it.
    """

    def __init__(self, stream: TextIO, name: str = "standard output") -> None:
        self._stream = stream
        self.name = name

    def emit(self, event: Event) -> None:
        """Write one line."""
        self._stream.write(event.model_dump_json() + "\n")
        self._stream.flush()

"""One JSON object a line."""

from __future__ import annotations

import os
from typing import TextIO

from edge_runtime.events import Event
from edge_runtime.sinks.interface import Sink


def json_line(event: Event) -> str:
    """Return an event as one line of JSON, with the line's end."""
    return event.model_dump_json() + "\n"


class JsonLines(Sink):
    """One JSON object a line, out at once.

    Args:
        stream: where to write; it is left open.
        name: what a person calls it.
    """

    reader_may_leave = True

    def __init__(self, stream: TextIO, name: str = "standard output") -> None:
        self._stream = stream
        self._begun: Event | None = None
        self._rest = b""
        self.name = name

    def __enter__(self) -> JsonLines:
        """Let out first what others wrote to the stream."""
        self._stream.flush()
        return self

    def emit(self, event: Event) -> None:
        """Write one line; of one that was taken in part, the rest.

        Raises:
            OSError: it does not take all of it now; `BrokenPipeError` if its reader left.
        """
        try:
            handle = self._stream.fileno()
        except OSError:
            # A stream that lives in memory.
            self._stream.write(json_line(event))
            self._stream.flush()
            return
        # Past the stream's buffer, which would keep what a full disk refused, and write it a second time; and whose
        # lock a thread that waits for a slow reader would hold while the interpreter ends.
        if event is not self._begun:
            self._begun, self._rest = event, self._rest + json_line(event).encode()
        while self._rest:
            self._rest = self._rest[os.write(handle, self._rest) :]

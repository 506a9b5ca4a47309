"""The interface of all sinks."""

from __future__ import annotations

from abc import ABC, abstractmethod

from edge_runtime.events import Event


class Sink(ABC):
    """Takes events; a context manager, used by one thread at a time.

    Attributes:
        name: for status events and metrics; without passwords.
        provisional: whether it takes provisional events; `SinkGroup` withholds them otherwise.
        reader_may_leave: whether its `BrokenPipeError` means that its reader has left for good.
    """

    name: str
    provisional: bool = True
    reader_may_leave: bool = False

    def __enter__(self) -> Sink:
        """Start.

        Raises:
            EdgeemoError: it cannot work with its settings (a path that cannot be written, a port that is in use).
                Temporary problems, such as a broker that is away, are raised by `emit` instead.
        """
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; events that `emit` took are written or sent."""
        self.close()

    def close(self) -> None:  # noqa: B027  (optional)
        """Release its resources."""

    @abstractmethod
    def emit(self, event: Event) -> None:
        """Write or send one event, and return when that is done.

        Raises:
            OSError: not possible now (the disk is full, the broker is away), and no part of the event was written. The
                same event is given again later.
        """

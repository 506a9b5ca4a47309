"""What every sink offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from edge_runtime.events import Event


class Sink(ABC):
    """Something that takes events; a context manager, used by one thread at a time.

    Attributes:
        name: what a person calls it, in status events and metrics; holds no password.
        provisional: whether provisional events are wanted; `SinkGroup` keeps them back where not.
        reader_may_leave: whether a `BrokenPipeError` of it says that nobody will ever read again.
    """

    name: str
    provisional: bool = True
    reader_may_leave: bool = False

    def __enter__(self) -> Sink:
        """Start.

        Raises:
            EdgeemoError: it can never work as it is set (a path that cannot be written, a port that is taken). What may
                mend itself, as a broker that is away, is not raised here but by `emit`.
        """
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; what was taken is out, or lost for good."""
        self.close()

    def close(self) -> None:  # noqa: B027  (not every sink holds something)
        """Let go of what the sink holds."""

    @abstractmethod
    def emit(self, event: Event) -> None:
        """Take one event, and return once it is out.

        Raises:
            OSError: not now (the disk is full, the broker is away). Nothing of the event is left behind: it is given
                again later. `BrokenPipeError` says that nobody will ever read again.
        """

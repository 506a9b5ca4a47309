"""Several sinks at once, of which none holds up the loop or another one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from edge_runtime.events import Event
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.feed import Feed
from edge_runtime.sinks.interface import Sink

CAPACITY = 2000
"""Events that may wait for a sink: over three hours of segments of six seconds. They are shared by the sinks."""


class SinkGroup:
    """Feeds sinks, each in a thread of its own behind a bounded queue; a context manager.

    An event that a sink refuses (`OSError`) is given again after a growing time, and those behind it wait; one that
    makes it fail otherwise is given up after some tries.

    Args:
        sinks: not entered yet; the group enters and closes them.
        monitor: counts the events that each one lost.
        live: `emit` never waits; when a queue is full the oldest provisional event goes, for want of one the oldest of
            any kind. Otherwise it waits for room, so that nothing is lost.
        capacity: how many events may wait for each sink.
        backoff: seconds until a refused event is given again, at first and at most.
        close_seconds: how long the queues may take to run empty in the end, all at once. Not live, how long without an
            event that gets out.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        monitor: Monitor,
        *,
        live: bool,
        capacity: int = CAPACITY,
        backoff: tuple[float, float] = (0.5, 30.0),
        close_seconds: float = 5.0,
    ) -> None:
        self._sinks = tuple(sinks)
        self._close_seconds = close_seconds
        self._feeds = [Feed(sink, monitor, live=live, capacity=capacity, backoff=backoff) for sink in self._sinks]

    def __enter__(self) -> SinkGroup:
        """Start the sinks, in their order.

        Raises:
            EdgeemoError: one of them can never work; those before it are closed.
        """
        with ExitStack() as entered:
            for sink in self._sinks:
                entered.enter_context(sink)
            for feed in self._feeds:
                feed.start()
            # From here on each feed closes its own.
            entered.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the queues run empty and close the sinks, within the time for it; `notices` reports what is left."""
        for feed in self._feeds:
            feed.stop(self._close_seconds)
        for feed in self._feeds:
            feed.finish()

    def emit(self, event: Event) -> None:
        """Hand an event to every sink.

        Raises:
            BrokenPipeError: the reader of one left for good; the others have this event.
        """
        for feed in self._feeds:
            if not feed.left:
                feed.put(event)
        if any(feed.left for feed in self._feeds):
            raise BrokenPipeError("the reader of a sink left")

    def notices(self) -> list[str]:
        """Return what happened to the sinks since it was last asked, a sentence each; also after the end."""
        return [sentence for feed in self._feeds for sentence in feed.notices()]

    def hurry(self) -> None:
        """Never wait for room from now on, as if live; a signal handler may call it."""
        for feed in self._feeds:
            feed.live = True

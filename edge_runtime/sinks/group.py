"""Several sinks at once, each in a thread behind a bounded queue, so that no sink delays the loop or another sink."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from edge_runtime.events import Event
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.interface import Sink

CAPACITY = 2000
"""Events that may wait for a sink: over three hours of segments of six seconds."""
_TRIES = 3
"""Attempts to emit an event that raises another exception than OSError, which the event itself may cause."""
_GRACE = 1.0
"""Seconds for closing a sink, in addition to those for its queue."""
_PATIENCE = 30.0
"""Seconds to wait for a sink that takes no events, where the source is not live."""
_CHECK = 0.1
"""Seconds between checks of conditions that are set without notification."""


class SinkGroup:
    """Emits events to several sinks; a context manager.

    An event that a sink refuses (`OSError`) is emitted again after a growing pause, and later events wait; an event
    that raises another exception is dropped after some attempts.

    Args:
        sinks: not entered yet; the group enters and closes them.
        monitor: counts the events that each sink lost.
        live: a full queue drops its oldest provisional event, or else its oldest; if not live, `emit` waits for room.
        capacity: how many events may wait for each sink.
        backoff: first and longest pause before an event is emitted again, seconds.
        close_seconds: time for the queues to become empty in the end; if not live, longest time without progress.
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
        self._close_seconds = close_seconds
        self._feeds = [_Feed(sink, monitor, live, capacity, backoff) for sink in sinks]

    def __enter__(self) -> SinkGroup:
        """Start the sinks, in their order.

        Raises:
            EdgeemoError: one of them cannot work; those before it are closed.
        """
        with ExitStack() as entered:
            for feed in self._feeds:
                entered.enter_context(feed.sink)
            for feed in self._feeds:
                feed.start()
            # From here on each feed closes its sink.
            entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Empty the queues and close the sinks, within the time for it; `notices` reports undelivered events."""
        for feed in self._feeds:
            feed.stop(self._close_seconds)
        for feed in self._feeds:
            feed.finish()

    def emit(self, event: Event) -> None:
        """Emit an event to every sink.

        Raises:
            BrokenPipeError: the reader of a sink has left for good; the other sinks have this event.
        """
        for feed in self._feeds:
            feed.put(event)
        if any(feed.left for feed in self._feeds):
            raise BrokenPipeError("the reader of a sink left")

    def notices(self) -> list[str]:
        """Return sentences on problems of the sinks since the last call; also after the end."""
        return [sentence for feed in self._feeds for sentence in feed.notices()]

    def hurry(self) -> None:
        """Never wait for room from now on, as if live; may be called by a signal handler."""
        for feed in self._feeds:
            feed.live = True


class _Feed:
    """The queue and the thread of one sink; from `start` on only this thread uses the sink, and closes it.

    ``live`` (see `SinkGroup`) may change at any time; ``left``: the sink's reader has left for good.
    """

    def __init__(self, sink: Sink, monitor: Monitor, live: bool, capacity: int, backoff: tuple[float, float]) -> None:
        self.sink = sink
        self.live = live
        self.left = False
        self._monitor = monitor
        self._capacity = capacity
        self._backoff = backoff
        self._changed = threading.Condition()
        self._queue: deque[Event] = deque()
        self._current: Event | None = None
        self._notices: deque[str] = deque(maxlen=100)
        self._troubled_since: float | None = None
        self._why = ""
        self._lost = 0
        self._limit: float | None = None
        self._progress = 0.0
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, event: Event) -> None:
        """Add an event to the queue; if not live, wait for room."""
        if event.type == "provisional" and not self.sink.provisional:
            return
        with self._changed:
            while not (self.live or self.left or self._stuck()) and len(self._queue) >= self._capacity:
                # In slices: `live` may be set by a signal handler, which cannot notify.
                self._changed.wait(_CHECK)
            if self.left:
                return
            self._queue.append(event)
            if len(self._queue) > self._capacity:
                self._drop()
            self._changed.notify_all()

    def _stuck(self) -> bool:
        return self._troubled_since is not None and time.monotonic() - self._troubled_since > _PATIENCE

    def notices(self) -> list[str]:
        with self._changed:
            notices = list(self._notices)
            self._notices.clear()
        return notices

    def stop(self, seconds: float) -> None:
        """Have the queue emptied within a time; if not live, with no longer time without progress."""
        with self._changed:
            self._limit, self._progress = seconds, time.monotonic()
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until the queue is empty and the sink closed, or the time is over; count undelivered events."""
        while self._thread.is_alive() and self._time_left() > -_GRACE:
            self._thread.join(_CHECK)
        with self._changed:
            undelivered = len(self._queue) + (self._current is not None)
            self._queue.clear()
            if self.left or not undelivered:
                return
            for _ in range(undelivered):
                self._lose()
            why = f" ({self._why})" if self._why else ""
            self._report(f"was closed with {_events(undelivered)} not delivered{why}")

    def _run(self) -> None:
        while (event := self._next()) is not None and self._deliver(event):
            pass
        try:
            self.sink.__exit__(None, None, None)
        except Exception as error:
            with self._changed:
                self._report(f"could not be closed ({_reason(error)})")

    def _next(self) -> Event | None:
        """Wait for the next event and return it; None in the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._limit is not None)
            if not self._queue or self._time_left() < 0:
                return None
            self._current = self._queue.popleft()
            self._changed.notify_all()
            return self._current

    def _deliver(self, event: Event) -> bool:
        """Emit an event until the sink takes it or it is given up; return whether to continue with the next one."""
        pause, failures = self._backoff[0], 0
        while True:
            try:
                self.sink.emit(event)
            except Exception as error:
                if isinstance(error, BrokenPipeError) and self.sink.reader_may_leave:
                    with self._changed:
                        self.left = True
                        self._changed.notify_all()
                    return False
                failures += not isinstance(error, OSError)
                if self._failed(error, give_up=failures == _TRIES):
                    return True
            else:
                self._delivered()
                return True
            if not self._pause(pause):
                return False
            pause = min(2 * pause, self._backoff[1])

    def _delivered(self) -> None:
        with self._changed:
            self._current, self._why = None, ""
            if not self.live:
                self._progress = time.monotonic()
            if self._troubled_since is not None and not self._queue:
                self._report(f"takes events again; {_events(self._lost) if self._lost else 'none'} lost meanwhile")
                self._troubled_since, self._lost = None, 0

    def _failed(self, error: Exception, *, give_up: bool) -> bool:
        """Report a refused event; return ``give_up``, after counting the event as lost."""
        with self._changed:
            self._why = _reason(error)
            self._trouble(f"takes no events for now ({self._why}); they are kept until it does")
            if give_up:
                self._current = None
                self._lose()
        return give_up

    def _pause(self, seconds: float) -> bool:
        """Wait before an event is emitted again; return whether there is time for that."""
        with self._changed:
            if self._limit is None:
                self._changed.wait_for(lambda: self._limit is not None, seconds)
            else:
                self._changed.wait(min(self._backoff[0], max(0.0, self._time_left())))
            return self._time_left() > 0

    def _drop(self) -> None:
        where = next((place for place, event in enumerate(self._queue) if event.type == "provisional"), 0)
        del self._queue[where]
        self._lose()
        self._trouble("is too slow, so that events are lost; provisional ones first")

    def _trouble(self, what: str) -> None:
        if self._troubled_since is None:
            self._troubled_since = time.monotonic()
            self._report(what)

    def _lose(self) -> None:
        self._lost += 1
        self._monitor.record_lost(self.sink.name)

    def _report(self, what: str) -> None:
        self._notices.append(f"{self.sink.name} {what}")

    def _time_left(self) -> float:
        return float("inf") if self._limit is None else self._progress + self._limit - time.monotonic()


def _events(count: int) -> str:
    return f"{count} event{'s' * (count != 1)}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

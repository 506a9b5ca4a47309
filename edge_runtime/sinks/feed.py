"""One sink in a thread of its own, behind a bounded queue, so that nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections import deque

from edge_runtime.events import Event
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.interface import Sink

_TRIES = 3
"""How often an event is given to a sink that fails by anything but OSError: it may be the event that it fails on."""
_GRACE = 1.0
"""Seconds that a sink has for closing itself, beyond those for its queue."""
_PATIENCE = 30.0
"""Seconds that a sink which takes no events is waited for, where nothing is live."""
_CHECK = 0.1
"""Seconds between looks at what no condition tells."""


class Feed:
    """Hands events to one sink, which has been entered, and closes it in the end.

    Args:
        sink: the sink; from `start` on only this thread uses it.
        monitor: counts what is lost.
        live: drop events instead of waiting when the queue is full; may be changed at any time.
        capacity: how many events may wait.
        backoff: seconds until a failed event is given again, at first and at most.

    Attributes:
        left: whether the sink's reader left for good.
    """

    def __init__(
        self, sink: Sink, monitor: Monitor, *, live: bool, capacity: int, backoff: tuple[float, float]
    ) -> None:
        self._sink = sink
        self._monitor = monitor
        self._capacity = capacity
        self._backoff = backoff
        self.live = live
        self.left = False
        self._changed = threading.Condition()
        self._queue: deque[Event] = deque()
        self._current: Event | None = None
        self._notices: deque[str] = deque(maxlen=100)
        self._troubled = False
        self._troubled_since = 0.0
        self._why = ""
        self._lost = 0
        self._limit: float | None = None
        self._moved = 0.0
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    def start(self) -> None:
        """Begin to hand on."""
        self._thread.start()

    def put(self, event: Event) -> None:
        """Take an event; not live, wait for room."""
        if event.type == "provisional" and not self._sink.provisional:
            return
        with self._changed:
            # A sink that takes nothing is not waited for either: the others and the loop go on.
            while not (self.live or self.left or self._stuck()) and len(self._queue) >= self._capacity:
                # In slices, since `live` may be set by a signal handler, which must take no lock.
                self._changed.wait(_CHECK)
            if self.left:
                return
            self._queue.append(event)
            if len(self._queue) > self._capacity:
                self._drop()
            self._changed.notify_all()

    def _stuck(self) -> bool:
        return self._troubled and time.monotonic() - self._troubled_since > _PATIENCE

    def notices(self) -> list[str]:
        """Return what happened to the sink since it was last asked, a sentence each."""
        with self._changed:
            notices = list(self._notices)
            self._notices.clear()
        return notices

    def stop(self, seconds: float) -> None:
        """Let the queue run empty, within so many seconds (not live: so many without one that gets out)."""
        with self._changed:
            self._limit, self._moved = seconds, time.monotonic()
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until the queue is empty and the sink closed, or time is over; count what is left."""
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
            self._tell(f"was closed with {_events(undelivered)} not delivered{why}")

    def _run(self) -> None:
        while (event := self._next()) is not None and self._deliver(event):
            pass
        try:
            self._sink.__exit__(None, None, None)
        except Exception as error:
            with self._changed:
                self._tell(f"could not be closed ({_reason(error)})")

    def _next(self) -> Event | None:
        """Return the next event, once there is one; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._limit is not None)
            if not self._queue or self._time_left() < 0:
                return None
            self._current = self._queue.popleft()
            self._changed.notify_all()
            return self._current

    def _deliver(self, event: Event) -> bool:
        """Give an event until it is taken; whether to go on with the next one."""
        pause, failures = self._backoff[0], 0
        while True:
            try:
                self._sink.emit(event)
            except Exception as error:
                if isinstance(error, BrokenPipeError) and self._sink.reader_may_leave:
                    with self._changed:
                        self.left = True
                        self._changed.notify_all()
                    return False
                failures += not isinstance(error, OSError)
                if not self._failed(error, give_up=failures == _TRIES):
                    return True
            else:
                self._taken()
                return True
            if not self._pause(pause):
                return False
            pause = min(2 * pause, self._backoff[1])

    def _taken(self) -> None:
        with self._changed:
            self._current, self._moved = None, time.monotonic() if not self.live else self._moved
            self._why = ""
            if self._troubled and not self._queue:
                self._tell(f"takes events again; {_events(self._lost) if self._lost else 'none'} lost meanwhile")
                self._troubled, self._lost = False, 0

    def _failed(self, error: Exception, *, give_up: bool) -> bool:
        """Take in that an event was refused; whether to try it again."""
        with self._changed:
            self._why = _reason(error)
            if not self._troubled:
                self._troubled, self._troubled_since = True, time.monotonic()
                self._tell(f"takes no events for now ({self._why}); they are kept until it does")
            if give_up:
                self._current = None
                self._lose()
        return not give_up

    def _pause(self, seconds: float) -> bool:
        """Wait before an event is given again; whether there is time to."""
        with self._changed:
            if self._limit is None:
                self._changed.wait_for(lambda: self._limit is not None, seconds)
            else:
                # Nothing more to tell apart from the end of time.
                self._changed.wait(min(self._backoff[0], max(0.0, self._time_left())))
            return self._time_left() > 0

    def _drop(self) -> None:
        """Take one event out: the oldest provisional one, for want of one the oldest."""
        where = next((place for place, event in enumerate(self._queue) if event.type == "provisional"), 0)
        del self._queue[where]
        self._lose()
        if not self._troubled:
            self._troubled, self._troubled_since = True, time.monotonic()
            self._tell("is too slow, so that events are lost; provisional ones first")

    def _lose(self) -> None:
        self._lost += 1
        self._monitor.record_lost(self._sink.name)

    def _tell(self, what: str) -> None:
        # A path or a name of a device may hold bytes that are no text, and this becomes an event.
        self._notices.append(f"{self._sink.name} {what}".encode(errors="replace").decode())

    def _time_left(self) -> float:
        return float("inf") if self._limit is None else self._moved + self._limit - time.monotonic()


def _events(count: int) -> str:
    return f"{count} event{'s' * (count != 1)}"


def _reason(error: Exception) -> str:
    """Return what went wrong, in part of a sentence."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

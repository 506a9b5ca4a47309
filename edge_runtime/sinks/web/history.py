"""The events of the last minutes: what a page shows that is opened later, and what open pages are fed from."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from edge_runtime.events import EmotionEvent, Event
from edge_runtime.sinks.web.messages import as_json

COUNT = 2000
"""So many events at most, about 1 MB as JSON."""


class Entry(NamedTuple):
    """An event as it is sent.

    Attributes:
        number: counts the events from 1 on.
        kept: `time.monotonic` when it came.
        event: the event.
        text: the event as JSON.
    """

    number: int
    kept: float
    event: Event
    text: str


class News(NamedTuple):
    """What came after an event.

    Attributes:
        entries: what is kept of it, oldest first.
        newest: number of the newest event, kept or not; 0 before the first one.
        hole: whether something of it is not kept any more.
    """

    entries: list[Entry]
    newest: int
    hole: bool


class History:
    """A bounded list of events; one thread adds, any thread reads.

    A final event takes the place of the provisional ones that it overlaps: they said the same, earlier and less well.

    Args:
        minutes: how long events are kept.
        count: how many are kept at most.
        clock: seconds, never going back.
    """

    def __init__(self, minutes: float, count: int = COUNT, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = minutes * 60
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._newest = 0
        self._gone = 0

    def add(self, event: Event) -> None:
        """Take in an event."""
        try:
            text = event.model_dump_json()
        except ValueError:
            # A file's or device's name that is no Unicode stands in it.
            text = as_json(event.model_dump())
        with self._lock:
            if isinstance(event, EmotionEvent) and event.type == "final":
                self._supersede(event)
            self._newest += 1
            self._entries.append(Entry(self._newest, self._clock(), event, text))
            self._prune()

    def after(self, number: int) -> News:
        """Return what came after an event, by its number; 0 for all."""
        with self._lock:
            self._prune()
            new: list[Entry] = []
            for entry in reversed(self._entries):
                if entry.number <= number:
                    break
                new.append(entry)
            return News(new[::-1], self._newest, number < self._gone)

    def _supersede(self, final: EmotionEvent) -> None:
        kept: list[Entry] = []
        while self._entries:
            entry = self._entries.pop()
            event = entry.event
            if event.type == "provisional" and event.end > final.start and event.start < final.end:
                continue
            kept.append(entry)
            if event.type == "final":
                break
        self._entries.extend(reversed(kept))

    def _prune(self) -> None:
        oldest = self._clock() - self._seconds
        while self._entries and (len(self._entries) > self._count or self._entries[0].kept < oldest):
            self._gone = self._entries.popleft().number

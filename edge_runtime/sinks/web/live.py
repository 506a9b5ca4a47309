"""The events of the last minutes, and the open pages that receive them over WebSockets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_runtime.events import EmotionEvent, Event
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.web.state import as_json, hello, level

COUNT = 2000
"""Most events in the history, about 1 MB as JSON."""
CLIENTS = 20
"""Most pages that are open at a time."""
LEVELS_PER_SECOND = 5
PATIENCE = 5.0
"""Seconds that a client may take to receive one message."""
FAREWELL = 1.0
"""Seconds that a client has to receive the reason of its end."""
QUIET = 0.05
"""Seconds between two messages that are read from a client; they are ignored."""
TRY_LATER = 1013


class Entry(NamedTuple):
    """An event in the history: its number from 1 on, the `time.monotonic` when it was added, and its JSON."""

    number: int
    kept: float
    event: Event
    text: str


class News(NamedTuple):
    """The events after a given one, oldest first.

    ``newest`` is the number of the newest event, in the history or not; ``hole``: some of them have left the history.
    """

    entries: list[Entry]
    newest: int
    hole: bool


class History:
    """A bounded list of events; one thread adds, any thread reads.

    A final event replaces the provisional ones that it overlaps.
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
        """Add an event."""
        text = event.model_dump_json()
        with self._lock:
            if isinstance(event, EmotionEvent) and event.type == "final":
                self._supersede(event)
            self._newest += 1
            self._entries.append(Entry(self._newest, self._clock(), event, text))
            self._prune()

    def after(self, number: int) -> News:
        """Return the events after the one of a number; 0 for all."""
        with self._lock:
            self._prune()
            new = list(takewhile(lambda entry: entry.number > number, reversed(self._entries)))
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


@dataclass
class View:
    """What pages show of one source.

    Attributes:
        monitor: its state.
        history: its events.
        level: the last message with its level.
    """

    monitor: Monitor
    history: History
    level: str = ""


Views = Mapping[str, View]
"""By name of the source; one without a name has the empty name."""


class _Client:
    """A client's source, and its position in the history. Besides its socket's buffer, nothing else is kept for it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.seen = 0
        self.news = asyncio.Event()


class Hub:
    """Sends events to every open page at its own speed; runs in the server's event loop.

    No queue is kept for a client: each one has a position in the common history. A client that takes longer than
    `PATIENCE` for a message, or whose next event has left the history, is dropped and may connect again.
    """

    def __init__(self, views: Views, history_minutes: float, abort: Callable[[object], None]) -> None:
        self._names = tuple(name for name in views if name)
        self._minutes = history_minutes
        self._abort = abort
        self._clients: set[_Client] = set()
        self.dropped = 0

    @property
    def clients(self) -> int:
        """How many pages are open."""
        return len(self._clients)

    def wake(self, view: View) -> None:
        """Have every client of a source read the history from its position on."""
        for client in self._clients:
            if client.view is view:
                client.news.set()

    async def tick(self) -> None:
        """Send the level, for as long as the server runs, to the pages that are open."""
        while True:
            await asyncio.sleep(1 / LEVELS_PER_SECOND)
            for view in {id(client.view): client.view for client in self._clients}.values():
                view.level = as_json(level(view.monitor.snapshot()))
                self.wake(view)

    async def serve(self, socket: WebSocket, view: View) -> None:
        """Send the events of a source to one client until it leaves or is dropped."""
        await socket.accept()
        if len(self._clients) >= CLIENTS:
            await self._drop(socket, "too many pages are open")
            return
        client = _Client(view)
        self._clients.add(client)
        try:
            reason = await _first(self._feed(socket, client), _ignore(socket))
        finally:
            self._clients.discard(client)
        if reason:
            self.dropped += 1
            await self._drop(socket, reason)

    async def _feed(self, socket: WebSocket, client: _Client) -> str:
        view = client.view
        try:
            past = view.history.after(0)
            # Not the newest entry's number: with an empty history, expired events would count as a hole.
            client.seen = past.newest
            texts = [entry.text for entry in past.entries]
            await _send(socket, hello(view.monitor.snapshot(), self._minutes, texts, self._names))
            sent_level = view.level
            while True:
                await client.news.wait()
                client.news.clear()
                news = view.history.after(client.seen)
                if news.hole:
                    return "too slow"
                for entry in news.entries:
                    await _send(socket, entry.text)
                    client.seen = entry.number
                if sent_level is not view.level:
                    sent_level = view.level
                    await _send(socket, sent_level)
        except asyncio.TimeoutError:
            return "too slow"
        except (WebSocketDisconnect, RuntimeError):
            # The client left between two messages; older versions of starlette raise RuntimeError.
            return ""

    async def _drop(self, socket: WebSocket, reason: str) -> None:
        with suppress(asyncio.TimeoutError, WebSocketDisconnect, RuntimeError):
            await asyncio.wait_for(socket.close(TRY_LATER, reason), FAREWELL)
            return
        # It does not receive even that. A closed connection would keep unread data until it is received.
        self._abort(socket.scope["client"])


async def _send(socket: WebSocket, text: str) -> None:
    await asyncio.wait_for(socket.send_text(text), PATIENCE)


async def _ignore(socket: WebSocket) -> str:
    """Wait until the client leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        await asyncio.sleep(QUIET)
    return ""


async def _first(*works: Coroutine[Any, Any, str]) -> str:
    """Return the result of the coroutine that ends first; the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(iter(done)).result()

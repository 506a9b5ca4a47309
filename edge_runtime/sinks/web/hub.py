"""The pages that are open. Everything here runs in the server's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.web.history import History
from edge_runtime.sinks.web.messages import as_json, hello, level

CLIENTS = 20
"""So many pages at a time."""
LEVELS_PER_SECOND = 5
PATIENCE = 5.0
"""Seconds that a client may take for one message."""
FAREWELL = 1.0
"""Seconds that a client has to hear why it is dropped."""
QUIET = 0.05
"""Seconds between two messages that are read of a client: it has nothing to say."""
TRY_LATER = 1013


class _Client:
    """A client's place in the history. This and its socket's buffer are all that is held for it."""

    def __init__(self) -> None:
        self.seen = 0
        self.news = asyncio.Event()


class Hub:
    """Feeds every open page at its own speed.

    Nothing is queued for a client: each has a place in the common history and reads on from there. One that takes
    longer than `PATIENCE` for a message, or has a hole in the history before it, is dropped and may come back.

    Args:
        history: what was said.
        monitor: what goes on.
        history_minutes: told to pages.
        abort: ends a connection at once, by the client's address.
    """

    def __init__(
        self, history: History, monitor: Monitor, history_minutes: float, abort: Callable[[object], None]
    ) -> None:
        self._history = history
        self._monitor = monitor
        self._minutes = history_minutes
        self._abort = abort
        self._clients: set[_Client] = set()
        self._level = ""
        self.dropped = 0

    @property
    def clients(self) -> int:
        """How many pages are open."""
        return len(self._clients)

    def wake(self) -> None:
        """Have every client look for something new."""
        for client in self._clients:
            client.news.set()

    async def tick(self) -> None:
        """Tell the level for ever, while someone listens."""
        while True:
            await asyncio.sleep(1 / LEVELS_PER_SECOND)
            if self._clients:
                self._level = as_json(level(self._monitor.snapshot()))
                self.wake()

    async def serve(self, socket: WebSocket) -> None:
        """Feed one client until it goes or is dropped."""
        await socket.accept()
        if len(self._clients) >= CLIENTS:
            await self._drop(socket, "too many pages are open")
            return
        client = _Client()
        self._clients.add(client)
        try:
            reason = await _first(self._feed(socket, client), _ignore(socket))
        finally:
            self._clients.discard(client)
        if reason:
            self.dropped += 1
            await self._drop(socket, reason)

    async def _feed(self, socket: WebSocket, client: _Client) -> str:
        try:
            past = self._history.after(0)
            # Not the newest of those that are kept: when none is, what is gone would look like a hole.
            client.seen = past.newest
            texts = [entry.text for entry in past.entries]
            await _send(socket, hello(self._monitor.snapshot(), self._minutes, texts))
            told = self._level
            while True:
                await client.news.wait()
                client.news.clear()
                news = self._history.after(client.seen)
                if news.hole:
                    return "too slow"
                for entry in news.entries:
                    await _send(socket, entry.text)
                    client.seen = entry.number
                if told is not self._level:
                    told = self._level
                    await _send(socket, told)
        except asyncio.TimeoutError:
            return "too slow"
        except (WebSocketDisconnect, RuntimeError):
            # It went between two messages; older versions of starlette say so by a RuntimeError.
            return ""

    async def _drop(self, socket: WebSocket, reason: str) -> None:
        with suppress(asyncio.TimeoutError, WebSocketDisconnect, RuntimeError):
            await asyncio.wait_for(socket.close(TRY_LATER, reason), FAREWELL)
            return
        # It does not even take that. To close the connection would keep what it has not taken until it does.
        self._abort(socket.scope["client"])


async def _send(socket: WebSocket, text: str) -> None:
    await asyncio.wait_for(socket.send_text(text), PATIENCE)


async def _ignore(socket: WebSocket) -> str:
    """Wait until the client goes."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        await asyncio.sleep(QUIET)
    return ""


async def _first(*works: Coroutine[Any, Any, str]) -> str:
    """Return the result of what ends first; the others are ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(iter(done)).result()

"""uvicorn in a thread of its own, with its own event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from edge_runtime.errors import EdgeemoError
from edge_runtime.sinks.web.connections import CONNECTIONS, HttpConnection, abort, tidy

_MESSAGE_BYTES = 1024
"""Clients have nothing to say."""
_UNTAKEN_SECONDS = 20
_HURRY = 0.8
"""Seconds that connections have to end by themselves when the server stops."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        EdgeemoError: the address is taken, not ours or unknown.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        # What errno says, since Python adds the address in a form of its own; names have errors of another kind.
        code = error.errno or 0
        why = os.strerror(code) if code > 0 else error.strerror
        raise EdgeemoError(
            f"the web page cannot be served at {address_text(host, port)} ({why}); set another host or port"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The system gives up connections whose other end takes nothing any more; accepted ones inherit it.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_SECONDS * 1000)
    return bound


def address_text(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server:
    """Serves an application on a socket until it is stopped.

    Args:
        app: what answers.
        bound: listens; it is closed in the end.
        beside: a work that goes on as long.
    """

    def __init__(self, app: ASGIApp, bound: socket.socket, beside: Callable[[], Coroutine[Any, Any, None]]) -> None:
        settings = uvicorn.Config(
            app,
            http=HttpConnection,
            lifespan="off",
            # Addresses may hold the token once, so none are logged.
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            ws_max_size=_MESSAGE_BYTES,
            # Compression would cost memory per client, and tell about secrets by sizes.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(settings)
        self._socket = bound
        self._beside = beside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeemo-web", daemon=True)

    def start(self) -> None:
        """Start, and return when requests are taken."""
        self._thread.start()
        self._ready.wait()

    def call(self, function: Callable[[], None]) -> None:
        """Have a function called in the server's event loop soon.

        Raises:
            OSError: the server does not run.
        """
        try:
            if self._loop is None:
                raise RuntimeError
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            raise OSError("the web server does not run") from None

    def stop(self) -> None:
        """Tell clients, end connections and stop; takes less than two seconds."""
        with suppress(OSError):
            self.call(self._leave)
        self._thread.join(timeout=2)
        self._socket.close()

    def abort(self, client: object) -> None:
        """End the connection of a client at once, by its address, with all that it has not taken."""
        for connection in list(self._uvicorn.server_state.connections):
            if getattr(connection, "client", None) == client:
                abort(connection)

    def _leave(self) -> None:
        # uvicorn closes the WebSockets with code 1012, "service restart".
        self._uvicorn.should_exit = True
        assert self._loop is not None
        self._loop.call_later(_HURRY, self._abort_all)

    def _abort_all(self) -> None:
        for connection in list(self._uvicorn.server_state.connections):
            abort(connection)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        beside = [asyncio.create_task(work) for work in (self._beside(), tidy(self._uvicorn.server_state.connections))]
        # The socket listens already: who comes now is answered as soon as uvicorn runs.
        self._loop.call_soon(self._ready.set)
        try:
            await self._uvicorn.serve(sockets=[self._socket])
        finally:
            self._ready.set()
            for task in beside:
                task.cancel()
            self._abort_all()

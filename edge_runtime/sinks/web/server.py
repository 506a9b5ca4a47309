"""uvicorn in a thread, with its own event loop and with limits on its connections.

uvicorn by itself keeps idle and slow connections for ever, and refuses new ones when they are too many.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_runtime.errors import EdgeemoError

CONNECTIONS = 100
"""From this number on, uvicorn answers with status 503."""
ROOMY = 50
"""Beyond this number, the oldest idle connection is ended for each new one."""
PER_ADDRESS = 30
"""Connections from one address; a browser opens six to load the page, and one for each page that is open."""
IDLE_SECONDS = 10.0
"""Longest time without a response under way."""
RESPONSE_SECONDS = 60.0
"""Longest time for one response."""
_CHECK_SECONDS = 0.5
_MESSAGE_BYTES = 1024
"""Largest WebSocket message from a client; all of them are ignored."""
_UNTAKEN_SECONDS = 20
_HURRY = 0.8
"""Seconds that connections have to end by themselves when the server stops."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        EdgeemoError: the address is in use, unknown, or not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        # The text of errno, since Python's repeats the address; errors of names have negative codes.
        code = error.errno or 0
        why = os.strerror(code) if code > 0 else error.strerror
        raise EdgeemoError(
            f"the web page cannot be served at {address_text(host, port)} ({why}); set another host or port"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The system ends connections whose client receives nothing any more; accepted ones inherit it.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_SECONDS * 1000)
    return bound


def address_text(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpConnection(H11Protocol):
    """uvicorn's connection with limits: per address, and in total at the expense of idle ones."""

    made = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, and end one that is beyond the limits."""
        super().connection_made(transport)
        self.made = time.monotonic()
        address = limited_address(self.client)
        same = [each for each in self.connections if limited_address(getattr(each, "client", None)) == address]
        if address and len(same) > PER_ADDRESS:
            # Not now: asyncio has still to begin to read.
            self.loop.call_soon(abort, self)
        elif len(self.connections) > ROOMY:
            others = [each for each in self.connections if isinstance(each, HttpConnection) and each is not self]
            idle = [each for each in others if each.idle and not each.transport.is_closing()]
            if idle:
                abort(min(idle, key=lambda each: each.made))

    @property
    def idle(self) -> bool:
        """Whether no response is under way; a request may be incomplete."""
        # uvicorn counts a response as complete when all of it is in the transport's buffer.
        received = self.transport.get_write_buffer_size() == 0
        return received and (self.cycle is None or self.cycle.response_complete)


async def end_slow(connections: Collection[object]) -> None:
    """End connections that are idle or take too long for a response; runs as long as the server."""
    seen: dict[tuple[HttpConnection, object], float] = {}
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        now = time.monotonic()
        # A connection has another "cycle" for each request. WebSockets are checked by the hub.
        current = [(each, each.cycle) for each in connections if isinstance(each, HttpConnection)]
        seen = {key: seen.get(key, now) for key in current}
        for (connection, _), since in seen.items():
            if now - since > (IDLE_SECONDS if connection.idle else RESPONSE_SECONDS):
                abort(connection)


def limited_address(client: tuple[str, int] | None) -> str | None:
    """Return the address that counts for `PER_ADDRESS`; None for this machine, where a proxy may serve many clients."""
    if client is None:
        return None
    address = ipaddress.ip_address(client[0].partition("%")[0])
    plain = getattr(address, "ipv4_mapped", None) or address
    return None if plain.is_loopback else client[0]


def abort(connection: object) -> None:
    """End a connection at once, with all data that its client has not received."""
    transport = getattr(connection, "transport", None)
    if isinstance(transport, asyncio.WriteTransport):
        with suppress(OSError, AttributeError):
            # Without lingering, the system discards unsent data too.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Server:
    """Serves an application on a socket until it is stopped."""

    def __init__(self, app: ASGIApp, bound: socket.socket, beside: Callable[[], Coroutine[Any, Any, None]]) -> None:
        settings = uvicorn.Config(
            app,
            http=HttpConnection,
            lifespan="off",
            # Addresses may hold the token, so none are logged.
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            ws_max_size=_MESSAGE_BYTES,
            # Compression would cost memory per client, and reveal secrets by sizes.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(settings)
        self._socket = bound
        self._beside = beside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="edgeemo-web", daemon=True)

    def start(self) -> None:
        """Start, and return when requests are accepted."""
        self._thread.start()
        self._ready.wait()

    def call(self, function: Callable[[], None]) -> None:
        """Schedule a call in the server's event loop.

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
        """Close the WebSockets, end all connections and stop; takes less than two seconds."""
        with suppress(OSError):
            self.call(self._leave)
        self._thread.join(timeout=2)
        self._socket.close()

    def abort(self, client: object) -> None:
        """End the connection of a client at once, by its address, with all data that it has not received."""
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

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        connections = self._uvicorn.server_state.connections
        beside = [asyncio.create_task(work) for work in (self._beside(), end_slow(connections))]
        # The socket listens already: requests that come now are answered as soon as uvicorn runs.
        self._loop.call_soon(self._ready.set)
        try:
            await self._uvicorn.serve(sockets=[self._socket])
        finally:
            self._ready.set()
            for task in beside:
                task.cancel()
            self._abort_all()

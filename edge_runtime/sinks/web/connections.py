"""Which connections are kept: uvicorn by itself keeps them all, and refuses everybody when they are too many."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import time
from collections.abc import Collection
from contextlib import suppress

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 100
"""From so many on, uvicorn answers with status 503."""
ROOMY = 50
"""Beyond so many, those that ask for nothing make room for new ones."""
PER_ADDRESS = 30
"""A browser takes six for what it loads, and one for each page that is open."""
IDLE_SECONDS = 10.0
"""Without a response under way."""
RESPONSE_SECONDS = 60.0
"""For one response; none is long."""
_LOOK_SECONDS = 0.5


class HttpConnection(H11Protocol):
    """uvicorn's connection, which is ended where too many come from one address, and makes room where it is idle."""

    made = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in, or end it."""
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
        """Whether no response is under way, be it that half a request came."""
        # uvicorn takes a response for complete when all of it is in the transport's buffer.
        taken = self.transport.get_write_buffer_size() == 0
        return taken and (self.cycle is None or self.cycle.response_complete)


async def tidy(connections: Collection[object]) -> None:
    """End connections that take too long, for ever: uvicorn gives all the time there is to the one who sends slowly."""
    seen: dict[tuple[HttpConnection, object], float] = {}
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        # A connection has another "cycle" for each request. Those of WebSockets are the hub's.
        each_now = [(each, each.cycle) for each in connections if isinstance(each, HttpConnection)]
        seen = {key: seen.get(key, now) for key in each_now}
        for (connection, _), since in seen.items():
            if now - since > (IDLE_SECONDS if connection.idle else RESPONSE_SECONDS):
                abort(connection)


def limited_address(client: tuple[str, int] | None) -> str | None:
    """Return the address that counts for `PER_ADDRESS`; none for this machine, whose proxy may bring many people."""
    if client is None:
        return None
    address = ipaddress.ip_address(client[0].partition("%")[0])
    plain = getattr(address, "ipv4_mapped", None) or address
    return None if plain.is_loopback else client[0]


def abort(connection: object) -> None:
    """End a connection at once, with all that its other end has not taken."""
    transport = getattr(connection, "transport", None)
    if isinstance(transport, asyncio.WriteTransport):
        with suppress(OSError, AttributeError):
            # Nothing lingers: the system forgets too what the other end has not taken.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

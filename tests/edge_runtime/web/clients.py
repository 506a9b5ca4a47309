"""Clients of the web sink for its tests."""

import json
import socket
import time
from contextlib import contextmanager

from websockets.sync.client import connect

UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}
UPGRADE |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}


def handshake(host):
    """Return the bytes that open a WebSocket."""
    headers = UPGRADE | {"Host": host}
    return "\r\n".join(["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def live(sink, **headers):
    """Open the WebSocket as a program does, without Origin."""
    url = sink.address.replace("http", "ws") + "/ws"
    return connect(url, additional_headers=headers, proxy=None, max_size=None)


def receive(socket, wanted):
    """Return the next message of a type."""
    deadline = time.monotonic() + 10
    while (message := json.loads(socket.recv(timeout=5)))["type"] != wanted:
        # The level comes for ever.
        assert time.monotonic() < deadline, f"no message of type '{wanted}' came"
    return message


def port_of(sink):
    return int(sink.address.rpartition(":")[2])


@contextmanager
def opened(sink, sent=b""):
    """A connection over which some bytes were sent, with small buffers."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port_of(sink)))
    raw.sendall(sent)
    try:
        yield raw
    finally:
        raw.close()


def idle_client(sink):
    """A client that opens the WebSocket and then reads nothing."""
    return opened(sink, handshake("localhost"))

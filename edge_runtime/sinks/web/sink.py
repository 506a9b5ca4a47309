"""The web sink: starts the server, prints its addresses, keeps the events and wakes the pages."""

from __future__ import annotations

import fcntl
import functools
import ipaddress
import secrets
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

from edge_runtime import config
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import Event
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.interface import Sink
from edge_runtime.sinks.web.access import Guard, Token, configured_token
from edge_runtime.sinks.web.live import COUNT, History, Hub, View
from edge_runtime.sinks.web.pages import application
from edge_runtime.sinks.web.server import Server, address_text, bind

_TOKEN_BYTES = 24
_FEWEST = 100
"""Fewest events that are kept of each source."""
_EVERYWHERE = ("0.0.0.0", "::")
_BEYOND: dict[int, str] = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses of documentation (RFC 5737, RFC 3849), which stand for any host beyond the local network."""
_ANY_PORT = 9
_SIOCGIFADDR = 0x8915
_ADDRESS = slice(20, 24)
"""Where `struct ifreq` holds an IPv4 address: after 16 bytes of a name, 2 of a family and 2 of a port."""
_PLAIN = (
    "web page: warning: it is plain HTTP, so its token and its events can be read on the network; "
    "where that matters, leave it on 127.0.0.1 and use an SSH tunnel (ssh -L)"
)


class WebSink(Sink):
    """Serves a page that shows the events as they come.

    With several sources, it shows one at a time. Only this machine can reach it, unless the settings name another
    address: then it needs a token.
    """

    name = "web page"

    def __init__(
        self, settings: config.WebSink, monitor: Monitor, sources: Mapping[str, Monitor] | None = None
    ) -> None:
        self._settings = settings
        states = sources or {"": monitor}
        # The bound on the memory of the history is that of all sources together.
        most = max(_FEWEST, COUNT // len(states))
        self._views = {name: View(state, History(settings.history_minutes, most)) for name, state in states.items()}
        self._hub: Hub | None = None
        self._server: Server | None = None
        self.address = ""

    def __enter__(self) -> WebSink:
        """Bind, serve and print the addresses; a random token is printed here and nowhere else.

        Raises:
            EdgeemoError: the address is in use, or the token's file cannot be read.
            WrongUseError: the token is malformed, or too short for the network.
        """
        settings = self._settings
        bound = bind(settings.host, settings.port)
        ip, port = bound.getsockname()[:2]
        self.address = f"http://{address_text(ip, port)}"
        loopback = ipaddress.ip_address(ip.partition("%")[0]).is_loopback
        try:
            token = configured_token(settings, loopback=loopback)
        except EdgeemoError:
            bound.close()
            raise
        random = None if loopback or token else secrets.token_urlsafe(_TOKEN_BYTES)
        expected = token or random
        # `abort` is called from the server's loop only, which begins after `server` is set.
        self._hub = Hub(self._views, settings.history_minutes, lambda client: server.abort(client))
        app = Guard(
            application(self._views, self._hub),
            Token(expected, port) if expected else None,
            {"localhost", "127.0.0.1", "::1", ip, settings.host.lower()} if loopback else None,
            settings.allowed_hosts,
        )
        server = self._server = Server(app, bound, self._hub.tick)
        server.start()
        # Other machines may not be able to resolve this machine's name.
        hosts = [*own_addresses(bound.family), socket.gethostname()] if ip in _EVERYWHERE else [ip]
        for host in hosts:
            console.print(f"web page: http://{address_text(host, port)}/{f'?token={random}' if random else ''}")
        if not loopback:
            console.print(_PLAIN)
        return self

    def emit(self, event: Event) -> None:
        """Keep one event and wake the open pages, without waiting for them.

        Raises:
            OSError: the server does not run.
        """
        if self._server is None or self._hub is None:
            raise OSError("the web server does not run")
        view = self._views[event.source or ""]
        view.history.add(event)
        self._server.call(functools.partial(self._hub.wake, view))

    def close(self) -> None:
        """Close the connections of the pages and stop, in less than two seconds."""
        if self._server is not None:
            self._server.stop()
            self._server = None


def own_addresses(family: int) -> list[str]:
    """Return this machine's addresses of a family, that of the default route first; nothing is sent.

    IPv4 addresses of all interfaces, such as an access point of the device, are found on Linux.
    """
    found = [address_towards(_BEYOND[family], family)]
    if family == socket.AF_INET:
        with suppress(OSError):
            found += [address_of(name) for _, name in socket.if_nameindex()]
    # Link-local IPv6 addresses need an interface beside them, which links cannot hold.
    return [each for each in dict.fromkeys(found) if each and not each.startswith(("127.", "::1", "fe80:"))]


def address_towards(destination: str, family: int) -> str | None:
    """Return the source address of datagrams to a destination; None without a route."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((destination, _ANY_PORT))
        return str(probe.getsockname()[0])
    return None


def address_of(interface: str) -> str | None:
    """Return the IPv4 address of a network interface; None if it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[_ADDRESS])
    return None

"""The sink: starts the server, keeps the events, wakes the pages."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from edge_runtime import config
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError, missing_extra
from edge_runtime.events import Event
from edge_runtime.extras import missing_modules
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.interface import Sink
from edge_runtime.sinks.web.addresses import own_addresses
from edge_runtime.sinks.web.history import History

if TYPE_CHECKING:
    from edge_runtime.sinks.web.hub import Hub
    from edge_runtime.sinks.web.server import Server

_EVERYWHERE = ("0.0.0.0", "::")
_PLAIN = (
    "web page: warning: it is plain HTTP, so whoever can read along on the network reads its token and its events; "
    "where that matters, leave it on 127.0.0.1 and reach it through an SSH tunnel (ssh -L)"
)


class WebSink(Sink):
    """Serves a page that shows the events while they come; see the package for its parts.

    Only this machine can reach it, unless the settings name another address: then a token is asked for.

    Args:
        settings: where, and with which token.
        monitor: what goes on.

    Raises:
        MissingPartError: the extra ``web`` is not installed.
    """

    name = "web page"

    def __init__(self, settings: config.WebSink, monitor: Monitor) -> None:
        missing = missing_modules("web")
        if missing:
            raise missing_extra("web", missing[0])
        self._settings = settings
        self._monitor = monitor
        self._history = History(settings.history_minutes)
        self._hub: Hub | None = None
        self._server: Server | None = None
        self.address = ""

    def __enter__(self) -> WebSink:
        """Bind and serve, and say where; a token that was made up is told here and nowhere else.

        Raises:
            EdgeemoError: the address is taken, or the token's file cannot be read.
            WrongUseError: the token is none, or too short for the network.
        """
        from edge_runtime.sinks.web.auth import Token, given_token, made_up_token, refuse_short
        from edge_runtime.sinks.web.guard import Guard
        from edge_runtime.sinks.web.hub import Hub
        from edge_runtime.sinks.web.pages import application
        from edge_runtime.sinks.web.server import Server, address_text, bind

        token = given_token(self._settings)
        bound = bind(self._settings.host, self._settings.port)
        ip, port = bound.getsockname()[:2]
        self.address = f"http://{address_text(ip, port)}"
        alone = ipaddress.ip_address(ip.partition("%")[0]).is_loopback
        if token and not alone:
            try:
                refuse_short(token)
            except WrongUseError:
                bound.close()
                raise
        made_up = None if alone or token else made_up_token()
        asked = token or made_up
        # Called from the server's own loop only, so it is there by then.
        self._hub = Hub(self._history, self._monitor, self._settings.history_minutes, lambda who: server.abort(who))
        app = Guard(
            application(self._history, self._monitor, self._hub),
            Token(asked, port) if asked else None,
            {"localhost", "127.0.0.1", "::1", ip, self._settings.host.lower()} if alone else None,
        )
        server = self._server = Server(app, bound, self._hub.tick)
        server.start()
        # A name may be known to this machine alone.
        hosts = [*own_addresses(bound.family), socket.gethostname()] if ip in _EVERYWHERE else [ip]
        for host in hosts:
            console.print(f"web page: http://{address_text(host, port)}/{f'?token={made_up}' if made_up else ''}")
        if not alone:
            console.print(_PLAIN)
        return self

    def emit(self, event: Event) -> None:
        """Keep one event, and have the open pages told; it never waits for them.

        Raises:
            OSError: the server does not run.
        """
        if self._server is None or self._hub is None:
            raise OSError("the web server does not run")
        self._history.add(event)
        self._server.call(self._hub.wake)

    def close(self) -> None:
        """Tell the pages and stop, in less than two seconds."""
        if self._server is not None:
            self._server.stop()
            self._server = None

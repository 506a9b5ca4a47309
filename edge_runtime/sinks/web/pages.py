"""The responses of the web server: the page and its files, state, history, health and metrics."""

from __future__ import annotations

from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from edge_runtime.loop.monitor import Snapshot
from edge_runtime.sinks.web.live import Hub, View, Views
from edge_runtime.sinks.web.state import CONTENT_TYPE, as_json, health_of_all, metrics, state

NO_SOURCE = 1008
"""Code of a WebSocket for a source that is not there."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def application(views: Views, hub: Hub) -> Starlette:
    """Return the application, to be wrapped by a `Guard`."""
    answers = _Answers(views, hub)
    return Starlette(
        routes=[
            Route("/", answers.page),
            Route("/static/{name}", answers.static),
            Route("/api/state", answers.state),
            Route("/api/events", answers.events),
            Route("/healthz", answers.healthz),
            Route("/metrics", answers.metrics),
            WebSocketRoute("/ws", answers.live),
        ]
    )


class _Answers:
    """The answers to all requests.

    With several sources, the query ``source=NAME`` selects one: by default the first for a page, all for ``/api``.
    """

    def __init__(self, views: Views, hub: Hub) -> None:
        self._views = views
        self._hub = hub
        self._static_files = _static_files()

    def _chosen(self, connection: HTTPConnection) -> View | None:
        return self._views.get(connection.query_params.get("source", next(iter(self._views))))

    def _states(self) -> dict[str, Snapshot]:
        return {name: view.monitor.snapshot() for name, view in self._views.items()}

    async def page(self, _request: Request) -> Response:
        return self._static_files["index.html"]

    async def static(self, request: Request) -> Response:
        return self._static_files.get(request.path_params["name"]) or _missing("file")

    async def state(self, request: Request) -> Response:
        if (view := self._chosen(request)) is None:
            return _missing("source")
        if len(self._views) > 1 and "source" not in request.query_params:
            return _current(as_json({"sources": {name: state(now) for name, now in self._states().items()}}))
        return _current(as_json(state(view.monitor.snapshot())))

    async def events(self, request: Request) -> Response:
        if (view := self._chosen(request)) is None:
            return _missing("source")
        wanted = [view] if "source" in request.query_params else self._views.values()
        entries = [entry for each in wanted for entry in each.history.after(0).entries]
        return _current(f"[{','.join(entry.text for entry in sorted(entries, key=lambda entry: entry.kept))}]")

    async def healthz(self, _request: Request) -> Response:
        content = health_of_all(self._states())
        return _current(as_json(content), 200 if content["status"] == "ok" else 503)

    async def metrics(self, _request: Request) -> Response:
        text = metrics(self._states(), clients=self._hub.clients, dropped_clients=self._hub.dropped)
        return _current(text, media_type=CONTENT_TYPE)

    async def live(self, socket: WebSocket) -> None:
        if (view := self._chosen(socket)) is None:
            # Before the WebSocket is accepted, this becomes a response with status 403.
            await socket.close(NO_SOURCE)
            return
        await self._hub.serve(socket, view)


def _missing(what: str) -> Response:
    return PlainTextResponse(f"There is no such {what}.\n", 404)


def _current(text: str, status: int = 200, media_type: str = "application/json") -> Response:
    return Response(text, status, media_type=media_type, headers={"Cache-Control": "no-store"})


def _static_files() -> dict[str, Response]:
    """Return the responses of the page's files by name: they are few and small, and no request becomes a path."""
    return {
        each.name: Response(
            each.read_bytes(),
            # After an update of the package, browsers must load the new files.
            headers={"Content-Type": _TYPES[each.name[each.name.rindex(".") :]], "Cache-Control": "no-cache"},
        )
        for each in (files("edge_runtime.sinks.web") / "static").iterdir()
        if each.name.endswith(tuple(_TYPES))
    }

"""The responses of the web server: the page and its files, state, history, health and metrics."""

from __future__ import annotations

from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.web.live import History, Hub
from edge_runtime.sinks.web.state import CONTENT_TYPE, as_json, health, metrics, state

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def application(history: History, monitor: Monitor, hub: Hub) -> Starlette:
    """Return the application, to be wrapped by a `Guard`."""
    static_files = _static_files()

    async def page(_request: Request) -> Response:
        return static_files["index.html"]

    async def static(request: Request) -> Response:
        return static_files.get(request.path_params["name"]) or PlainTextResponse("There is no such file.\n", 404)

    async def api_state(_request: Request) -> Response:
        return _current(as_json(state(monitor.snapshot())))

    async def api_events(_request: Request) -> Response:
        return _current(f"[{','.join(entry.text for entry in history.after(0).entries)}]")

    async def healthz(_request: Request) -> Response:
        content = health(monitor.snapshot())
        return _current(as_json(content), 200 if content["status"] == "ok" else 503)

    async def prometheus(_request: Request) -> Response:
        text = metrics(monitor.snapshot(), clients=hub.clients, dropped_clients=hub.dropped)
        return _current(text, media_type=CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", static),
            Route("/api/state", api_state),
            Route("/api/events", api_events),
            Route("/healthz", healthz),
            Route("/metrics", prometheus),
            WebSocketRoute("/ws", hub.serve),
        ]
    )


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

"""What is answered: the page and its files, the state, the history, health and metrics."""

from __future__ import annotations

from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.web.history import History
from edge_runtime.sinks.web.hub import Hub
from edge_runtime.sinks.web.messages import as_json, health, state
from edge_runtime.sinks.web.metrics import CONTENT_TYPE, metrics

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def application(history: History, monitor: Monitor, hub: Hub) -> Starlette:
    """Return the application, without the guard before it."""
    parts = _static_files()

    async def page(_request: Request) -> Response:
        return parts["index.html"]

    async def static(request: Request) -> Response:
        return parts.get(request.path_params["name"]) or PlainTextResponse("There is no such file.\n", 404)

    async def told_state(_request: Request) -> Response:
        return _json(as_json(state(monitor.snapshot())))

    async def told_events(_request: Request) -> Response:
        return _json(f"[{','.join(entry.text for entry in history.after(0).entries)}]")

    async def healthz(_request: Request) -> Response:
        told = health(monitor.snapshot())
        return _json(as_json(told), 200 if told["status"] == "ok" else 503)

    async def told_metrics(_request: Request) -> Response:
        text = metrics(monitor.snapshot(), clients=hub.clients, dropped_clients=hub.dropped)
        return Response(text, media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", static),
            Route("/api/state", told_state),
            Route("/api/events", told_events),
            Route("/healthz", healthz),
            Route("/metrics", told_metrics),
            WebSocketRoute("/ws", hub.serve),
        ]
    )


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json", headers={"Cache-Control": "no-store"})


def _static_files() -> dict[str, Response]:
    """Return the files of the page as answers; they are few and small, and no path is ever made of a request."""
    folder = files("edge_runtime.sinks.web") / "static"
    return {
        part.name: Response(
            part.read_bytes(),
            # An update of the package is an update of the page.
            headers={"Content-Type": _TYPES[part.name[part.name.rindex(".") :]], "Cache-Control": "no-cache"},
        )
        for part in folder.iterdir()
        if part.name.endswith(tuple(_TYPES))
    }

"""Emotion events over a WebSocket: a client sends sound, and gets events as JSON.

    python -m edge_runtime.examples.websocket_server --port 8766      # wants: pip install "edgeemo[web]"

A client connects to ``ws://127.0.0.1:8766/?rate=16000``, sends binary messages of 16-bit little-endian mono PCM, of any
length, and an empty one at the end. All connections share one engine; each has a stream, and so a speaker, of its own.
"""

from __future__ import annotations

import asyncio
import contextlib

import click
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_runtime import EdgeemoError, Event, Model, load

UNSUPPORTED = 1003


def application(model: Model) -> Starlette:
    """Return the server of a model."""
    turn = asyncio.Lock()  # one window at a time: more would only make all of them late

    async def talk(socket: WebSocket) -> None:
        await socket.accept()

        async def send(events: list[Event]) -> None:
            for event in events:
                await socket.send_text(event.model_dump_json())

        # The client may leave at any time; a text message is not audio.
        with contextlib.suppress(WebSocketDisconnect, KeyError):
            try:
                stream = model.stream(int(socket.query_params.get("rate", "16000")), "websocket")
                while sound := await socket.receive_bytes():
                    async with turn:
                        events = await asyncio.to_thread(stream.feed, np.frombuffer(sound, "<i2"))
                    await send(events)
                async with turn:
                    events = await asyncio.to_thread(stream.close)
                await send(events)
                await socket.close()
            except (EdgeemoError, ValueError) as error:
                await socket.close(UNSUPPORTED, str(error)[:120])

    return Starlette(routes=[WebSocketRoute("/", talk)])


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8766, show_default=True, help="Port to listen on.")
@click.option("--bundle", help="Not the default bundle.")
def main(host: str, port: int, bundle: str | None) -> None:
    """Serve the bundle."""
    with load(bundle) as model:
        uvicorn.run(application(model), host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main()

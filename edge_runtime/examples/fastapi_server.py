"""Emotion events over a WebSocket, with FastAPI: a client sends sound, and receives events as JSON.

    pip install "edgeemo[web]" fastapi
    python -m edge_runtime.examples.fastapi_server --port 8766

A client connects to ``ws://127.0.0.1:8766/?rate=16000``, sends binary messages of 16-bit little-endian mono PCM, of a
megabyte at most, and an empty one at the end. All connections share one engine; each has a stream, and so a speaker, of
its own. The server prints all events, also the last ones of a client that left without an empty message.

It has no password, no encryption and no limit on clients: every program of this machine can use it, and every web page
that is open here. For other machines, put a proxy in front of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from edge_runtime import EdgeemoError, Event, Model, load

UNSUPPORTED = 1003
LARGEST = 1 << 20  # bytes of a message, half a minute of sound: the other clients wait while it is scored


def application(model: Model) -> FastAPI:
    """Return the server of a model."""
    app = FastAPI(title="edgeemo")
    turn = asyncio.Lock()  # one window at a time: more would only make all of them late

    @app.websocket("/")
    async def talk(socket: WebSocket, rate: int = 16_000) -> None:
        async def send(work: Callable[..., list[Event]], *sound: np.typing.NDArray[Any]) -> None:
            async with turn:
                lines = [event.model_dump_json() for event in await asyncio.to_thread(work, *sound)]
            click.echo("\n".join(lines), nl=bool(lines))
            for line in lines:
                await socket.send_text(line)

        await socket.accept()
        try:
            stream = model.stream(rate, "websocket")
        except EdgeemoError as error:
            await socket.close(UNSUPPORTED, str(error)[:120])
            return
        with contextlib.suppress(WebSocketDisconnect):  # the client may leave at any time
            try:
                while sound := await socket.receive_bytes():
                    await send(stream.feed, np.frombuffer(sound, "<i2"))
                await send(stream.close)
                await socket.close()
            except (EdgeemoError, ValueError, KeyError) as error:  # half a sample; a text in the place of sound
                await send(stream.close)
                await socket.close(UNSUPPORTED, f"not 16-bit PCM: {error}"[:120])
        for event in stream.close():
            click.echo(event.model_dump_json())

    return app


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8766, show_default=True, help="Port to listen on.")
@click.option("--bundle", help="Not the default bundle.")
def main(host: str, port: int, bundle: str | None) -> None:
    """Serve the bundle."""
    with load(bundle) as model:
        uvicorn.run(application(model), host=host, port=port, log_level="warning", ws_max_size=LARGEST)


if __name__ == "__main__":
    main()

"""Feed a stream from an audio callback, as in robots and games: the callback copies, a worker thread scores.

    python -m edge_runtime.examples.callback                # PortAudio's callback, until Ctrl-C

The owner of the microphone (ROS, a game engine, a headset's SDK) calls `Capture.take` with each chunk.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edge_runtime import Event, Model, load


class Capture:
    """Scores the chunks of a callback on a worker thread.

    Args:
        model: an open bundle.
        rate: samples per second of the chunks.
        react: called with each event, on the worker thread.
        room: most chunks in the queue; beyond it, chunks are dropped, since a callback must not block.
    """

    def __init__(self, model: Model, rate: int, react: Callable[[Event], None], room: int = 500) -> None:
        self._stream = model.stream(rate, "callback")
        self._react = react
        self._chunks: queue.Queue[npt.NDArray[Any] | None] = queue.Queue(room)
        self.dropped = 0
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def take(self, chunk: npt.NDArray[Any]) -> None:
        """Queue a chunk ``[samples]`` or ``[samples, channels]``, float or integer; returns at once."""
        try:
            self._chunks.put_nowait(chunk.copy())
        except queue.Full:
            self.dropped += len(chunk)

    def close(self) -> None:
        """Score the queued chunks, and deliver the last events."""
        self._chunks.put(None)
        self._worker.join()

    def _work(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            for event in self._stream.feed(chunk):
                self._react(event)
        for event in self._stream.close():
            self._react(event)


@click.command()
@click.option("--rate", default=16_000, show_default=True, help="Samples per second of the microphone.")
@click.option("--bundle", help="Another bundle than the default.")
def main(rate: int, bundle: str | None) -> None:
    """Print the events of the default microphone."""
    import sounddevice

    with (
        load(bundle) as model,
        contextlib.closing(Capture(model, rate, show)) as capture,
        sounddevice.InputStream(rate, channels=1, callback=lambda chunk, *_: capture.take(np.asarray(chunk))),
    ):
        while True:
            time.sleep(1)


def show(event: Event) -> None:
    """Print an event as a JSON line."""
    click.echo(event.model_dump_json())


if __name__ == "__main__":
    main()

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
        self._chunks: queue.Queue[tuple[npt.NDArray[Any], int] | None] = queue.Queue(room)
        self.dropped = self._lost = 0
        self._failed: Exception | None = None
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def take(self, chunk: npt.NDArray[Any]) -> None:
        """Queue a chunk ``[samples]`` or ``[samples, channels]``, float or integer; returns at once."""
        try:
            self._chunks.put_nowait((chunk.copy(), self._lost))
            self._lost = 0
        except queue.Full:
            self.dropped += len(chunk)
            self._lost += len(chunk)  # reported with the next chunk, so that no window spans the gap

    @property
    def running(self) -> bool:
        """Whether chunks are scored: until `close`, or an error, which `close` raises."""
        return self._worker.is_alive()

    def close(self) -> None:
        """Score the queued chunks, and deliver the last events."""
        while self._worker.is_alive():
            with contextlib.suppress(queue.Full):
                self._chunks.put(None, timeout=0.1)
                break
        self._worker.join()
        if self._failed is not None:
            raise self._failed

    def _work(self) -> None:
        try:
            while (item := self._chunks.get()) is not None:
                self._report(self._stream.feed(*item))
            self._report(self._stream.close())
        except Exception as error:  # raised again by `close`, on the caller's thread
            self._failed = error

    def _report(self, events: list[Event]) -> None:
        for event in events:
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

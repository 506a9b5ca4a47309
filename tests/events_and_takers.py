"""Events as the runtime writes them, a sink that waits and fails on request, and `until`: for the tests of sinks."""

import socket
import threading
import time

from edge_runtime.events import EmotionEvent, StatusEvent
from edge_runtime.sinks.interface import Sink

QUICK = (0.01, 0.04)


def emotion(number, kind="final"):
    return EmotionEvent(
        type=kind,
        start=float(number),
        end=number + 1.0,
        label="joy",
        probabilities={"joy": 0.75, "anger": 0.25},
        confidence=0.75,
        uncertain=False,
        latency_ms=1.0,
        windows=1,
        speech_ratio=None,
        dropped_samples=0,
        model="0123456789ab",
        backend="onnx int8",
    )


def status(number=0, detail="listening"):
    return StatusEvent(
        start=number, end=number, status="started", detail=detail, dropped_samples=0, model="m", backend="b"
    )


def until(condition, seconds=10.0, pause=0.002):
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(pause)
    return result


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Taker(Sink):
    """Keeps what it takes; waits and fails on request."""

    def __init__(self, name="taker", *, provisional=True, refuses=None):
        self.name = name
        self.provisional = provisional
        self.refuses = refuses
        self.may = threading.Event()
        self.may.set()
        self.waiting = threading.Event()
        self.taken = []
        self.tries = 0
        self.state = "new"

    def __enter__(self):
        self.state = "open"
        return self

    def close(self):
        self.state = "closed"

    def emit(self, event):
        self.tries += 1
        if not self.may.is_set():
            self.waiting.set()
            assert self.may.wait(20)
        if self.refuses is not None and (error := self.refuses(event)) is not None:
            raise error
        self.taken.append(event)

    @property
    def starts(self):
        return [event.start for event in self.taken]


def lost(monitor):
    return monitor.snapshot().lost_events

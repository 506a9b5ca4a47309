"""Events and a sink for the tests of the web page."""

import time
from collections.abc import Callable
from itertools import count

from edge_runtime import config
from edge_runtime.events import EmotionEvent, StatusEvent
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.web.sink import WebSink

LABELS = ("neutral", "happy", "sad")
MODEL, BACKEND = "0123456789ab", "onnxruntime"
_numbers = count()


def emotion(kind, start, end, label="happy", *, labels=LABELS, confidence=0.75, uncertain=False):
    rest = (1 - confidence) / (len(labels) - 1)
    return EmotionEvent(
        type=kind,
        # Two events never have the same time on a device.
        time=f"2026-01-01T12:00:00.{next(_numbers):06}+00:00",
        start=start,
        end=end,
        label=label,
        probabilities={each: confidence if each == label else rest for each in labels},
        confidence=confidence,
        uncertain=uncertain,
        latency_ms=20.0,
        windows=2,
        speech_ratio=0.9,
        dropped_samples=0,
        model=MODEL,
        backend=BACKEND,
    )


def status(kind, at, detail):
    return StatusEvent(start=at, end=at, status=kind, detail=detail, dropped_samples=0, model=MODEL, backend=BACKEND)


def listening(labels=LABELS, source="test microphone"):
    monitor = Monitor()
    monitor.describe(source=source, model=MODEL, backend=BACKEND, labels=labels)
    monitor.record(status("started", 0.0, "listening"))
    return monitor


def web_sink(monitor=None, **settings):
    return WebSink(config.WebSink(**({"port": 0} | settings)), monitor or listening())


def wait_for(condition: Callable[[], object], seconds: float = 10.0):
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return result

"""Events and a sink for the tests of the web page."""

from itertools import count

from edge_runtime import config
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.web.sink import WebSink
from tests import events_and_takers
from tests.events_and_takers import until

LABELS = ("neutral", "happy", "sad")
MODEL, BACKEND = "0123456789ab", "onnxruntime"
_numbers = count()


def emotion(kind, start, end, label="happy", *, labels=LABELS, confidence=0.75, uncertain=False, dimensions=None):
    rest = (1 - confidence) / (len(labels) - 1)
    given = {
        # Two events never have the same time on a device.
        "time": f"2026-01-01T12:00:00.{next(_numbers):06}+00:00",
        "end": end,
        "label": label,
        "probabilities": {each: confidence if each == label else rest for each in labels},
        "confidence": confidence,
        "uncertain": uncertain,
        "dimensions": dimensions,
        "backend": BACKEND,
    }
    return events_and_takers.emotion(start, kind).model_copy(update=given)


def status(kind, at, detail):
    return events_and_takers.status(at, detail).model_copy(update={"status": kind, "backend": BACKEND})


def listening(labels=LABELS, source="test microphone"):
    monitor = Monitor()
    monitor.describe(source=source, model=MODEL, backend=BACKEND, labels=labels)
    monitor.record(status("started", 0.0, "listening"))
    return monitor


def web_sink(monitor=None, **settings):
    return WebSink(config.WebSink(**({"port": 0} | settings)), monitor or listening())


def wait_for(condition, seconds=10.0):
    """Wait until something is true, and return it; less often than `until`, for requests to a server."""
    return until(condition, seconds, pause=0.02)

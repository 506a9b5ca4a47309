"""On-device runtime of edgeemo: audio in, emotion events out; also the `edgeemo` command itself.

The names below are stable. They are loaded on first use, so that `import edge_runtime` is fast.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.api import listen, load, score_file
    from edge_runtime.backends import open_engine
    from edge_runtime.bundles.bundle import Bundle, load_bundle
    from edge_runtime.config import (
        DecisionSettings,
        EngineSettings,
        ListenSettings,
        SpeakerSettings,
        VadSettings,
        read_settings,
    )
    from edge_runtime.engines.engine import Engine, Scores
    from edge_runtime.errors import EdgeemoError
    from edge_runtime.events import EmotionEvent, Event, StatusEvent, parse_event
    from edge_runtime.loop.listener import Listener
    from edge_runtime.loop.monitor import Monitor, Snapshot
    from edge_runtime.model import Model, Stream
    from edge_runtime.sinks.interface import Sink
    from edge_runtime.sources.source_uri import open_source

__version__ = "0.2.0"

# From version 1.29, ONNX Runtime sends telemetry on machine and models unless this is set before it is loaded. A device
# with a microphone sends none.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Bundle",
    "DecisionSettings",
    "EdgeemoError",
    "EmotionEvent",
    "Engine",
    "EngineSettings",
    "Event",
    "ListenSettings",
    "Listener",
    "Model",
    "Monitor",
    "Scores",
    "Sink",
    "Snapshot",
    "SpeakerSettings",
    "StatusEvent",
    "Stream",
    "VadSettings",
    "listen",
    "load",
    "load_bundle",
    "open_engine",
    "open_source",
    "parse_event",
    "read_settings",
    "score_file",
]

_PLACES = {
    "api": ("listen", "load", "score_file"),
    "model": ("Model", "Stream"),
    "backends": ("open_engine",),
    "bundles.bundle": ("Bundle", "load_bundle"),
    "config": (
        "DecisionSettings",
        "EngineSettings",
        "ListenSettings",
        "SpeakerSettings",
        "VadSettings",
        "read_settings",
    ),
    "engines.engine": ("Engine", "Scores"),
    "errors": ("EdgeemoError",),
    "events": ("EmotionEvent", "Event", "StatusEvent", "parse_event"),
    "loop.listener": ("Listener",),
    "loop.monitor": ("Monitor", "Snapshot"),
    "sources.source_uri": ("open_source",),
    "sinks.interface": ("Sink",),
}


def __getattr__(name: str) -> object:
    place = next((module for module, names in _PLACES.items() if name in names), None)
    if place is None:
        raise AttributeError(f"module 'edge_runtime' has no attribute '{name}'")
    return getattr(importlib.import_module(f"edge_runtime.{place}"), name)

"""What the runtime says: one JSON object an event, schema-versioned."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = "1.0"


class EmotionEvent(BaseModel):
    """An emotion that was heard.

    Attributes:
        schema_version: version of this schema.
        type: ``provisional`` while a stretch goes on, ``final`` for the whole of it.
        start: first second of what was scored, on the sample clock (samples received / 16 kHz, gaps included).
        end: last second.
        label: the most probable emotion.
        probabilities: calibrated probability of each emotion.
        confidence: probability of ``label``.
        uncertain: confidence under the bundle's threshold, or too little speech.
        latency_ms: from the arrival of the last sample to this event, in milliseconds.
        windows: how many windows the result is the mean of.
        speech_ratio: share of speech in what was scored; null while nothing tells speech from silence.
        dropped_samples: samples lost in capture since the start.
        model: first 12 digits of the bundle's hash.
        backend: what ran the graph.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: str = SCHEMA_VERSION
    type: Literal["provisional", "final"]
    start: float
    end: float
    label: str
    probabilities: dict[str, float]
    confidence: float
    uncertain: bool
    latency_ms: float
    windows: int
    speech_ratio: float | None
    dropped_samples: int
    model: str
    backend: str


class StatusEvent(BaseModel):
    """Something that happened to the stream itself.

    Attributes:
        schema_version: version of this schema.
        type: ``status``.
        start: second on the sample clock.
        end: the same second.
        status: what happened: ``started``, ``gap``, ``backend`` (what runs the graph had to be
            changed or built again), ``stopped``.
        detail: one sentence for a person.
        dropped_samples: samples lost in capture since the start.
        model: first 12 digits of the bundle's hash.
        backend: what runs the graph.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: str = SCHEMA_VERSION
    type: Literal["status"] = "status"
    start: float
    end: float
    status: Literal["started", "gap", "backend", "stopped"]
    detail: str
    dropped_samples: int
    model: str
    backend: str


Event = EmotionEvent | StatusEvent

"""What the runtime says: one JSON object an event, schema-versioned."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA_VERSION = "1.2"

Status = Literal[
    "started",
    "gap",
    "backend",
    "silence",
    "no-audio",
    "audio-back",
    "device-lost",
    "device-back",
    "bad-audio",
    "engine",
    "sink",
    "profile",
    "stopped",
]
"""What may happen to a stream:

* ``started``, ``stopped``: listening began, ended;
* ``gap``: samples were lost in capture, and the sample clock moved on by them;
* ``silence``: nothing but digital silence for some seconds; ``no-audio``: no frames at all; ``audio-back``: it ended;
* ``device-lost``, ``device-back``: the microphone went away, came back;
* ``bad-audio``: samples that are no numbers were taken for silence;
* ``backend``: what runs the graph had to be changed or built again, as after a failed known-answer test; ``engine``:
  windows cannot be scored, or are again;
* ``sink``: a sink takes no events for now, or takes them again;
* ``profile``: the speaker's profile cannot be saved for now, or is saved again, or was changed or removed by another
  program; or another voice speaks: the profile is paused, or used again, or the session turns to another voice.
"""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class EmotionEvent(BaseModel):
    """An emotion that was heard.

    Attributes:
        schema_version: version of this schema.
        time: when it was said, ISO 8601 in UTC by the device's clock, which may jump: order and length are told by
            ``start`` and ``end``.
        type: ``provisional`` while a stretch goes on, ``final`` for the whole of it.
        start: first second of what was scored, on the sample clock (samples received / 16 kHz, gaps included).
        end: last second.
        label: the most probable emotion; of a provisional event the one that is shown for now, which changes only when
            another one leads it for some windows.
        probabilities: calibrated probability of each emotion; of a provisional event a running mean.
        confidence: probability of ``label``.
        uncertain: confidence under the bundle's threshold, or too little speech.
        latency_ms: from the arrival of the last sample to this event, in milliseconds.
        windows: how many windows a final result is the mean of; 1 for a provisional event.
        speech_ratio: share of speech in what was scored; null where nothing tells speech from silence.
        profile: name of the speaker's profile that the result is relative to; null for none, while somebody else
            speaks, or for what was heard in this session only.
        reference_weight: how far the speaker's usual voice was trusted, 0 (not at all) to below 1.
        dropped_samples: samples lost in capture since the start.
        model: first 12 digits of the bundle's hash.
        backend: what ran the graph.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: str = SCHEMA_VERSION
    time: str = Field(default_factory=_now)
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
    profile: str | None = None
    reference_weight: float = 0.0
    dropped_samples: int
    model: str
    backend: str


class StatusEvent(BaseModel):
    """Something that happened to the stream itself.

    Attributes:
        schema_version: version of this schema.
        time: when it was said, ISO 8601 in UTC by the device's clock.
        type: ``status``.
        start: second on the sample clock.
        end: the same second.
        status: what happened; `Status` lists it.
        detail: one sentence for a person.
        dropped_samples: samples lost in capture since the start.
        model: first 12 digits of the bundle's hash.
        backend: what runs the graph.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: str = SCHEMA_VERSION
    time: str = Field(default_factory=_now)
    type: Literal["status"] = "status"
    start: float
    end: float
    status: Status
    detail: str
    dropped_samples: int
    model: str
    backend: str


Event = EmotionEvent | StatusEvent
_ANY: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def parse_event(line: str | bytes) -> Event:
    """Return the event that a JSON line holds.

    Raises:
        ValueError: it holds none of this schema.
    """
    return _ANY.validate_json(line)

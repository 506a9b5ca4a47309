"""Events: one JSON object each, with a schema version."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)

from edge_runtime.dimensions import Dimension
from edge_runtime.text import valid_unicode

SCHEMA_VERSION = "2.1"

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
    "channels",
    "engine",
    "late",
    "sink",
    "profile",
    "stopped",
]
"""Kinds of status events:

* ``started``, ``stopped``: start and end of the stream;
* ``gap``: samples were lost in capture; the sample clock includes them;
* ``silence``: digital silence for some seconds; ``no-audio``: no frames; ``audio-back``: the end of either;
* ``device-lost``, ``device-back``: the microphone was disconnected, reconnected;
* ``bad-audio``: the audio is not as it should be: samples that are not numbers were replaced by silence, integers in
  floating-point samples were scaled, a large offset or strong rumble was removed, or a header states another length;
* ``channels``: which of several channels are used, and why, at the beginning and at each change;
* ``backend``: the engine was replaced or rebuilt, as after a failed known-answer test; ``engine``: windows cannot be
  scored, or are scored again;
* ``late``: provisional events are left out because decisions are more than a hop late, or are given again;
* ``sink``: a sink accepts no events, or accepts them again;
* ``profile``: the speaker's profile cannot be saved, is saved again, or was changed or removed by another program; or a
  change of speaker was detected: the profile is paused or used again, or the session continues with another speaker.
"""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


_ABSENT = ("source", "dimensions")
"""Fields that are left out where they have no value."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: str | None = None

    @model_serializer(mode="wrap")
    def _without_absent_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # One for all events: that of a derived class would take the place of this one.
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if value is not None or name not in _ABSENT}


class EmotionEvent(_Event):
    """An emotion in a stretch of speech.

    Attributes:
        source: name of the source, as under ``[sources]`` of the settings; absent where the source has no name.
        schema_version: version of this schema.
        time: of the event, ISO 8601 in UTC by the device's clock, which may jump; ``start`` and ``end`` give order and
            duration.
        type: ``provisional`` during a stretch of speech, ``final`` for the whole of it.
        start: start of the scored audio in seconds, on the sample clock (samples received / 16 kHz, gaps included).
        end: its end.
        label: the most probable emotion; in a provisional event with hysteresis: it changes only after another one has
            led it for some windows.
        probabilities: calibrated probability of each emotion; in a provisional event a running mean.
        confidence: probability of ``label``.
        uncertain: confidence below the bundle's threshold, or too little speech.
        latency_ms: from the arrival of the last sample to this event, in milliseconds.
        windows: number of windows that a final result averages; 1 for a provisional event.
        speech_ratio: share of speech in the scored audio; null without voice activity detection.
        profile: name of the speaker's profile that was used; null for none, for another speaker, or for a speaker of
            this session only.
        speaker_known: how well the speaker is known, 0 (not at all) to below 1: the share of the variance between
            speakers that the speaker's utterances and clips have removed.
        dimensions: predicted arousal, valence and dominance, each from 0 to 1, as far as the bundle predicts them: the
            mean over the windows so far, in a final event over all of them. Left out for a bundle without. They are
            relative to the training mean, also for a known speaker.
        dropped_samples: samples lost in capture since the start.
        model: first 12 digits of the bundle's hash.
        backend: library, version and precision of the engine.
    """

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
    speaker_known: float = 0.0
    dimensions: dict[Dimension, float] | None = None
    dropped_samples: int
    model: str
    backend: str


class StatusEvent(_Event):
    """A change in the state of the stream.

    Attributes:
        source: name of the source, as under ``[sources]`` of the settings; absent where the source has no name.
        schema_version: version of this schema.
        time: of the event, ISO 8601 in UTC by the device's clock.
        type: ``status``.
        start: second on the sample clock.
        end: the same second.
        status: its kind; see `Status`.
        detail: one sentence in English; bytes of a file's name that are not UTF-8 are escaped.
        dropped_samples: samples lost in capture since the start.
        model: first 12 digits of the bundle's hash.
        backend: library, version and precision of the engine.
    """

    schema_version: str = SCHEMA_VERSION
    time: str = Field(default_factory=_now)
    type: Literal["status"] = "status"
    start: float
    end: float
    status: Status
    detail: Annotated[str, AfterValidator(valid_unicode)]
    dropped_samples: int
    model: str
    backend: str


Event = EmotionEvent | StatusEvent
_ANY: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def parse_event(line: str | bytes) -> Event:
    """Parse a JSON line.

    Raises:
        ValueError: it is not an event of this schema.
    """
    return _ANY.validate_json(line)

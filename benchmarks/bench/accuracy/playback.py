"""Playing recordings to a listener, logging its events, and matching events to utterances."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from edge_runtime.config import VadSettings
from edge_runtime.events import EmotionEvent, Event, StatusEvent, parse_event
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, read_audio

_PAUSES = (1.0, 3.0)
_FRAME = SAMPLE_RATE // 50
_SOUND_DB = -30.0
"""An utterance's sound ends with its last 20 ms above this level, relative to its loudest 20 ms."""
_TOGETHER = 10
"""Utterances that share an offset."""
_FARTHEST = 20.0
"""Largest initial offset of event time to playing time, in seconds."""
_MORE = 6.0
"""Largest increase of the offset from one group of utterances to the next, in seconds."""


@dataclass
class Playlist:
    """Recordings in random order with pauses.

    Attributes:
        paths: recordings to choose from.
        seed: of their order and of the pauses.
        pauses: seconds between two utterances, at least and at most.
        spans: ``(start, end)`` in seconds of playing time of each utterance's sound so far.
        finished: whether all of it has been played.
    """

    paths: Sequence[Path]
    seed: int
    pauses: tuple[float, float] = _PAUSES
    spans: list[tuple[float, float]] = field(default_factory=list)
    finished: bool = False

    def audio(self, seconds: float) -> Iterator[Pcm]:
        """Yield pauses and recordings for at least so many seconds."""
        noise = np.random.default_rng(self.seed)
        position = 0
        while position < seconds * SAMPLE_RATE:
            pause = np.zeros(round(noise.uniform(*self.pauses) * SAMPLE_RATE), np.float32)
            pcm = read_audio(self.paths[int(noise.integers(len(self.paths)))])
            begin = position + len(pause)
            first, last = sounding(pcm)
            self.spans.append(((begin + first) / SAMPLE_RATE, (begin + last) / SAMPLE_RATE))
            position = begin + len(pcm)
            yield pause
            yield pcm
        yield np.zeros(3 * SAMPLE_RATE, np.float32)
        self.finished = True


def sounding(pcm: Pcm) -> tuple[int, int]:
    """Return the first sample of the sound in a recording ``[samples]``, and the one after its end."""
    frames = pcm[: len(pcm) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1))
    loud = np.flatnonzero(level > level.max() * 10 ** (_SOUND_DB / 20))
    return (int(loud[0]) * _FRAME, (int(loud[-1]) + 1) * _FRAME) if len(loud) else (0, len(pcm))


@dataclass
class EventLog:
    """Events of a listener, each with the time (`time.monotonic`) at which it was read."""

    events: list[tuple[float, Event]] = field(default_factory=list)

    def read(self, stream: IO[str]) -> None:
        """Read events until the stream ends."""
        for line in stream:
            self.events.append((time.monotonic(), parse_event(line)))

    def emotions(self, kind: str) -> list[tuple[float, EmotionEvent]]:
        """Return the emotion events of a type."""
        return [(at, event) for at, event in self.events if isinstance(event, EmotionEvent) and event.type == kind]

    def statuses(self) -> list[StatusEvent]:
        """Return the status events."""
        return [event for _, event in self.events if isinstance(event, StatusEvent)]


@dataclass(frozen=True)
class Match:
    """The final event of each utterance.

    Attributes:
        events: ``[utterances]`` index of the event, -1 for none.
        offsets: ``[utterances]`` seconds from playing time to event time.
    """

    events: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float64]

    @property
    def detected(self) -> int:
        """Number of utterances with an event."""
        return int((self.events >= 0).sum())


def match(spans: Sequence[tuple[float, float]], finals: Sequence[EmotionEvent]) -> Match:
    """Find the final event of each utterance.

    The offset from playing time to event time is estimated for groups of utterances, as the one that maximises their
    overlap with the events. It grows by a gap whenever the player is late on a busy machine.

    Args:
        spans: of the utterances, in seconds of playing time.
        finals: final events.
    """
    played = np.array(spans)
    found = np.array([[event.start, event.end] for event in finals]).reshape(-1, 2)
    events = np.full(len(played), -1)
    offsets = np.zeros(len(played))
    if not len(found):
        return Match(events, offsets)
    groups = [slice(first, first + _TOGETHER) for first in range(0, len(played), _TOGETHER)]
    shifts: list[float] = []
    for group in groups:
        low, high = (shifts[-1] - 1.0, shifts[-1] + _MORE) if shifts else (-1.0, _FARTHEST)
        shifts.append(_offset(played[group], found, low, high))
    for number, group in enumerate(groups):
        # Within a group the offset may change from that of the previous group to that of the next.
        shared = np.stack([_overlaps(played[group] + by, found) for by in shifts[max(0, number - 1) : number + 2]])
        best = shared.max(axis=0)
        events[group] = np.where(best.max(axis=1) > 0, best.argmax(axis=1), -1)
    hit = np.flatnonzero(events >= 0)
    # An event begins before its sound, by the padding of the segment.
    exact = found[events[hit], 0] + VadSettings().speech_pad - played[hit, 0]
    offsets[hit] = [np.median(exact[max(0, place - 2) : place + 3]) for place in range(len(hit))]
    return Match(events, offsets)


def _offset(played: npt.NDArray[np.float64], found: npt.NDArray[np.float64], low: float, high: float) -> float:
    """Return the offset in bounds that maximises the overlap of ``[N, 2]`` and ``[M, 2]``; ``low`` for none."""
    every = np.unique((found[:, 0][:, None] - played[:, 0]).round(2))
    candidates = every[(every >= low) & (every <= high)]
    if not len(candidates):
        return low
    shared = [_overlaps(played + by, found).max(axis=1).sum() for by in candidates]
    return float(candidates[int(np.argmax(shared))])


def _overlaps(played: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the overlap of each of ``[N, 2]`` with each of ``[M, 2]`` in seconds, ``[N, M]``."""
    shared = np.minimum(played[:, 1:], found[:, 1]) - np.maximum(played[:, :1], found[:, 0])
    return np.asarray(shared.clip(min=0))


def response_times(playlist: Playlist, log: EventLog, matches: Match) -> list[float]:
    """Return the seconds from the end of each detected utterance's sound to its final event.

    The capture time of a sample is estimated from neighbouring events: each was written ``latency_ms`` after the block
    with the sample that ended it was due.
    """
    gate = VadSettings()
    finals = log.emotions("final")
    began = np.array(
        [
            at - event.latency_ms / 1000 - (event.end - gate.speech_pad + gate.min_silence_duration)
            for at, event in finals
            if event.windows
        ]
    )
    waited = []
    for (_, end), event, offset in zip(playlist.spans, matches.events, matches.offsets, strict=True):
        if event >= 0:
            zero = float(np.median(began[max(0, event - 20) : event + 21]))
            waited.append(finals[event][0] - (zero + end + offset))
    return waited

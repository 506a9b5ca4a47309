"""What a soak played, what was heard of it, and which event belongs to which utterance."""

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
"""Seconds between two utterances, at least and at most."""
_FRAME = SAMPLE_RATE // 50
_SOUND_DB = -30.0
"""An utterance's sound ends with its last 20 ms above this, relative to its loudest."""
_TOGETHER = 10
"""Utterances whose offset is sought at once."""
_FARTHEST = 20.0
"""Seconds by which heard time may be behind played time at first."""
_MORE = 6.0
"""Seconds by which that may grow from some utterances to the next."""


@dataclass
class Playlist:
    """What is played, one after the other.

    Attributes:
        paths: recordings to choose from.
        seed: of their order and of the pauses.
        spans: ``(start, end)`` in played seconds of each utterance's sound so far.
        whole: whether all of it has been given.
    """

    paths: Sequence[Path]
    seed: int
    spans: list[tuple[float, float]] = field(default_factory=list)
    whole: bool = False

    def audio(self, seconds: float) -> Iterator[Pcm]:
        """Yield pauses and recordings until so many seconds have been given."""
        noise = np.random.default_rng(self.seed)
        position = 0
        while position < seconds * SAMPLE_RATE:
            pause = np.zeros(round(noise.uniform(*_PAUSES) * SAMPLE_RATE), np.float32)
            pcm = read_audio(self.paths[int(noise.integers(len(self.paths)))])
            begin = position + len(pause)
            first, last = sounding(pcm)
            self.spans.append(((begin + first) / SAMPLE_RATE, (begin + last) / SAMPLE_RATE))
            position = begin + len(pcm)
            yield pause
            yield pcm
        yield np.zeros(3 * SAMPLE_RATE, np.float32)
        self.whole = True


def sounding(pcm: Pcm) -> tuple[int, int]:
    """Return the first sample of a recording ``[samples]`` that sounds, and the one after the last."""
    frames = pcm[: len(pcm) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1))
    loud = np.flatnonzero(level > level.max() * 10 ** (_SOUND_DB / 20))
    return (int(loud[0]) * _FRAME, (int(loud[-1]) + 1) * _FRAME) if len(loud) else (0, len(pcm))


@dataclass
class Heard:
    """What the listener said, each event with the time (`time.monotonic`) at which it came out."""

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
    """Which final event covers which utterance.

    Attributes:
        events: ``[utterances]`` index of the event, -1 for none.
        offsets: ``[utterances]`` seconds from played to heard time.
    """

    events: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float64]

    @property
    def heard(self) -> int:
        """How many utterances an event covers."""
        return int((self.events >= 0).sum())


def match(spans: Sequence[tuple[float, float]], finals: Sequence[EmotionEvent]) -> Match:
    """Find the final event of each utterance.

    The offset from played to heard time is sought for some utterances at a time, as the one under which they and the
    events overlap most: it grows whenever the player is late on a busy machine, by a gap that nobody played.
    """
    played = np.array(spans)
    heard = np.array([[event.start, event.end] for event in finals]).reshape(-1, 2)
    events = np.full(len(played), -1)
    offsets = np.zeros(len(played))
    if not len(heard):
        return Match(events, offsets)
    groups = [slice(first, first + _TOGETHER) for first in range(0, len(played), _TOGETHER)]
    found: list[float] = []
    for group in groups:
        low, high = (found[-1] - 1.0, found[-1] + _MORE) if found else (-1.0, _FARTHEST)
        found.append(_offset(played[group], heard, low, high))
    for number, group in enumerate(groups):
        # Within some utterances the player may go over from the offset before to the one after.
        shared = np.stack([_overlaps(played[group] + by, heard) for by in found[max(0, number - 1) : number + 2]])
        best = shared.max(axis=0)
        events[group] = np.where(best.max(axis=1) > 0, best.argmax(axis=1), -1)
    hit = np.flatnonzero(events >= 0)
    # An event begins before its sound, by the padding.
    exact = heard[events[hit], 0] + VadSettings().speech_pad - played[hit, 0]
    offsets[hit] = [np.median(exact[max(0, place - 2) : place + 3]) for place in range(len(hit))]
    return Match(events, offsets)


def _offset(played: npt.NDArray[np.float64], heard: npt.NDArray[np.float64], low: float, high: float) -> float:
    """Return the offset between two bounds under which ``[N, 2]`` and ``[M, 2]`` overlap most; the lower, for none."""
    every = np.unique((heard[:, 0][:, None] - played[:, 0]).round(2))
    candidates = every[(every >= low) & (every <= high)]
    if not len(candidates):
        return low
    shared = [_overlaps(played + by, heard).max(axis=1).sum() for by in candidates]
    return float(candidates[int(np.argmax(shared))])


def _overlaps(played: npt.NDArray[np.float64], heard: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the seconds that each of ``[N, 2]`` and ``[M, 2]`` share, ``[N, M]``."""
    shared = np.minimum(played[:, 1:], heard[:, 1]) - np.maximum(played[:, :1], heard[:, 0])
    return np.asarray(shared.clip(min=0))


def responses(playlist: Playlist, heard: Heard, found: Match) -> list[float]:
    """Return the seconds from the end of each heard utterance's sound to its final event.

    When a sample was captured is told by the events of the last minutes: each came out ``latency_ms`` after the block
    that held the sample which ended it, so none of them can have been captured later.
    """
    gate = VadSettings()
    finals = heard.emotions("final")
    began = np.array(
        [
            at - event.latency_ms / 1000 - (event.end - gate.speech_pad + gate.min_silence_duration)
            for at, event in finals
            if event.windows
        ]
    )
    waited = []
    for (_, end), event, offset in zip(playlist.spans, found.events, found.offsets, strict=True):
        if event >= 0:
            zero = float(np.median(began[max(0, event - 20) : event + 21]))
            waited.append(finals[event][0] - (zero + end + offset))
    return waited

"""The loop from audio to events; the same code for a microphone, a file and a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import SAMPLE_RATE
from edge_runtime.bundle import Bundle
from edge_runtime.decision import decide
from edge_runtime.engine import Engine
from edge_runtime.events import EmotionEvent, Event, StatusEvent
from edge_runtime.segments import Segmenter, Window
from edge_runtime.sources import Source


class Listener:
    """Scores a source with a bundle and yields events.

    Args:
        bundle: a verified bundle.
        engine: an engine on that bundle.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._manifest = bundle.manifest
        self._model = bundle.hash[:12]
        self._engine = engine
        self._dropped = 0
        self._counting: list[npt.NDArray[np.float32]] = []

    def listen(self, source: Source) -> Iterator[Event]:
        """Yield events until the source ends; the last segment's final event comes before the end."""
        segmenter = Segmenter(self._manifest.window)
        yield self._status("started", 0, f"listening to {source.name}")
        yield from self._news(0)
        arrived = time.monotonic()
        for block in source.blocks():
            if block.lost:
                # What was heard before the gap is scored on its own: no window spans lost audio.
                yield from self._events(segmenter.skip(block.lost), arrived)
                self._dropped += block.lost
                yield self._status("gap", segmenter.position, f"{block.lost} samples were lost in capture")
            arrived = block.arrived
            yield from self._events(segmenter.feed(block.pcm), arrived)
        yield from self._events(segmenter.close(), arrived)
        yield self._status("stopped", segmenter.position, f"{source.name} ended")

    def _events(self, windows: list[Window], arrived: float) -> Iterator[Event]:
        for window in windows:
            if window.closes and not window.counts:
                logits = self._counting[-1]
            else:
                logits = self._engine.score(window.pcm).logits
                yield from self._news(window.end)
            if window.counts:
                self._counting.append(logits)
            if window.closes:
                yield self._emotion("final", window.segment_start, window.end, self._counting, arrived)
                self._counting = []
            else:
                yield self._emotion("provisional", window.start, window.end, [logits], arrived)

    def _emotion(
        self, kind: str, start: int, end: int, logits: list[npt.NDArray[np.float32]], arrived: float
    ) -> EmotionEvent:
        manifest = self._manifest
        decision = decide(
            np.stack(logits),
            manifest.labels,
            temperature=manifest.temperature,
            threshold=manifest.threshold,
            enough_speech=end - start >= manifest.window.minimum,
        )
        return EmotionEvent(
            type="final" if kind == "final" else "provisional",
            start=start / SAMPLE_RATE,
            end=end / SAMPLE_RATE,
            label=decision.label,
            probabilities={label: round(value, 4) for label, value in decision.probabilities.items()},
            confidence=round(decision.confidence, 4),
            uncertain=decision.uncertain,
            latency_ms=round((time.monotonic() - arrived) * 1000, 2),
            windows=len(logits),
            speech_ratio=None,
            dropped_samples=self._dropped,
            model=self._model,
            backend=self._engine.backend,
        )

    def _news(self, position: int) -> Iterator[Event]:
        return (self._status("backend", position, what) for what in self._engine.news())

    def _status(self, status: str, position: int, detail: str) -> StatusEvent:
        seconds = position / SAMPLE_RATE
        return StatusEvent.model_validate(
            {
                "start": seconds,
                "end": seconds,
                "status": status,
                "detail": detail,
                "dropped_samples": self._dropped,
                "model": self._model,
                "backend": self._engine.backend,
            }
        )

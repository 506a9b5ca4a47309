"""The loop from blocks of audio to events; the same code for a microphone, a file and a pipe."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.config import ListenSettings
from edge_runtime.decision import Decision, decision_on, softmax
from edge_runtime.dimensions import Dimension, on_scale
from edge_runtime.engines.chunks import Begun
from edge_runtime.engines.engine import Engine, Scores
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import EmotionEvent, Event, Status, StatusEvent
from edge_runtime.loop.hysteresis import LabelHysteresis
from edge_runtime.loop.monitor import Monitor
from edge_runtime.loop.segments import PlainSegmenter, SegmentEnd, Segmenter, SpeechSegmenter, Window
from edge_runtime.loop.vad import VadIterator
from edge_runtime.loop.watch import SoundWatch
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.interface import Block, Source
from edge_runtime.sources.silero import SileroDetector
from edge_runtime.speakers.speaker import SpeakerState, open_speaker
from edge_runtime.windows import with_hop

_FAINT = np.float32(2.0**-15)
"""The smallest step of 16-bit samples."""
_RECOVERED = 60.0
"""Seconds after the last window left out from which one that is scored in time is reported."""
_REPLACED = 1000
"""Blocks with replaced samples that are remembered: more than the longest segment has."""


class Listener:
    """Scores one source with a bundle and yields events; a listener is used once.

    Args:
        bundle: a verified bundle.
        engine: an engine on that bundle.
        settings: of voice activity detection, decision, speaker and watch.
        monitor: receives the state, for other threads.
        name: of the source, in its events; None for none.

    Attributes:
        name: as given.
        monitor: as given, or one of its own.
        ending: reason for closing the source, for the last status event; set by the code that closes it.

    Raises:
        WrongUseError: a hop that does not fit the bundle's window, or a profile for a bundle without a speaker model.
        EdgeemoError: the profile cannot be used.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        settings: ListenSettings | None = None,
        monitor: Monitor | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name
        settings = settings or ListenSettings()
        self._manifest = bundle.manifest
        self._dimensions = bundle.dimensions
        self._model = bundle.hash[:12]
        self._engine = engine
        self._settings = settings
        self.monitor = monitor or Monitor()
        self._policy = with_hop(bundle.manifest.window, settings.decision.hop_seconds)
        self._segmenter: Segmenter = (
            SpeechSegmenter(self._policy, VadIterator(settings.vad, SileroDetector()))
            if settings.vad.enabled
            else PlainSegmenter(self._policy)
        )
        self._watch = SoundWatch(settings.watch)
        self._speaker = open_speaker(bundle, settings.speaker)
        self._begin_segment(-1)
        self._dropped = 0
        self._failing = False
        self._left_out = 0
        self._left_out_at = 0.0
        self._replaced: deque[tuple[int, int]] = deque(maxlen=_REPLACED)
        self._reported = 0
        self._arrived = time.monotonic()
        self.ending: str | None = None

    def listen(self, source: Source) -> Iterator[Event]:
        """Yield events until the source ends, the final event of the last segment included."""
        failed: EdgeemoError | None = None
        blocks = source.blocks()
        try:
            yield from self.begin(source.name)
            try:
                for block in blocks:
                    yield from self.take(block)
            except EdgeemoError as error:
                # The audio until then still gives its events.
                failed = error
            finally:
                if isinstance(blocks, Generator):
                    blocks.close()
            yield from self.end(failed.message if failed else self.ending or f"the end of {source.name}")
        finally:
            # For a caller that stops before the end.
            self.close()
        if failed:
            raise failed

    def begin(self, name: str) -> Iterator[Event]:
        """Yield the events of the start; call once, first."""
        labels = self._speaker.labels
        self.monitor.describe(source=name, model=self._model, backend=self._engine.backend, labels=labels)
        yield from self._recorded([self._status("started", f"listening to {name}"), *self._engine_notices()])

    def take(self, block: Block) -> Iterator[Event]:
        """Yield the events of the next block."""
        return self._recorded(self._events(block))

    def end(self, why: str) -> Iterator[Event]:
        """Yield the final event of the last segment and the status ``stopped``; call once, last."""
        yield from self._recorded(self._scored_outputs(self._segmenter.close(), self._arrived))
        self._speaker.close()
        yield from self._recorded([*self._in_time("the end"), *self._speaker_notices(), self._status("stopped", why)])

    def close(self) -> None:
        """Save what is known of the speaker; after `end` it does nothing."""
        self._speaker.close()

    @property
    def lost(self) -> str | None:
        """Why the last changes of the profile could not be saved, after `end`."""
        return self._speaker.lost

    def _recorded(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self.monitor.record(event)
            yield event

    def _events(self, block: Block) -> Iterator[Event]:
        if block.lost:
            # Audio before the gap is scored by itself: no window spans lost audio.
            yield from self._scored_outputs(self._segmenter.skip(block.lost), self._arrived)
            self._dropped += block.lost
            yield self._status("gap", f"{block.lost} samples were lost in capture")
        if block.notice:
            yield self._status(*block.notice)
        self._arrived = block.arrived
        yield from self._block(block)

    def _block(self, block: Block) -> Iterator[Event]:
        for status, detail in self._watch.check(block):
            yield self._status(status, detail)
        if not len(block.pcm):
            self.monitor.heartbeat()
            return
        if self._watch.is_replaced(block):
            begin = self._segmenter.position
            self._replaced.append((begin, begin + len(block.pcm)))
        pcm, faults = self._watch.sanitised(block.pcm)
        for status, detail in faults:
            yield self._status(status, detail)
        yield from self._scored_outputs(self._segmenter.feed(pcm), block.arrived, real_time=block.real_time)
        self.monitor.record_audio(
            block.pcm,
            self._segmenter.position,
            speech=self._segmenter.speech,
            speaking=self._segmenter.speaking,
            dropped=self._dropped,
        )

    def _scored_outputs(
        self, outputs: list[Window | SegmentEnd], arrived: float, *, real_time: bool = False
    ) -> Iterator[Event]:
        for output in outputs:
            if isinstance(output, SegmentEnd):
                yield from self._end(output, arrived)
            elif real_time and time.monotonic() - arrived > self._policy.hop_seconds:
                yield from self._leave_out()
            else:
                yield from self._window(output, arrived)
                if time.monotonic() - self._left_out_at > _RECOVERED:
                    yield from self._in_time("decisions are in time again")

    def _leave_out(self) -> Iterator[Event]:
        """Leave out a provisional event that is more than a hop late: the next is due, and final events go first."""
        self.monitor.record_left_out()
        self._left_out += 1
        self._left_out_at = time.monotonic()
        if self._left_out == 1:
            hop = f"{self._policy.hop_seconds:g} s"
            yield self._status("late", f"decisions are more than {hop} late; provisional events are left out")

    def _in_time(self, why: str) -> Iterator[Event]:
        if self._left_out:
            events = "1 provisional event was" if self._left_out == 1 else f"{self._left_out} provisional events were"
            self._left_out = 0
            yield self._status("late", f"{why}; {events} left out")

    def _window(self, window: Window, arrived: float) -> Iterator[Event]:
        if window.segment_start != self._segment:
            self._begin_segment(window.segment_start)
        scores, reports = self._score(window.pcm)
        yield from reports
        if scores is None:
            return
        self._scored[window.start, window.end] = scores
        logits = self._speaker_state.logits(scores)
        label, probabilities = self._hysteresis.update(softmax(logits, self._manifest.temperature))
        enough = self._enough(window)
        decision = decision_on(
            probabilities,
            self._speaker_state.labels,
            self._manifest.threshold,
            label_index=label,
            enough_speech=enough,
        )
        yield self._emotion("provisional", window, decision, 1, arrived, list(self._scored.values()))

    def _begin_segment(self, segment: int) -> None:
        """Begin a segment; all its windows are scored for one state of the speaker, since its result is their mean."""
        self._segment = segment
        self._scored: dict[tuple[int, int], Scores] = {}
        # For a bundle in chunks, whose windows all begin with their segment.
        self._begun: Begun[Scores] = Begun()
        self._hysteresis = LabelHysteresis(self._settings.decision)
        self._speaker_state: SpeakerState = self._speaker.state()

    def _end(self, segment: SegmentEnd, arrived: float) -> Iterator[Event]:
        if segment.start != self._segment:
            self._begin_segment(segment.start)
        scores: list[Scores] = []
        for span in segment.windows:
            found = self._scored.get(span)
            if found is None:
                found, reports = self._score(segment.audio(*span))
                yield from reports
            if found is not None:
                scores.append(found)
        self._segment, self._scored = -1, {}
        if not scores:
            return
        enough = self._enough(segment)
        logits = np.stack([self._speaker_state.logits(each) for each in scores])
        probabilities = softmax(logits, self._manifest.temperature).mean(axis=0)
        decision = decision_on(
            probabilities, self._speaker_state.labels, self._manifest.threshold, enough_speech=enough
        )
        yield self._emotion("final", segment, decision, len(scores), arrived, scores)
        if enough:
            # Only now: a result never depends on what its own speech adds to the speaker.
            self._speaker.update(np.stack([each.statistics for each in scores]))
            yield from self._speaker_notices()

    def _enough(self, span: Window | SegmentEnd) -> bool:
        """Whether there is enough speech, or audio without its detection, that is neither silence nor replaced."""
        samples = len(span.pcm) if span.speech is None else span.speech
        replaced = any(start < span.end and span.start < end for start, end in self._replaced)
        return samples >= self._policy.minimum and not replaced and bool(span.pcm.any())

    def _score(self, pcm: Pcm) -> tuple[Scores | None, list[Event]]:
        """Return the scores, or None where the engine fails, and the status events that this causes."""
        began = time.perf_counter()
        scores: Scores | None = None
        reports: list[Event] = []
        why = ""
        try:
            scores = self._engine.score(pcm, begun=self._begun) if self._policy.chunk else self._engine.score(pcm)
            if not pcm.any() and not all(np.isfinite(each).all() for each in scores):
                # Graphs of old bundles give NaN for digital silence.
                scores = self._engine.score(_FAINT * (1 - 2 * (np.arange(len(pcm)) % 2)).astype(np.float32))
            if not all(np.isfinite(each).all() for each in scores):
                scores, why = None, "the graph returned values that are not numbers"
        except Exception as error:  # whatever a driver or library raises: the next window may succeed
            why = str(error).strip().partition("\n")[0] or type(error).__name__
        if (scores is None) != self._failing:
            # One report when it begins and one when it ends: an engine may fail for hours.
            self._failing = scores is None
            what = (
                f"a window could not be scored ({why}); trying again" if self._failing else "windows are scored again"
            )
            reports.append(self._status("engine", what))
        self.monitor.record_window(time.perf_counter() - began, failed=scores is None)
        return scores, [*self._engine_notices(), *reports]

    def _emotion(
        self,
        kind: str,
        span: Window | SegmentEnd,
        decision: Decision,
        windows: int,
        arrived: float,
        scores: list[Scores],
    ) -> Event:
        return EmotionEvent(
            source=self.name,
            type="final" if kind == "final" else "provisional",
            start=span.start / SAMPLE_RATE,
            end=span.end / SAMPLE_RATE,
            label=decision.label,
            probabilities={label: round(value, 4) for label, value in decision.probabilities.items()},
            confidence=round(decision.confidence, 4),
            uncertain=decision.uncertain,
            latency_ms=round((time.monotonic() - arrived) * 1000, 2),
            windows=windows,
            speech_ratio=None if span.speech is None else round(span.speech / len(span.pcm), 3),
            profile=self._speaker_state.profile,
            speaker_known=round(self._speaker_state.known, 3),
            dimensions=self._mean_dimensions(scores),
            dropped_samples=self._dropped,
            model=self._model,
            backend=self._engine.backend,
        )

    def _mean_dimensions(self, scores: list[Scores]) -> dict[Dimension, float] | None:
        """Return the mean of each dimension over some windows; None for a bundle without."""
        if not self._dimensions:
            return None
        means = on_scale(np.stack([each.dimensions for each in scores]).mean(axis=0))
        return {name: round(float(value), 4) for name, value in zip(self._dimensions, means, strict=True)}

    def _speaker_notices(self) -> list[Event]:
        return [self._status("profile", what) for what in self._speaker.notices()]

    def _engine_notices(self) -> list[Event]:
        # Streams of one model share an engine: each reports all that happened to it.
        history = self._engine.history()
        new, self._reported = history[self._reported :], len(history)
        return [self._status("backend", what) for what in new]

    def _status(self, status: Status, detail: str) -> StatusEvent:
        seconds = self._segmenter.position / SAMPLE_RATE
        return StatusEvent(
            source=self.name,
            start=seconds,
            end=seconds,
            status=status,
            # A file name may hold bytes that are not Unicode, which JSON cannot carry.
            detail=detail.encode("utf-8", "replace").decode(),
            dropped_samples=self._dropped,
            model=self._model,
            backend=self._engine.backend,
        )

    def status(self, status: Status, detail: str) -> StatusEvent:
        """Return a status event of this stream for something outside the loop, such as a sink."""
        event = self._status(status, detail)
        self.monitor.record(event)
        return event

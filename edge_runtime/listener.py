"""The loop from audio to events; the same code for a microphone, a file and a pipe."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import SAMPLE_RATE, Pcm
from edge_runtime.bundle import Bundle
from edge_runtime.config import ListenSettings
from edge_runtime.decision import Decision, decide, decision_on, softmax
from edge_runtime.engine import Engine
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import EmotionEvent, Event, Status, StatusEvent
from edge_runtime.monitor import Monitor
from edge_runtime.segments import Ending, PlainSegmenter, Segmenter, SpeechSegmenter, Window
from edge_runtime.sources import Block, Source
from edge_runtime.speech_gate import SpeechGate
from edge_runtime.steady import SteadyLabel
from edge_runtime.vad import SileroDetector
from edge_runtime.watch import SoundWatch
from edge_runtime.windows import with_hop

Logits = npt.NDArray[np.float32]


class Listener:
    """Scores a source with a bundle and yields events. One listener listens to one source, once.

    Args:
        bundle: a verified bundle.
        engine: an engine on that bundle.
        settings: of the speech gate, the decision and the watch over the sound.
        monitor: told what goes on.

    Attributes:
        ending: why the source was closed, from whoever closes it; the last status event says so.

    Raises:
        WrongUseError: a hop that does not fit the bundle's window.
        MissingPartError: the speech detector cannot be loaded.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, settings: ListenSettings | None = None, monitor: Monitor | None = None
    ) -> None:
        settings = settings or ListenSettings()
        self._manifest = bundle.manifest
        self._model = bundle.hash[:12]
        self._engine = engine
        self._settings = settings
        self._monitor = monitor or Monitor()
        self._policy = with_hop(bundle.manifest.window, settings.decision.hop_seconds)
        self._segmenter: Segmenter = (
            SpeechSegmenter(self._policy, SpeechGate(settings.gate, SileroDetector()))
            if settings.gate.enabled
            else PlainSegmenter(self._policy)
        )
        self._watch = SoundWatch(settings.watch)
        self._steady = SteadyLabel(settings.decision)
        self._segment = -1
        self._scored: dict[tuple[int, int], Logits] = {}
        self._dropped = 0
        self._failing = False
        self.ending: str | None = None

    def listen(self, source: Source) -> Iterator[Event]:
        """Yield events until the source ends; the last segment's final event comes before the end."""
        manifest = self._manifest
        self._monitor.describe(
            source=source.name, model=self._model, backend=self._engine.backend, labels=manifest.labels
        )
        for event in self._all(source):
            self._monitor.said(event)
            yield event

    def _all(self, source: Source) -> Iterator[Event]:
        yield self._status("started", f"listening to {source.name}")
        yield from self._news()
        arrived = time.monotonic()
        failed: EdgeemoError | None = None
        blocks = source.blocks()
        try:
            for block in blocks:
                if block.lost:
                    # What was heard before the gap is scored on its own: no window spans lost audio.
                    yield from self._cuts(self._segmenter.skip(block.lost), arrived)
                    self._dropped += block.lost
                    yield self._status("gap", f"{block.lost} samples were lost in capture")
                if block.notice:
                    yield self._status(*block.notice)
                arrived = block.arrived
                yield from self._block(block)
        except EdgeemoError as error:
            # What was heard until then is still told.
            failed = error
        finally:
            if isinstance(blocks, Generator):
                blocks.close()
        yield from self._cuts(self._segmenter.close(), arrived)
        ending = self.ending or f"the end of {source.name}"
        yield self._status("stopped", failed.message if failed else ending)
        if failed:
            raise failed

    def _block(self, block: Block) -> Iterator[Event]:
        for status, detail in self._watch.look(block):
            yield self._status(status, detail)
        if not len(block.pcm):
            self._monitor.alive()
            return
        yield from self._cuts(self._segmenter.feed(self._watch.usable(block.pcm)), block.arrived)
        self._monitor.heard(
            block.pcm,
            self._segmenter.position,
            speech=self._segmenter.speech,
            speaking=self._segmenter.speaking,
            dropped=self._dropped,
        )

    def _cuts(self, cuts: list[Window | Ending], arrived: float) -> Iterator[Event]:
        for cut in cuts:
            yield from self._window(cut, arrived) if isinstance(cut, Window) else self._ending(cut, arrived)

    def _window(self, window: Window, arrived: float) -> Iterator[Event]:
        if window.segment_start != self._segment:
            self._segment, self._scored = window.segment_start, {}
            self._steady = SteadyLabel(self._settings.decision)
        logits, said = self._score(window.pcm)
        yield from said
        if logits is None:
            return
        self._scored[window.start, window.end] = logits
        shown, probabilities = self._steady.update(softmax(logits, self._manifest.temperature))
        enough = self._enough(window.speech, len(window.pcm))
        decision = decision_on(
            probabilities, self._manifest.labels, self._manifest.threshold, shown=shown, enough_speech=enough
        )
        yield self._emotion("provisional", window, decision, 1, arrived)

    def _ending(self, ending: Ending, arrived: float) -> Iterator[Event]:
        scored = self._scored if ending.start == self._segment else {}
        self._segment, self._scored = -1, {}
        logits: list[Logits] = []
        for span in ending.windows:
            found = scored.get(span)
            if found is None:
                found, said = self._score(ending.audio(*span))
                yield from said
            if found is not None:
                logits.append(found)
        if not logits:
            return
        decision = decide(
            np.stack(logits),
            self._manifest.labels,
            temperature=self._manifest.temperature,
            threshold=self._manifest.threshold,
            enough_speech=self._enough(ending.speech, len(ending.pcm)),
        )
        yield self._emotion("final", ending, decision, len(logits), arrived)

    def _enough(self, speech: int | None, samples: int) -> bool:
        return (samples if speech is None else speech) >= self._policy.minimum

    def _score(self, pcm: Pcm) -> tuple[Logits | None, list[Event]]:
        """Return the logits, or None where the engine fails, and what there is to say about it."""
        began = time.perf_counter()
        logits: Logits | None = None
        said: list[Event] = []
        why = ""
        try:
            logits = self._engine.score(pcm).logits
            if not np.isfinite(logits).all():
                logits, why = None, "the model gave results that are no numbers"
        except Exception as error:  # whatever a driver or a library raises: the next window may work
            why = str(error).strip().partition("\n")[0] or type(error).__name__
        if (logits is None) != self._failing:
            # Once when it begins and once when it ends: an engine may fail for hours.
            self._failing = logits is None
            what = f"a window could not be scored ({why}); trying on" if self._failing else "windows are scored again"
            said.append(self._status("engine", what))
        self._monitor.scored(time.perf_counter() - began, failed=logits is None)
        return logits, [*self._news(), *said]

    def _emotion(self, kind: str, cut: Window | Ending, decision: Decision, windows: int, arrived: float) -> Event:
        return EmotionEvent(
            type="final" if kind == "final" else "provisional",
            start=cut.start / SAMPLE_RATE,
            end=cut.end / SAMPLE_RATE,
            label=decision.label,
            probabilities={label: round(value, 4) for label, value in decision.probabilities.items()},
            confidence=round(decision.confidence, 4),
            uncertain=decision.uncertain,
            latency_ms=round((time.monotonic() - arrived) * 1000, 2),
            windows=windows,
            speech_ratio=None if cut.speech is None else round(cut.speech / len(cut.pcm), 3),
            dropped_samples=self._dropped,
            model=self._model,
            backend=self._engine.backend,
        )

    def _news(self) -> list[Event]:
        return [self._status("backend", what) for what in self._engine.news()]

    def _status(self, status: Status, detail: str) -> StatusEvent:
        seconds = self._segmenter.position / SAMPLE_RATE
        return StatusEvent(
            start=seconds,
            end=seconds,
            status=status,
            # A file's name may hold what is no Unicode, which no JSON can carry.
            detail=detail.encode("utf-8", "replace").decode(),
            dropped_samples=self._dropped,
            model=self._model,
            backend=self._engine.backend,
        )

    def status(self, status: Status, detail: str) -> StatusEvent:
        """Return a status event of this stream, for what happens outside the loop, as to a sink."""
        event = self._status(status, detail)
        self._monitor.said(event)
        return event

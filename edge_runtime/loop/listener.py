"""The loop from audio to events; the same code for a microphone, a file and a pipe."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.config import ListenSettings
from edge_runtime.decision import Decision, decide, decision_on, softmax
from edge_runtime.engines.engine import Engine, Scores
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import EmotionEvent, Event, Status, StatusEvent
from edge_runtime.loop.monitor import Monitor
from edge_runtime.loop.segments import Ending, PlainSegmenter, Segmenter, SpeechSegmenter, Window
from edge_runtime.loop.speech_gate import SpeechGate
from edge_runtime.loop.steady import SteadyLabel
from edge_runtime.loop.vad import SileroDetector
from edge_runtime.loop.watch import SoundWatch
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.interface import Block, Source
from edge_runtime.speakers.speaker import Speaker, Usual, open_speaker
from edge_runtime.windows import with_hop


class Listener:
    """Scores a source with a bundle and yields events. One listener listens to one source, once.

    Args:
        bundle: a verified bundle.
        engine: an engine on that bundle.
        settings: of the speech gate, the decision, the speaker and the watch over the sound.
        monitor: told what goes on.
        speaker: the speaker that the settings name, where it was opened already.

    Attributes:
        ending: why the source was closed, from whoever closes it; the last status event says so.

    Raises:
        WrongUseError: a hop that does not fit the bundle's window, or a profile of which its student knows nothing.
        EdgeemoError: the profile cannot be used.
        MissingPartError: the speech detector cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        settings: ListenSettings | None = None,
        monitor: Monitor | None = None,
        speaker: Speaker | None = None,
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
        self._speaker = speaker or open_speaker(bundle, settings.speaker)
        self._begin(-1)
        self._dropped = 0
        self._failing = False
        self._arrived = time.monotonic()
        self.ending: str | None = None

    def listen(self, source: Source) -> Iterator[Event]:
        """Yield events until the source ends; the last segment's final event comes before the end."""
        failed: EdgeemoError | None = None
        blocks = source.blocks()
        try:
            yield from self.begin(source.name)
            try:
                for block in blocks:
                    yield from self.take(block)
            except EdgeemoError as error:
                # What was heard until then is still told.
                failed = error
            finally:
                if isinstance(blocks, Generator):
                    blocks.close()
            yield from self.end(failed.message if failed else self.ending or f"the end of {source.name}")
        finally:
            # For whoever leaves before the end.
            self._speaker.close()
        if failed:
            raise failed

    def begin(self, name: str) -> Iterator[Event]:
        """Yield the events of the start; first of all, and once.

        Args:
            name: of the source.
        """
        labels = self._manifest.labels
        self._monitor.describe(source=name, model=self._model, backend=self._engine.backend, labels=labels)
        yield from self._said([self._status("started", f"listening to {name}"), *self._news()])

    def take(self, block: Block) -> Iterator[Event]:
        """Yield the events of the next block."""
        return self._said(self._events(block))

    def end(self, why: str) -> Iterator[Event]:
        """Yield what is left: the last segment's final event, and that the stream stopped; last of all, and once.

        Args:
            why: a sentence for a person.
        """
        yield from self._said(self._cuts(self._segmenter.close(), self._arrived))
        self._speaker.close()
        yield from self._said([*self._profile_news(), self._status("stopped", why)])

    def _said(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self._monitor.said(event)
            yield event

    def _events(self, block: Block) -> Iterator[Event]:
        if block.lost:
            # What was heard before the gap is scored on its own: no window spans lost audio.
            yield from self._cuts(self._segmenter.skip(block.lost), self._arrived)
            self._dropped += block.lost
            yield self._status("gap", f"{block.lost} samples were lost in capture")
        if block.notice:
            yield self._status(*block.notice)
        self._arrived = block.arrived
        yield from self._block(block)

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
            self._begin(window.segment_start)
        scores, said = self._score(window.pcm)
        yield from said
        if scores is None:
            return
        self._scored[window.start, window.end] = scores
        shown, probabilities = self._steady.update(softmax(scores.logits, self._manifest.temperature))
        enough = self._enough(window.speech, len(window.pcm))
        decision = decision_on(
            probabilities, self._manifest.labels, self._manifest.threshold, shown=shown, enough_speech=enough
        )
        yield self._emotion("provisional", window, decision, 1, arrived)

    def _begin(self, segment: int) -> None:
        """Begin a segment: all its windows are scored with one reference, since its final result is made of them."""
        self._segment = segment
        self._scored: dict[tuple[int, int], Scores] = {}
        self._steady = SteadyLabel(self._settings.decision)
        self._usual: Usual = self._speaker.usual()

    def _ending(self, ending: Ending, arrived: float) -> Iterator[Event]:
        if ending.start != self._segment:
            self._begin(ending.start)
        scores: list[Scores] = []
        for span in ending.windows:
            found = self._scored.get(span)
            if found is None:
                found, said = self._score(ending.audio(*span))
                yield from said
            if found is not None:
                scores.append(found)
        self._segment, self._scored = -1, {}
        if not scores:
            return
        enough = self._enough(ending.speech, len(ending.pcm))
        decision = decide(
            np.stack([each.logits for each in scores]),
            self._manifest.labels,
            temperature=self._manifest.temperature,
            threshold=self._manifest.threshold,
            enough_speech=enough,
        )
        yield self._emotion("final", ending, decision, len(scores), arrived)
        if enough:
            # Only now: a result is never relative to the speech that it is of.
            self._speaker.learn(
                np.stack([each.statistics for each in scores]), np.array(list(decision.probabilities.values()))
            )
            yield from self._profile_news()

    def _enough(self, speech: int | None, samples: int) -> bool:
        return (samples if speech is None else speech) >= self._policy.minimum

    def _score(self, pcm: Pcm) -> tuple[Scores | None, list[Event]]:
        """Return the scores, or None where the engine fails, and what there is to say about it."""
        began = time.perf_counter()
        scores: Scores | None = None
        said: list[Event] = []
        why = ""
        try:
            scores = self._engine.score(pcm, self._usual.reference)
            if not np.isfinite(scores.logits).all():
                scores, why = None, "the model gave results that are no numbers"
        except Exception as error:  # whatever a driver or a library raises: the next window may work
            why = str(error).strip().partition("\n")[0] or type(error).__name__
        if (scores is None) != self._failing:
            # Once when it begins and once when it ends: an engine may fail for hours.
            self._failing = scores is None
            what = f"a window could not be scored ({why}); trying on" if self._failing else "windows are scored again"
            said.append(self._status("engine", what))
        self._monitor.scored(time.perf_counter() - began, failed=scores is None)
        return scores, [*self._news(), *said]

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
            profile=self._usual.profile,
            reference_weight=round(self._usual.weight, 3),
            dropped_samples=self._dropped,
            model=self._model,
            backend=self._engine.backend,
        )

    def _profile_news(self) -> list[Event]:
        return [self._status("profile", what) for what in self._speaker.news()]

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

"""An open bundle: one engine for its lifetime, and a stream for each source of audio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.config import ListenSettings
from edge_runtime.errors import WrongUseError
from edge_runtime.events import EmotionEvent, Event
from edge_runtime.loop.listener import Listener
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.channel_setting import Channels, channels_argument, check_channels
from edge_runtime.sources.decoding.plausible import check_format
from edge_runtime.sources.interface import BLOCK_SECONDS, Block, Converter
from edge_runtime.speakers.speaker import open_speaker

Signal = npt.NDArray[np.generic]
"""Audio ``[samples]`` or ``[samples, channels]``: float in -1..1, or integer, whose full range stands for -1..1."""


class Model(AbstractContextManager["Model"]):
    """A verified bundle with its engine; a context manager.

    Several threads may use one model, each with its own streams; one stream belongs to one thread.

    Args:
        bundle: a verified bundle.
        settings: of engine, voice activity detection, decision, speaker and watch.
        say: receives a sentence before work that takes minutes, such as building an engine.

    Raises:
        WrongUseError: a setting does not fit the bundle.
        EdgeemoError: no engine can run the bundle on this machine.
    """

    def __init__(
        self, bundle: Bundle, settings: ListenSettings | None = None, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.bundle = bundle
        self._settings = settings or ListenSettings()
        # Before an engine is built for minutes: the profile may be invalid.
        self.labels = open_speaker(bundle, self._settings.speaker).labels
        self.closed = False
        options = self._settings.engine
        self._engine = open_engine(bundle, options.backend, options.precision, threads=options.threads, say=say)

    @property
    def channels(self) -> Channels:
        """Which channels are used, by the settings."""
        return self._settings.channels

    @property
    def precision(self) -> Precision:
        """Precision of the current graph."""
        return self._engine.precision

    @property
    def backend(self) -> str:
        """Library, version and precision of the current engine."""
        return self._engine.backend

    def __call__(self, signal: Signal, rate: int, channels: object = None) -> list[EmotionEvent]:
        """Return the final events of a whole recording, one for each stretch of speech.

        Each call begins with unknown speakers, but for that of a profile, which each call updates. Use one stream for
        consecutive recordings of the same speakers.

        Args:
            signal: ``[samples]`` or ``[samples, channels]``, float or integer.
            rate: samples per second.
            channels: which channels are used: ``"auto"``, ``"mix"``, ``"left"``, ``"right"``, a number from 0 on or
                several; by default those of the settings (``"auto"``).

        Raises:
            WrongUseError: an array of another type or shape, or a channel that it does not have.
            EdgeemoError: an implausible sample rate or number of channels.
        """
        stream = self.stream(rate, channels=channels)
        events = [*stream.feed(signal), *stream.close()]
        return [event for event in events if isinstance(event, EmotionEvent) and event.type == "final"]

    def stream(self, rate: int, name: str = "stream", channels: object = None) -> Stream:
        """Return a stream for audio that is fed as it arrives.

        Args:
            rate: samples per second.
            name: for status events.
            channels: as for a whole recording.

        Raises:
            WrongUseError: ``channels`` is none of the choices.
            EdgeemoError: an implausible sample rate.
        """
        return Stream(self, rate, name, self.channels if channels is None else channels_argument(channels))

    def listener(
        self, monitor: Monitor | None = None, settings: ListenSettings | None = None, name: str | None = None
    ) -> Listener:
        """Return a listener for a source that delivers blocks by itself, such as a microphone.

        Args:
            monitor: receives the state.
            settings: by default those of the model.
            name: of the source, in its events; None for none.
        """
        return Listener(self.bundle, self._engine, settings or self._settings, monitor, name)

    def close(self) -> None:
        """Free the engine; its streams cannot be fed any more."""
        self.closed = True
        self._engine.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream(AbstractContextManager["Stream"]):
    """Scores audio chunk by chunk; a context manager, which closes it and drops the events of its end.

    Events do not depend on the sizes of the chunks, which are collected into blocks of 100 ms. `events` and `close`
    return the last final event; leaving the context does not.
    """

    def __init__(self, model: Model, rate: int, name: str, channels: Channels) -> None:
        check_format(name, rate, channels=1)
        self._model = model
        self._listener = model.listener()
        self._rate = rate
        self._name = name
        self._size = round(BLOCK_SECONDS * rate)
        self._channels = channels
        self._converter = Converter(rate, channels, name)
        self._waiting: npt.NDArray[np.float32] | None = None
        self._began = False
        self._closed = False

    def events(self, chunks: Iterable[Signal]) -> Iterator[Event]:
        """Yield the events of all chunks (as for `feed`), those of the end included."""
        for chunk in chunks:
            yield from self.feed(chunk)
        yield from self.close()

    def feed(self, chunk: Signal, lost: int = 0) -> list[Event]:
        """Return the events of the next samples.

        Args:
            chunk: ``[samples]`` or ``[samples, channels]``, float or integer; any number of samples.
            lost: samples that were lost just before them, at the rate of the stream: no window spans the gap.

        Raises:
            WrongUseError: an array of another type, shape or number of channels, one without a chosen channel, or a
                closed stream.
        """
        if self._closed or self._model.closed:
            what = "the stream is closed; open another one with Model.stream"
            raise WrongUseError(f"{self._name}: {'the model is closed; load it again' if self._model.closed else what}")
        frames = frames_of(chunk)
        check_format(self._name, self._rate, frames.shape[1])
        check_channels(self._name, self._channels, frames.shape[1])
        if self._waiting is not None and frames.shape[1] != self._waiting.shape[1]:
            had = self._waiting.shape[1]
            raise WrongUseError(f"{self._name}: a chunk has {frames.shape[1]} channels, those before had {had}")
        events = self._start()
        if lost > 0:
            events += self._skip(lost)
        if self._waiting is not None:
            frames = np.concatenate([self._waiting, frames])
        whole = len(frames) // self._size * self._size
        # A copy: the caller may reuse the buffer.
        self._waiting = frames[whole:].copy()
        for start in range(0, whole, self._size):
            events += self._take(frames[start : start + self._size])
        return events

    def close(self) -> list[Event]:
        """Return the last events, the last final one included; nothing if already closed."""
        if self._closed:
            return []
        events = self._start() + self._flush()
        self._closed = True
        return [*events, *self._listener.end(f"the end of {self._name}")]

    def _skip(self, lost: int) -> list[Event]:
        """Score what was collected before a gap, and advance the clock over the gap."""
        events = self._flush()
        self._converter.restart()
        gap = Block(np.zeros(0, np.float32), round(lost * SAMPLE_RATE / self._rate), time.monotonic())
        return events + list(self._listener.take(gap))

    def _flush(self) -> list[Event]:
        """Score the samples that fill no block, and those in the resampler."""
        if self._waiting is None:
            return []
        rest, self._waiting = self._waiting, self._waiting[:0]
        return self._take(rest, last=True)

    def _start(self) -> list[Event]:
        if self._began:
            return []
        self._began = True
        return list(self._listener.begin(self._name))

    def _take(self, frames: npt.NDArray[np.float32], *, last: bool = False) -> list[Event]:
        pcm = self._converter.convert(frames, last=last)
        if not len(pcm):
            return []
        return list(self._listener.take(Block(pcm, 0, time.monotonic(), self._converter.notice())))

    def __exit__(self, *_: object) -> None:
        self.close()


def frames_of(signal: Signal) -> npt.NDArray[np.float32]:
    """Return audio ``[samples]`` or ``[samples, channels]`` as ``[samples, channels]`` float32.

    The full range of integers becomes -1..1, that of unsigned ones centred at zero.

    Raises:
        WrongUseError: another shape or type.
    """
    array = np.asarray(signal)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
        raise WrongUseError(
            f"an array of {array.dtype} with shape {array.shape} is not audio; give [samples] or [samples, channels], "
            "float or integer"
        )
    frames = array[:, np.newaxis] if array.ndim == 1 else array
    if array.dtype.kind == "f":
        return frames.astype(np.float32)
    half = 2.0 ** (8 * array.dtype.itemsize - 1)
    centred = frames.astype(np.float64) - (half if array.dtype.kind == "u" else 0.0)
    return (centred / half).astype(np.float32)

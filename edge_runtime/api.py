"""The Python API: open a bundle, score a file, or listen to a microphone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.config import ListenSettings
from edge_runtime.errors import WrongUseError
from edge_runtime.events import EmotionEvent, Event
from edge_runtime.inputs import open_inputs
from edge_runtime.loop.monitor import Monitor
from edge_runtime.model import Model
from edge_runtime.strict_json import shown

Place = os.PathLike[str] | str


def load(
    bundle: Bundle | Place | None = None,
    *,
    profile: str | None = None,
    settings: ListenSettings | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Model:
    """Load and verify a bundle, and open its engine.

    Args:
        bundle: a bundle or its directory; by default that of the settings, else the installed one.
        profile: name of the speaker's profile; by default that of the settings.
        settings: of engine, voice activity detection, decision, speaker and watch.
        progress: receives a sentence before work that takes minutes, such as building a TensorRT engine.

    Raises:
        EdgeemoError: the bundle or the profile cannot be used; `WrongUseError` and `MissingPartError` are subclasses.
    """
    settings = settings or ListenSettings()
    if profile is not None:
        settings = settings.model_copy(update={"speaker": settings.speaker.model_copy(update={"profile": profile})})
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle or settings.bundle or DEFAULT_BUNDLE)
    return Model(loaded, settings, progress)


def listen(
    bundle: Model | Bundle | Place | None = None, source: Place | None = None, settings: ListenSettings | None = None
) -> Iterator[Event]:
    """Yield events until the source ends, or the last one of several, or the iterator is closed.

    Args:
        bundle: a model, a bundle or its directory; by default that of the settings, else the installed one.
        source: ``mic://``, ``mic://NAME``, an audio file or a named pipe, an ``http://``, ``https://`` or ``rtsp://``
            address, or ``-`` for standard input; by default that of the settings.
        settings: as for `load`, ``source``, ``paced`` and ``raw``; ``record``, ``sinks`` and ``service`` are for the
            command and have no effect. A model has its own settings.

    Raises:
        WrongUseError: a model together with settings.
        EdgeemoError: the bundle, the profile or the source cannot be used; after the last event, that some of several
            sources failed.
    """
    if isinstance(bundle, Model) and settings is not None:
        raise WrongUseError("a model has its own settings; give them to edge_runtime.load")
    chosen = settings or ListenSettings()
    if source is not None:
        chosen = chosen.model_copy(update={"source": source, "sources": {}})
    with contextlib.ExitStack() as stack:
        model = bundle if isinstance(bundle, Model) else stack.enter_context(load(bundle, settings=settings))
        inputs = open_inputs(model, chosen.model_copy(update={"channels": model.channels}), Monitor())
        with contextlib.closing(inputs):
            yield from (event for _, event in inputs.events())
        inputs.check()


def score_file(
    path: Place, bundle: Model | Bundle | Place | None = None, settings: ListenSettings | None = None
) -> list[EmotionEvent]:
    """Return the final events of an audio file: one for each stretch of speech in it.

    Args:
        path: WAV, FLAC, Ogg, MP3 and others (`edge_runtime/LISTENING.md`), any sample rate and number of channels.
        bundle: a model, opened once for many files; a bundle or its directory; by default that of the settings, else
            the installed one.
        settings: of the engine, voice activity detection, decision and speaker; with ``vad.enabled`` false, the whole
            file is scored, in segments of the bundle's longest length.

    Raises:
        WrongUseError: a source without an end instead of a file.
        EdgeemoError: the bundle or the file cannot be used.
    """
    if not Path(path).is_file() and str(path).partition(":")[0] in ("-", "mic"):
        raise WrongUseError(f"{shown(path)}: score_file takes an audio file; for a microphone or a pipe use listen")
    # Not resolved: what a shell makes of <(…) has no other name.
    events = listen(bundle, Path(path).absolute().as_uri(), settings)
    return [event for event in events if isinstance(event, EmotionEvent) and event.type == "final"]

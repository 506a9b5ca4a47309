"""The runtime from Python: score a file, or follow a microphone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.config import ListenSettings
from edge_runtime.engines.backends import open_engine
from edge_runtime.errors import WrongUseError
from edge_runtime.events import EmotionEvent, Event
from edge_runtime.loop.listener import Listener
from edge_runtime.sources.source_uri import open_source
from edge_runtime.speakers.speaker import open_speaker
from edge_runtime.strict_json import shown


def listen(
    bundle: Bundle | Path | str | None = None, source: str = "mic://", settings: ListenSettings | None = None
) -> Iterator[Event]:
    """Yield events until the source ends, or the iterator is closed.

    Args:
        bundle: a bundle, or its directory, which is verified; the default one if not given.
        source: ``mic://``, ``mic://NAME``, an audio file, or ``-`` for standard input.
        settings: of the engine, the speech gate, the decision, the speaker and the watch, and ``paced``; the rest of it
            (``bundle``, ``source``, ``record``, ``sinks``, ``service``) is what the command does, and is not used.

    Raises:
        EdgeemoError: the bundle, the profile or the source cannot be used; `WrongUseError` and `MissingPartError` are
            kinds of it.
    """
    settings = settings or ListenSettings()
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(Path(bundle or DEFAULT_BUNDLE))
    # Before an engine is built for minutes: the profile may be refused.
    speaker = open_speaker(loaded, settings.speaker)
    options = settings.engine
    engine = open_engine(loaded, options.backend, options.precision, threads=options.threads)
    with contextlib.closing(engine), contextlib.closing(open_source(source, paced=settings.paced)) as opened:
        yield from Listener(loaded, engine, settings, speaker=speaker).listen(opened)


def score_file(
    bundle: Bundle | Path | str | None, path: Path | str, settings: ListenSettings | None = None
) -> list[EmotionEvent]:
    """Return the final events of an audio file: one for each stretch of speech in it.

    Args:
        bundle: a bundle, or its directory, which is verified; None for the default one.
        path: WAV, FLAC, Ogg, MP3, any rate and channel count.
        settings: of the engine, the speech gate, the decision, the speaker; with ``gate.enabled`` false, the file as a
            whole is scored, in segments of the bundle's longest length.

    Raises:
        WrongUseError: this is no file, but a source without an end.
        EdgeemoError: the bundle or the file cannot be used.
    """
    if not Path(path).is_file() and str(path).partition(":")[0] in ("-", "mic"):
        raise WrongUseError(f"{shown(path)}: score_file takes an audio file; follow a microphone or a pipe with listen")
    events = listen(bundle, Path(path).resolve().as_uri(), settings)
    return [event for event in events if isinstance(event, EmotionEvent) and event.type == "final"]

"""What a configuration file names, besides its sinks: is it there?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_runtime.config import ListenSettings
from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.sinks import sinks
from edge_runtime.doctor.storage import existing, unwritable
from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.sources.source_uri import open_source, source_file


def settings(path: Path, content: ListenSettings, inputs: list[dict[str, Any]] | None) -> Iterator[Finding]:
    """Look at what the settings name.

    Args:
        path: the file that they are from.
        content: the settings.
        inputs: the inputs as `sound_probe.look` tells them; None where it could not.
    """
    named = ", ".join(sink.kind for sink in content.sinks) or "none"
    yield Finding("settings", "ok", f"{path}: source {content.source}, sinks {named}")
    if content.bundle is None:
        yield Finding("settings: bundle", "ok", "names none: the default one, or edgeemo listen BUNDLE --config")
    # A source that is not named may yet be, on the command line.
    if "source" in content.model_fields_set:
        yield from _source(path, content, inputs)
    if content.record is not None:
        yield _record(content.record)
    yield from sinks(path, content.sinks)


def _source(path: Path, content: ListenSettings, inputs: list[dict[str, Any]] | None) -> Iterator[Finding]:
    what = "settings: source"
    source = content.source
    try:
        if source_file(source, paced=content.paced) is not None:
            with contextlib.closing(open_source(source, paced=content.paced)) as opened:
                yield Finding(what, "ok", f"{opened.name}: is audio")
            return
    except EdgeemoError as error:
        remedy = f"correct source in {path}: mic://, mic://NAME, a file, or -"
        yield Finding(what, "missing", error.message, remedy, error.exit_code)
        return
    if source == "-" or inputs is None:
        return
    wanted = source.removeprefix("mic://")
    if not inputs:
        remedy = "see what is said above of PortAudio and the microphone"
        yield Finding(what, "missing", f"{source}: there is no microphone", remedy, MissingPartError.exit_code)
        return
    if not wanted:
        return
    exact = [each for each in inputs if wanted in (str(each["index"]), each["name"])]
    fitting = exact or [each for each in inputs if wanted.lower() in each["name"].lower()]
    if len(fitting) == 1:
        yield Finding(what, "ok", f"'{wanted}' is input {fitting[0]['index']}: {fitting[0]['name']}")
    else:
        found = f"'{wanted}' fits {len(fitting) or 'no'} input{'s' if len(fitting) > 1 else ''}"
        remedy = "edgeemo listen --list-devices shows their names"
        yield Finding(what, "missing", found, remedy, WrongUseError.exit_code)


def _record(folder: Path) -> Finding:
    what = "settings: record"
    place = existing(folder)
    problem = unwritable(place)
    if problem:
        found = f"{folder}: cannot be written to ({problem})"
        return Finding(what, "missing", found, "correct the path, or its owner", EdgeemoError.exit_code)
    made = "" if place == folder.absolute() else "; it is made then"
    return Finding(what, "ok", f"{folder}: the audio is written there{made}")

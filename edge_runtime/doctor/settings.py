"""What a configuration file names: is it there, and do secrets stay secret?"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_runtime.config import FileSink, ListenSettings, MqttSink, SinkSettings, WebSink
from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.storage import existing, unwritable
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.extras import EXTRAS

_OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP
"""Who may neither read nor change a secret; a group that may read it is how services are given one."""
_HERE = ("localhost", "127.0.0.1", "::1")


def settings(path: Path, content: ListenSettings, inputs: list[dict[str, Any]] | None) -> Iterator[Finding]:
    """Look at what the settings name.

    Args:
        path: the file that they are from.
        content: the settings.
        inputs: the inputs as `sound_probe.look` tells them; None where it could not.
    """
    sinks = ", ".join(sink.kind for sink in content.sinks) or "none"
    yield Finding("settings", "ok", f"{path}: source {content.source}, sinks {sinks}")
    if content.bundle is None:
        remedy = 'bundle = "DIRECTORY" in it, or edgeemo listen BUNDLE --config'
        yield Finding("settings: bundle", "can be better", "names none", remedy)
    yield from _source(content.source, inputs)
    if content.record is not None:
        yield _folder("settings: record", content.record, "the audio is written there")
    if any(_secrets(sink) for sink in content.sinks):
        yield _secret("settings: a secret in the file itself", path)
    for number, sink in enumerate(content.sinks, 1):
        yield from _sink(f"settings: sink {number} ({sink.kind})", sink)


def _source(source: str, inputs: list[dict[str, Any]] | None) -> Iterator[Finding]:
    what = "settings: source"
    if source.startswith("mic://"):
        wanted = source.removeprefix("mic://")
        if not wanted or inputs is None:
            return
        exact = [each for each in inputs if wanted in (str(each["index"]), each["name"])]
        fitting = exact or [each for each in inputs if wanted.lower() in each["name"].lower()]
        if len(fitting) == 1:
            yield Finding(what, "ok", f"'{wanted}' is input {fitting[0]['index']}: {fitting[0]['name']}")
        else:
            found = f"'{wanted}' fits {len(fitting) or 'no'} input{'s' if len(fitting) > 1 else ''}"
            yield Finding(what, "missing", found, "edgeemo listen --list-devices shows their names")
    elif "://" not in source and source != "-" and not Path(source).is_file():
        yield Finding(what, "missing", f"{source}: there is no such file", "correct the path")


def _sink(what: str, sink: SinkSettings) -> Iterator[Finding]:
    if sink.kind in EXTRAS:
        missing = _not_installed(sink.kind)
        if missing:
            remedy = f'pip install "edgeemo[{sink.kind}]"'
            yield Finding(what, "missing", f"needs {', '.join(missing)}, not installed", remedy)
    if isinstance(sink, FileSink):
        yield _folder(what, sink.path.parent, f"events are written to {sink.path.name}")
    elif isinstance(sink, MqttSink):
        yield from _mqtt(what, sink)
    elif isinstance(sink, WebSink):
        if sink.host not in _HERE and not missing:
            yield from _short_token(what, sink)
        if sink.token_file is not None:
            yield _secret(what, sink.token_file)
        elif sink.host not in _HERE and sink.token is None:
            found = f"bound to {sink.host} without a token of its own: a new one is made up at every start"
            yield Finding(what, "can be better", found, 'token_file = "FILE", whose first line is the token')


def _mqtt(what: str, sink: MqttSink) -> Iterator[Finding]:
    for certificate in (sink.ca_file, sink.cert_file):
        if certificate is not None and not os.access(certificate, os.R_OK):
            yield Finding(what, "missing", f"{certificate}: cannot be read", "correct the path, or its owner")
    for secret in (sink.password_file, sink.key_file):
        if secret is not None:
            yield _secret(what, secret)
    if sink.username and not (sink.tls or sink.ca_file or sink.cert_file) and sink.host not in _HERE:
        found = f"the password goes to {sink.host} without encryption"
        yield Finding(what, "can be better", found, "tls = true, where the broker has it")


def _short_token(what: str, sink: WebSink) -> Iterator[Finding]:
    from edge_runtime.sinks.web.auth import given_token, refuse_short

    with contextlib.suppress(EdgeemoError):  # A file that cannot be read is told of by itself.
        try:
            token = given_token(sink)
            if token:
                refuse_short(token)
        except WrongUseError as error:
            yield Finding(what, "missing", error.message, "a longer one, or none: then one is made up")


def _secrets(sink: SinkSettings) -> bool:
    """Return whether a secret stands in the settings themselves."""
    return (isinstance(sink, MqttSink) and sink.password is not None) or (
        isinstance(sink, WebSink) and sink.token is not None
    )


def _secret(what: str, path: Path) -> Finding:
    """Look at who may read a file with a secret."""
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            filled = bool(file.readline().strip())
    except OSError as error:
        return Finding(what, "missing", f"{path}: cannot be read ({error.strerror})", "correct the path, or its owner")
    if not filled:
        return Finding(what, "missing", f"{path}: its first line is empty", "write the secret into its first line")
    if mode & _OTHERS:
        return Finding(what, "can be better", f"{path}: others may read or change it", f"chmod 600 {path}")
    return Finding(what, "ok", f"{path}: only its owner and group may read it")


def _folder(what: str, folder: Path, use: str) -> Finding:
    place = existing(folder)
    problem = unwritable(place)
    if problem:
        return Finding(what, "missing", f"{folder}: cannot be written to ({problem})", "correct the path, or its owner")
    made = "" if place == folder.absolute() else "; it is made then"
    return Finding(what, "ok", f"{folder}: {use}{made}")


def _not_installed(extra: str) -> list[str]:
    # The outermost package: what is in it cannot be asked for where it is not there.
    tops = (name.partition(".")[0] for name in EXTRAS[extra])
    return [top for top in tops if importlib.util.find_spec(top) is None]

"""Checks of a configuration: are its source, files, secrets and broker usable?"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import stat
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.config import FileSink, ListenSettings, MqttSink, SinkSettings, WebSink
from edge_runtime.doctor.finding import Finding, rated
from edge_runtime.doctor.storage import nearest, unwritable
from edge_runtime.doctor.system import exists
from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError, missing_extra
from edge_runtime.extras import EXTRAS, missing_modules
from edge_runtime.sources.devices import InputDevice, matching
from edge_runtime.sources.network import SCHEMES, without_password
from edge_runtime.sources.sound_server import server_sources
from edge_runtime.sources.source_uri import is_pipe, open_source, source_file

BROKER_SECONDS = 3.0
_OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP
"""Rights that a file with a secret must not give; a group may read it, as services need."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CORRECT = "correct the path, or its owner"


def _failure(what: str, found: str, remedy: str = _CORRECT) -> Finding:
    return Finding(what, "missing", found, remedy, EdgeemoError.exit_code)


def settings(path: Path, content: ListenSettings, inputs: list[dict[str, Any]] | None) -> Iterator[Finding]:
    """Check everything that settings name; ``inputs`` are from the probe `sound`, None if it failed."""
    kinds = ", ".join(sink.kind for sink in content.sinks) or "none"
    sources = content.of_sources()
    called = ", ".join(f"{f'{name}=' if name else ''}{without_password(each.source)}" for name, each in sources.items())
    yield Finding("settings", "ok", f"{path}: source{'s' * (len(sources) > 1)} {called}, sinks {kinds}")
    if content.bundle is None:
        yield Finding("settings: bundle", "ok", "names none: the default one, or edgeemo listen BUNDLE --config")
    # Without a source in the file, the command line may name one.
    if content.sources or "source" in content.model_fields_set:
        for name, each in sources.items():
            yield from _source(path, each, inputs, f"settings: source {name}" if name else "settings: source")
    if content.record is not None:
        yield _record(content.record)
    yield from sinks(path, content.sinks)


def _source(path: Path, content: ListenSettings, inputs: list[dict[str, Any]] | None, what: str) -> Iterator[Finding]:
    source = content.source
    try:
        file = source_file(source, paced=content.paced)
        if file is not None or source.lower().startswith(SCHEMES):
            raw = content.raw.as_pcm() if content.raw else None
            audio = open_source(source, paced=content.paced, channels=content.channels, raw=raw)
            with contextlib.closing(audio) as opened:
                # A pipe may have no writer yet, and a camera no power.
                tried = file is not None and not is_pipe(file)
                yield Finding(what, "ok", f"{opened.name}: {'is audio' if tried else 'is opened by listen'}")
            return
    except EdgeemoError as error:
        remedy = f"correct source in {path}: mic://, mic://NAME, a file or pipe, an address, or -"
        yield Finding(what, "missing", error.message, remedy, error.exit_code)
        return
    wanted = source.removeprefix("mic://")
    if source == "-" or inputs is None:
        return
    if not inputs:
        remedy = "see the findings on PortAudio and the microphone"
        yield Finding(what, "missing", f"{source}: there is no microphone", remedy, MissingPartError.exit_code)
    elif wanted:
        found = matching([InputDevice(each["index"], each["name"]) for each in inputs], wanted)
        if not found and any(source.name == wanted for source in server_sources()):
            yield Finding(what, "ok", f"'{wanted}' is a source of the sound server")
        elif len(found) == 1:
            yield Finding(what, "ok", f"'{wanted}' is input {found[0].index}: {found[0].name}")
        else:
            text = f"'{wanted}' fits {len(found) or 'no'} input{'s' if found else ''}"
            remedy = "edgeemo listen --list-devices shows their names"
            yield Finding(what, "missing", text, remedy, WrongUseError.exit_code)


def _record(folder: Path) -> Finding:
    what = "settings: record"
    place = nearest(folder)
    if problem := unwritable(place):
        return _failure(what, f"{folder}: cannot be written to ({problem})")
    created = "" if place == folder.absolute() else "; listen creates it"
    return Finding(what, "ok", f"{folder}: the audio is written there{created}")


def sinks(path: Path, configured: Sequence[SinkSettings]) -> Iterator[Finding]:
    """Check the sinks of a configuration."""
    if any(getattr(sink, "password", None) or getattr(sink, "token", None) for sink in configured):
        yield _secret("settings: a secret in the file itself", path)
    for number, sink in enumerate(configured, 1):
        yield from _sink(f"settings: sink {number} ({sink.kind})", sink)


def _sink(what: str, sink: SinkSettings) -> Iterator[Finding]:
    missing = missing_modules(sink.kind) if sink.kind in EXTRAS else []
    if missing:
        remedy = f'pip install "edgeemo[{sink.kind}]"'
        found = f"needs {', '.join(missing)}, not installed"
        yield Finding(what, "missing", found, remedy, missing_extra(sink.kind).exit_code)
    if isinstance(sink, FileSink):
        yield _file(what, sink.path)
    elif isinstance(sink, MqttSink):
        yield from _mqtt(what, sink, installed=not missing)
    elif isinstance(sink, WebSink):
        yield from _web(what, sink, installed=not missing)


def _file(what: str, path: Path) -> Finding:
    folder = path.parent
    if not exists(folder):
        found = f"{folder}: there is no such directory"
        return _failure(what, found, f"mkdir -p {shlex.quote(str(folder))}")
    if not exists(path):
        problem = unwritable(folder)
    elif path.is_file():
        problem = "" if os.access(path, os.R_OK | os.W_OK, effective_ids=True) else "this user may not"
    else:
        return _failure(what, f"{path}: is not a regular file", "correct the path")
    if problem:
        return _failure(what, f"{path}: cannot be written to ({problem})")
    return Finding(what, "ok", f"{path}: events are written there")


def _mqtt(what: str, sink: MqttSink, *, installed: bool) -> Iterator[Finding]:
    files = [
        _failure(what, f"{certificate}: cannot be read")
        for certificate in (sink.ca_file, sink.cert_file)
        if certificate is not None and not os.access(certificate, os.R_OK)
    ] + [_secret(what, secret) for secret in (sink.password_file, sink.key_file) if secret is not None]
    yield from files
    if sink.username and not (sink.tls or sink.ca_file or sink.cert_file) and sink.host not in _LOOPBACK:
        found = f"the password goes to {sink.host} without encryption"
        yield Finding(what, "can be better", found, "tls = true, if the broker supports it")
    if installed and not any(each.exit_code for each in files):
        yield _broker(what, sink)


def _broker(what: str, sink: MqttSink) -> Finding:
    """Connect as listen does, but with another client id, so that a running listener keeps its connection."""
    from edge_runtime.sinks.mqtt import MqttPublisher
    from edge_runtime.sinks.mqtt_connection import Access, MqttConnection

    publisher = MqttPublisher(sink)
    try:
        access = publisher.access()
    except EdgeemoError as error:
        return Finding(what, "missing", error.message, "correct the file, or its path", error.exit_code)
    outcome: queue.SimpleQueue[str] = queue.SimpleQueue()

    def attempt(access: Access) -> None:
        connection = MqttConnection(access)
        try:
            connection.open(BROKER_SECONDS)
        except Exception as error:  # of any kind: it becomes the finding
            outcome.put(str(error) or type(error).__name__)
        else:
            outcome.put("")
        finally:
            connection.close()

    # Without `online` nothing is published, so subscribers do not notice the connection.
    trial = replace(access, client_id=f"edgeemo-doctor-{uuid.uuid4().hex[:8]}", online=None)
    # In a thread, since name resolution has no timeout.
    threading.Thread(target=attempt, args=(trial,), daemon=True).start()
    try:
        problem = outcome.get(timeout=2 * BROKER_SECONDS)
    except queue.Empty:
        problem = f"no answer in {2 * BROKER_SECONDS:g} s"
    remedy = "start the broker, or correct the settings; listen runs without it, and keeps trying"
    found = f"{publisher.name}: {problem or 'accepts the connection'}"
    return rated(f"{what}, broker", not problem, found, remedy)


def _web(what: str, sink: WebSink, *, installed: bool) -> Iterator[Finding]:
    if installed:
        from edge_runtime.sinks.web.access import configured_token

        try:
            configured_token(sink, loopback=sink.host in _LOOPBACK)
        except EdgeemoError as error:
            remedy = "correct the token, or the path and the owner of its file"
            yield Finding(what, "missing", error.message, remedy, error.exit_code)
            return
    if sink.token_file is not None:
        yield _secret(what, sink.token_file)
    elif sink.host not in _LOOPBACK and sink.token is None:
        found = f"bound to {sink.host} without a token: each start uses a new random one"
        yield Finding(what, "can be better", found, 'token_file = "FILE", whose first line is the token')


def _secret(what: str, path: Path) -> Finding:
    """Check a file with a secret: its first line, and which users may read it."""
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            filled = bool(file.readline().rstrip(b"\r\n"))
    except OSError as error:
        return _failure(what, f"{path}: cannot be read ({error.strerror})")
    if not filled:
        return _failure(what, f"{path}: its first line is empty", "write the secret into its first line")
    private = not mode & _OTHERS
    found = f"{path}: {'only its owner and group may read it' if private else 'others may read or change it'}"
    return rated(what, private, found, f"chmod 600 {shlex.quote(str(path))}")

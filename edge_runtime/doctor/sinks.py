"""Where a configuration sends events: can it be written to, is the broker there, and do secrets stay secret?"""

from __future__ import annotations

import os
import queue
import shlex
import stat
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edge_runtime.config import FileSink, MqttSink, SinkSettings, WebSink
from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.storage import unwritable
from edge_runtime.doctor.system import there
from edge_runtime.errors import EdgeemoError, missing_extra
from edge_runtime.extras import EXTRAS, missing_modules

BROKER_SECONDS = 3.0
"""How long a broker may take to answer."""
_OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP
"""Who may neither read nor change a secret; a group that may read it is how services are given one."""
_HERE = ("localhost", "127.0.0.1", "::1")
_FAILED = EdgeemoError.exit_code


def sinks(path: Path, named: Sequence[SinkSettings]) -> Iterator[Finding]:
    """Look at the sinks of a configuration.

    Args:
        path: the file that they are from.
        named: the sinks.
    """
    if any(_secrets(sink) for sink in named):
        yield _secret("settings: a secret in the file itself", path)
    for number, sink in enumerate(named, 1):
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
    remedy = "correct the path, or its owner"
    if not there(folder):
        found = f"{folder}: there is no such directory"
        return Finding(what, "missing", found, f"mkdir -p {shlex.quote(str(folder))}", _FAILED)
    if there(path):
        if not path.is_file():
            return Finding(what, "missing", f"{path}: is no regular file", "correct the path", _FAILED)
        problem = "" if os.access(path, os.R_OK | os.W_OK, effective_ids=True) else "this user may not"
    else:
        problem = unwritable(folder)
    if problem:
        return Finding(what, "missing", f"{path}: cannot be written to ({problem})", remedy, _FAILED)
    return Finding(what, "ok", f"{path}: events are written there")


def _mqtt(what: str, sink: MqttSink, *, installed: bool) -> Iterator[Finding]:
    refused = False
    for certificate in (sink.ca_file, sink.cert_file):
        if certificate is not None and not os.access(certificate, os.R_OK):
            refused = True
            found = f"{certificate}: cannot be read"
            yield Finding(what, "missing", found, "correct the path, or its owner", _FAILED)
    for secret in (sink.password_file, sink.key_file):
        if secret is not None:
            looked_at = _secret(what, secret)
            refused = refused or looked_at.exit_code != 0
            yield looked_at
    if sink.username and not (sink.tls or sink.ca_file or sink.cert_file) and sink.host not in _HERE:
        found = f"the password goes to {sink.host} without encryption"
        yield Finding(what, "can be better", found, "tls = true, where the broker has it")
    if installed and not refused:
        yield _broker(what, sink)


def _broker(what: str, sink: MqttSink) -> Finding:
    """Connect to a broker as listen does, under another name, so that a listener that runs keeps its connection."""
    from edge_runtime.sinks.mqtt import MqttPublisher
    from edge_runtime.sinks.mqtt_connection import Access, MqttConnection

    publisher = MqttPublisher(sink)
    try:
        access = publisher.access()
    except EdgeemoError as error:
        return Finding(what, "missing", error.message, "correct the file, or its path", error.exit_code)
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def attempt(access: Access) -> None:
        connection = MqttConnection(access)
        try:
            connection.open(BROKER_SECONDS)
        except Exception as error:  # Whatever it is, it is the answer.
            said.put(str(error) or type(error).__name__)
        else:
            said.put("")
        finally:
            connection.close()

    # Nothing is published, and subscribers are not told that anybody came or went.
    trial = replace(access, client_id=f"edgeemo-doctor-{uuid.uuid4().hex[:8]}", online=None)
    # The system's search for an address knows no time limit.
    threading.Thread(target=attempt, args=(trial,), daemon=True).start()
    try:
        problem = said.get(timeout=2 * BROKER_SECONDS)
    except queue.Empty:
        problem = f"no answer in {2 * BROKER_SECONDS:g} s"
    if problem:
        remedy = "start the broker, or correct the settings; listen runs without it, and tries again and again"
        return Finding(f"{what}, broker", "can be better", f"{publisher.name}: {problem}", remedy)
    return Finding(f"{what}, broker", "ok", f"{publisher.name}: takes the connection")


def _web(what: str, sink: WebSink, *, installed: bool) -> Iterator[Finding]:
    if installed:
        from edge_runtime.sinks.web.access import configured_token

        try:
            configured_token(sink, loopback=sink.host in _HERE)
        except EdgeemoError as error:
            remedy = "correct the token, or the path and the owner of its file"
            yield Finding(what, "missing", error.message, remedy, error.exit_code)
            return
    if sink.token_file is not None:
        yield _secret(what, sink.token_file)
    elif sink.host not in _HERE and sink.token is None:
        found = f"bound to {sink.host} without a token of its own: a new one is made up at every start"
        yield Finding(what, "can be better", found, 'token_file = "FILE", whose first line is the token')


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
            filled = bool(file.readline().rstrip(b"\r\n"))
    except OSError as error:
        found = f"{path}: cannot be read ({error.strerror})"
        return Finding(what, "missing", found, "correct the path, or its owner", _FAILED)
    if not filled:
        found = f"{path}: its first line is empty"
        return Finding(what, "missing", found, "write the secret into its first line", _FAILED)
    if mode & _OTHERS:
        remedy = f"chmod 600 {shlex.quote(str(path))}"
        return Finding(what, "can be better", f"{path}: others may read or change it", remedy)
    return Finding(what, "ok", f"{path}: only its owner and group may read it")

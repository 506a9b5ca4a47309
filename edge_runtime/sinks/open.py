"""Sinks from settings, and settings from the texts of ``--sink``."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from edge_runtime.config import FileSink, MqttSink, SinkSettings, StdoutSink, TerminalSink
from edge_runtime.errors import WrongUseError, missing_extra
from edge_runtime.extras import missing_modules
from edge_runtime.loop.monitor import Monitor
from edge_runtime.settings_errors import wrong_settings
from edge_runtime.sinks.interface import Sink
from edge_runtime.strict_json import shown

FORMS = "stdout, terminal, file:PATH, mqtt://[USER@]HOST[:PORT][/TOPIC], mqtts://…, web, web://HOST:PORT"
"""The forms that `parse_sink` accepts, for messages and help."""


def open_sinks(
    settings: Sequence[SinkSettings], monitor: Monitor, sources: Mapping[str, Monitor] | None = None
) -> list[Sink]:
    """Return sinks, not entered yet, in the order of their settings.

    ``sources`` are the states of sources with names; without any, ``monitor`` is that of the only source.

    Standard output and the terminal may be named more than once (``--json --sink stdout``): each is opened once.

    Raises:
        WrongUseError: two others are the same.
        MissingPartError: one needs an extra that is not installed.
    """
    once = [
        each
        for number, each in enumerate(settings)
        if not (isinstance(each, StdoutSink | TerminalSink) and each in settings[:number])
    ]
    sinks = [_open(each, monitor, sources or {}) for each in once]
    for name, count in Counter(sink.name for sink in sinks).items():
        if count > 1:
            raise WrongUseError(f"{count} sinks write to {name}; leave one")
    return sinks


def _open(settings: SinkSettings, monitor: Monitor, sources: Mapping[str, Monitor]) -> Sink:
    # Imported here, so that unused sinks cost neither time nor memory.
    if isinstance(settings, StdoutSink):
        from edge_runtime.sinks.json_lines import JsonLines

        if sys.stdout is None:
            raise WrongUseError("--sink stdout: standard output is closed; name another sink")
        return JsonLines(sys.stdout)
    if isinstance(settings, TerminalSink):
        from edge_runtime.sinks.live_line import LiveLine

        return LiveLine(monitor, sources)
    if isinstance(settings, FileSink):
        from edge_runtime.sinks.json_lines import RotatingFile

        return RotatingFile(settings)
    if missing := missing_modules(settings.kind):
        raise missing_extra(settings.kind, missing[0])
    if isinstance(settings, MqttSink):
        from edge_runtime.sinks.mqtt import MqttPublisher

        return MqttPublisher(settings)
    from edge_runtime.sinks.web.sink import WebSink as WebServer

    return WebServer(settings, monitor, sources)


def parse_sink(text: str) -> SinkSettings:
    """Return the settings of one ``--sink`` of the command line (`FORMS`).

    Raises:
        WrongUseError: it has another form, or holds a password. The message never repeats a text that may hold one.
    """
    kind, colon, rest = text.partition(":")
    if kind in ("stdout", "terminal", "web") and not colon:
        return _settings(text, kind=kind)
    if kind == "file" and rest:
        return _settings(text, kind="file", path=Path(rest.removeprefix("//")))
    if kind in ("mqtt", "mqtts", "web") and rest.startswith("//"):
        where = f"{kind}://…"
        parts = _parts(text, f"--sink {where}")
        if kind == "web":
            if parts.path.strip("/") or parts.username is not None:
                raise WrongUseError(f"--sink {where}: give a host and a port and nothing else")
            return _settings(where, kind="web", host=parts.hostname, port=parts.port)
        user, topic = unquote(parts.username or "") or None, unquote(parts.path.strip("/")) or None
        address = {"host": parts.hostname, "port": parts.port, "username": user, "topic": topic}
        return _settings(where, kind="mqtt", tls=kind == "mqtts", **address)
    # Without what follows the kind, which may hold a password.
    raise WrongUseError(f"--sink {shown(kind)}{':…' * bool(colon)}: {_meant(kind, colon, rest)}use one of {FORMS}")


def _meant(kind: str, colon: str, rest: str) -> str:
    """Return the beginning of a sentence with a likely correction; "" without one."""
    if kind == "web" and re.fullmatch("[0-9]{1,5}", rest):
        return f"did you mean web://127.0.0.1:{rest}? Else "
    if not colon and (Path(kind).suffix or "/" in kind):
        return f"did you mean file:{shown(kind)}? Else "
    return ""


def _parts(text: str, where: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise WrongUseError(f"{where}: host or port cannot be understood; use one of {FORMS}") from None
    if parts.password is not None:
        raise WrongUseError(
            f"{where}: all users of this machine can see a password on the command line; put it into the "
            "password_file of the configuration file, or into the environment variable EDGEEMO_MQTT_PASSWORD"
        )
    if not parts.hostname:
        raise WrongUseError(f"{where}: no host is named")
    # `urlsplit` ignores an empty part after them, and "mqtt://host/a/#" would be the topic "a".
    if "?" in text or "#" in text:
        wildcard = "" if parts.scheme == "web" else ": # and + match many topics, and events are published under one"
        raise WrongUseError(f"{where}: what is after ? or # is not used{wildcard}")
    return parts


def _settings(where: str, **content: Any) -> SinkSettings:
    given = {key: value for key, value in content.items() if value is not None}
    try:
        settings: SinkSettings = TypeAdapter(SinkSettings).validate_python(given)
    except ValidationError as error:
        raise wrong_settings(error, f"--sink {where}", SinkSettings) from None
    return settings

"""From settings, or a text of the command line, to sinks."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
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
"""What `parse_sink` takes, for messages and help."""


def open_sinks(settings: Sequence[SinkSettings], monitor: Monitor) -> list[Sink]:
    """Return sinks, not entered yet, in the order of their settings.

    Standard output and the terminal may be named more than once (``--json --sink stdout``): each is opened once.

    Raises:
        WrongUseError: two of the others are the same.
        MissingPartError: one needs an extra that is not installed.
    """
    once = [
        each
        for number, each in enumerate(settings)
        if not (isinstance(each, StdoutSink | TerminalSink) and each in settings[:number])
    ]
    sinks = [_open(each, monitor) for each in once]
    name, count = Counter(sink.name for sink in sinks).most_common(1)[0] if sinks else ("", 0)
    if count > 1:
        raise WrongUseError(f"{count} sinks write to {name}; leave one")
    return sinks


def _open(settings: SinkSettings, monitor: Monitor) -> Sink:
    # Imported here, so that nobody pays for a sink that is not used.
    if isinstance(settings, StdoutSink):
        from edge_runtime.sinks.json_lines import JsonLines

        if sys.stdout is None:
            raise WrongUseError("--sink stdout: standard output is closed; name another sink")
        return JsonLines(sys.stdout)
    if isinstance(settings, TerminalSink):
        from edge_runtime.sinks.live_line import LiveLine

        return LiveLine(monitor)
    if isinstance(settings, FileSink):
        from edge_runtime.sinks.file import RotatingFile

        return RotatingFile(settings)
    if isinstance(settings, MqttSink):
        _need("mqtt")
        from edge_runtime.sinks.mqtt import MqttPublisher

        return MqttPublisher(settings)
    _need("web")
    from edge_runtime.sinks.web.sink import WebSink as WebServer

    return WebServer(settings, monitor)


def _need(extra: str) -> None:
    if missing := missing_modules(extra):
        raise missing_extra(extra, missing[0])


def parse_sink(text: str) -> SinkSettings:
    """Return the settings that one ``--sink`` of the command line means (`FORMS`).

    Raises:
        WrongUseError: it means nothing, or holds a password. The text itself is never repeated where it may hold one.
    """
    kind, colon, rest = text.partition(":")
    if kind in ("stdout", "terminal", "web") and not colon:
        return _settings({"kind": kind}, text)
    if kind == "file" and rest:
        return _settings({"kind": "file", "path": Path(rest.removeprefix("//"))}, text)
    if kind in ("mqtt", "mqtts", "web") and rest.startswith("//"):
        parts = _parts(text, f"--sink {kind}://…")
        return _web(parts) if kind == "web" else _mqtt(parts)
    # Not with what follows the kind: it may hold a password.
    raise WrongUseError(f"--sink {shown(kind)}{':…' * bool(colon)}: {_meant(kind, colon, rest)}use one of {FORMS}")


def _meant(kind: str, colon: str, rest: str) -> str:
    """Return what may have been meant, as the begin of a sentence; "" where nobody knows."""
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
            f"{where}: a password on the command line can be seen by everyone on this machine; put it into the "
            "password_file of the configuration file, or into the environment variable EDGEEMO_MQTT_PASSWORD"
        )
    if not parts.hostname:
        raise WrongUseError(f"{where}: no host is named")
    # An empty part after them is no part to `urlsplit`, and "mqtt://host/a/#" would be the topic "a".
    if "?" in text or "#" in text:
        wildcard = (
            "" if parts.scheme == "web" else ": # and + stand for many topics, and events are published under one"
        )
        raise WrongUseError(f"{where}: what is after ? or # is not used{wildcard}")
    return parts


def _mqtt(parts: SplitResult) -> SinkSettings:
    told = {
        "host": parts.hostname,
        "port": parts.port,
        "username": unquote(parts.username) if parts.username else None,
        "topic": unquote(parts.path.strip("/")) or None,
        "tls": parts.scheme == "mqtts",
    }
    return _settings(
        {"kind": "mqtt", **{key: value for key, value in told.items() if value is not None}}, f"{parts.scheme}://…"
    )


def _web(parts: SplitResult) -> SinkSettings:
    if parts.path.strip("/") or parts.username is not None:
        raise WrongUseError("--sink web://…: give a host and a port and nothing else")
    port = {} if parts.port is None else {"port": parts.port}
    return _settings({"kind": "web", "host": parts.hostname, **port}, "web://…")


def _settings(content: dict[str, Any], where: str) -> SinkSettings:
    try:
        settings: SinkSettings = TypeAdapter(SinkSettings).validate_python(content)
    except ValidationError as error:
        raise wrong_settings(error, f"--sink {where}", SinkSettings) from None
    return settings

"""The MQTT sink."""

from __future__ import annotations

import os
import ssl
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt.client import MQTTMessageInfo

from edge_runtime.config import MqttSink
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import Event
from edge_runtime.sinks.interface import Sink
from edge_runtime.sinks.mqtt_connection import Access, MqttConnection

PASSWORD_VARIABLE = "EDGEEMO_MQTT_PASSWORD"
_NO_ANSWER_YET = "it has not answered yet"
_PATIENCE = 30.0
"""Seconds without an acknowledgement after which a connection is ended, even if the broker answers on it."""


@dataclass(frozen=True)
class _Sent:
    event: Event
    connection: MqttConnection
    message: MQTTMessageInfo
    when: float


class MqttPublisher(Sink):
    """Publishes events to ``TOPIC/final``, ``TOPIC/provisional`` and ``TOPIC/status``.

    Those of a source with a name go to ``TOPIC/NAME/final`` and so on.

    ``TOPIC/online`` is retained: ``true`` while connected, ``false`` afterwards, by last will if the process dies. A
    thread connects, and reconnects after a loss; a waiting event starts an attempt at once. ``seconds`` is the timeout
    of a connection and of an acknowledgement, ``backoff`` the first and longest pause between attempts, in seconds.
    """

    def __init__(self, settings: MqttSink, *, seconds: float = 5.0, backoff: tuple[float, float] = (0.5, 30.0)) -> None:
        self._settings = settings
        self._seconds = seconds
        self._backoff = backoff
        self._tls = settings.tls or settings.ca_file is not None or settings.cert_file is not None
        self._port = settings.port or (8883 if self._tls else 1883)
        self._topic = settings.topic.rstrip("/")
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.name = f"mqtt{'s' * self._tls}://{host}:{self._port}/{self._topic}"
        self.provisional = settings.provisional
        self._changed = threading.Condition()
        self._connection: MqttConnection | None = None
        self._problem = _NO_ANSWER_YET
        self._failures = 0
        self._wanted = False
        self._closing = False
        self._sent: _Sent | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> MqttPublisher:
        """Start to connect.

        Raises:
            EdgeemoError: a file with the password or a certificate cannot be read.
        """
        access = self.access()
        self._thread = threading.Thread(target=self._keep_connected, args=(access,), name=self.name, daemon=True)
        self._thread.start()
        return self

    def access(self) -> Access:
        """Return the parameters of a connection.

        Raises:
            EdgeemoError: a file with the password or a certificate cannot be read.
        """
        settings = self._settings
        return Access(
            host=settings.host,
            port=self._port,
            # The same for every connection, so that the broker ends an old one that it still considers alive.
            client_id=settings.client_id or f"edgeemo-{uuid.uuid4().hex[:12]}",
            username=settings.username,
            password=self._password(),
            tls=self._tls_context() if self._tls else None,
            online=f"{self._topic}/online",
            qos=settings.qos,
        )

    def close(self) -> None:
        """Publish ``false`` to ``TOPIC/online``, and disconnect."""
        with self._changed:
            self._closing, connection = True, self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.over.set()
        if self._thread is not None:
            # During an attempt to connect it takes longer, and ends by itself.
            self._thread.join(self._seconds)

    def emit(self, event: Event) -> None:
        """Publish one event; return when the broker has acknowledged it (QoS 0: when it is sent).

        Raises:
            OSError: there is no connection, or no acknowledgement. If the same event is given again on the same
                connection, it is not sent again; its acknowledgement is awaited.
        """
        deadline = time.monotonic() + self._seconds
        sent = self._sent
        if sent is None or sent.event is not event or not sent.connection.may_deliver(sent.message):
            connection = self._connected(deadline)
            topic = f"{self._topic}/{event.source}" if event.source else self._topic
            message = connection.publish(f"{topic}/{event.type}", event.model_dump_json())
            self._sent = sent = _Sent(event, connection, message, time.monotonic())
        try:
            sent.connection.wait_for(sent.message, deadline)
        except OSError:
            if time.monotonic() - sent.when > _PATIENCE:
                sent.connection.over.set()
            raise
        self._sent = None

    def _connected(self, deadline: float) -> MqttConnection:
        """Return the connection; without one, request an attempt and wait for it."""
        with self._changed:
            failures, self._wanted = self._failures, True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._usable() is not None or self._failures != failures,
                max(0.0, deadline - time.monotonic()),
            )
            connection = self._usable()
            if connection is None:
                raise OSError(self._problem)
            return connection

    def _usable(self) -> MqttConnection | None:
        return None if self._connection is None or self._connection.over.is_set() else self._connection

    def _keep_connected(self, access: Access) -> None:
        pause = self._backoff[0]
        while not self._closing:
            began = time.monotonic()
            try:
                self._connect_once(access)
            except Exception as error:
                # Of any kind: this thread must continue.
                self._set(None, str(error) or type(error).__name__)
            if time.monotonic() - began > self._backoff[1]:
                pause = self._backoff[0]
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing, pause)
            pause = min(2 * pause, self._backoff[1])

    def _connect_once(self, access: Access) -> None:
        """Connect, and return when the connection has ended; `OSError` if it fails."""
        connection = MqttConnection(access)
        try:
            connection.open(self._seconds)
            self._set(connection, _NO_ANSWER_YET)
            if not self._closing:
                connection.over.wait()
            self._set(None, connection.end())
        finally:
            connection.close()

    def _set(self, connection: MqttConnection | None, problem: str) -> None:
        with self._changed:
            self._connection, self._problem = connection, problem
            self._failures += connection is None
            self._wanted = False
            self._changed.notify_all()

    def _password(self) -> str | None:
        settings = self._settings
        if settings.password_file is not None:
            return _first_line(settings.password_file)
        if settings.password is not None:
            return settings.password.get_secret_value()
        return os.environ.get(PASSWORD_VARIABLE) or None if settings.username else None

    def _tls_context(self) -> ssl.SSLContext:
        settings = self._settings
        path = settings.ca_file
        try:
            context = ssl.create_default_context(cafile=path)
            if settings.cert_file:
                path = settings.cert_file
                # Without a password callback, OpenSSL would prompt for the passphrase of a key.
                context.load_cert_chain(path, settings.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            files = f"{path}, {settings.key_file}" if settings.key_file and path == settings.cert_file else f"{path}"
            reason = error.strerror if isinstance(error, OSError) else str(error)
            if isinstance(error, ssl.SSLError):
                reason = "no certificate or key that can be used"
            raise EdgeemoError(f"{files}: cannot be read ({reason})") from error
        return context


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        # Without the decoder's text, which holds a part of the file.
        reason = error.strerror if isinstance(error, OSError) else "not a name or not a text"
        raise EdgeemoError(f"{path}: the password cannot be read ({reason})") from None
    if not lines or not lines[0]:
        raise EdgeemoError(f"{path}: its first line should be the password, and is empty")
    return lines[0]

"""One connection to an MQTT broker."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, LogLevel
from paho.mqtt.reasoncodes import ReasonCode

_KEEP_ALIVE = 30
"""Seconds of silence after which paho pings the broker; after half as many more the connection is lost."""
_CHECK = 0.1
"""Seconds between checks of a connection."""
_FAREWELL = 1.0
"""Timeout of each step of an orderly end, seconds."""
_BAD_CREDENTIALS = ("Bad user name or password", "Not authorized")


@dataclass(frozen=True)
class Access:
    """Parameters of a connection.

    Attributes:
        tls: certificates; None for no encryption.
        online: topic of the retained ``true`` and ``false``; None publishes neither.
        qos: quality of service of all messages.
    """

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    online: str | None
    qos: int


class MqttConnection:
    """A paho client for a single connection, so that no message is left over for the next one.

    Attributes:
        over: set when the connection is lost; set it to have its owner close the connection.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._refused = ""
        self._logged = ""
        self._accepted = threading.Event()
        self.over = threading.Event()
        self._ended = threading.Event()
        self._started = False
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id=access.client_id, reconnect_on_failure=False
        )
        if access.username is not None:
            client.username_pw_set(access.username, access.password)
        if access.tls is not None:
            client.tls_set_context(access.tls)
        if access.online is not None:
            client.will_set(access.online, "false", access.qos, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_log = self._on_log

    def open(self, seconds: float) -> None:
        """Connect, and wait for the broker to accept the connection, each with a timeout in seconds.

        Raises:
            OSError: the broker cannot be reached, is not trusted, or refuses; with a hint in its text.
        """
        client = self._client
        client.connect_timeout = seconds
        try:
            client.connect(self._access.host, self._access.port, _KEEP_ALIVE)
        except (OSError, ValueError) as error:
            raise OSError(self._in_words(error)) from error
        client.loop_start()
        self._started = True
        deadline = time.monotonic() + seconds
        while not self._accepted.wait(_CHECK):
            if self._ended.is_set():
                raise OSError(self._refused or f"it closed without an answer{self._logged}; {self._question()}")
            if time.monotonic() > deadline:
                raise OSError(f"no answer in {seconds:g} s; {self._question()}")
        if self._access.online is not None:
            client.publish(self._access.online, "true", self._access.qos, retain=True)

    def publish(self, topic: str, text: str) -> MQTTMessageInfo:
        """Send a message, not retained."""
        return self._client.publish(topic, text, self._access.qos)

    def may_deliver(self, message: MQTTMessageInfo) -> bool:
        """Return whether a message is acknowledged, or may still be."""
        return _is_out(message) or (not message.rc and not self.over.is_set())

    def wait_for(self, message: MQTTMessageInfo, deadline: float) -> None:
        """Wait until the broker has acknowledged a message.

        Raises:
            OSError: it did not before the deadline (`time.monotonic`), or the connection was lost.
        """
        while not _is_out(message):
            if message.rc or self.over.is_set():
                raise OSError(self.end())
            if time.monotonic() > deadline:
                raise OSError("the broker does not acknowledge")
            _wait(message, _CHECK)

    def end(self) -> str:
        """Return why it ended, as far as known."""
        return f"the connection was lost{self._logged}"

    def close(self) -> None:
        """Publish ``false``, disconnect, and release everything, in a bounded time."""
        client = self._client
        if self._access.online is not None and self._accepted.is_set() and not self._ended.is_set():
            _wait(client.publish(self._access.online, "false", self._access.qos, retain=True), _FAREWELL)
        client.disconnect()
        if self._started:
            if not self._ended.wait(_FAREWELL) and isinstance(stuck := client.socket(), socket.socket):
                with contextlib.suppress(OSError):
                    stuck.shutdown(socket.SHUT_RDWR)
            client.loop_stop()
        # No reference cycle, so that its sockets are closed at once.
        client.on_connect = client.on_disconnect = client.on_log = None

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not reason.is_failure:
            self._accepted.set()
        elif reason.getName() not in _BAD_CREDENTIALS:
            self._refused = f"the broker refuses: {reason}"
        elif self._access.username is None:
            self._refused = f"the broker requires a user name and a password ({reason})"
        else:
            self._refused = f"the broker refuses this user name or password ({reason})"

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._ended.set()
        self.over.set()

    def _on_log(self, _client: Client, _data: Any, level: int, text: str) -> None:
        # The only place where paho reports errors of the socket, such as a required client certificate.
        if level == LogLevel.MQTT_LOG_ERR and not self._logged:
            self._logged = f" ({text})"

    def _question(self) -> str:
        # A broker that requires another certificate ends the connection, and its reason is often lost.
        tls = "with TLS that accepts this client's certificate (cert_file)" if self._access.tls else "without TLS"
        return f"is it an MQTT broker {tls}?"

    def _in_words(self, error: OSError | ValueError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code in (_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH):
                return f"the broker's certificate is for another name ({error.verify_message})"
            return f"the broker's certificate is not trusted ({error.verify_message}); is ca_file right?"
        if isinstance(error, ssl.SSLError):
            return f"no TLS with the broker ({error.reason or error}); is it the port for TLS?"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        hint = "; is it the port for TLS?" if self._access.tls and isinstance(error, ConnectionResetError) else ""
        return f"cannot be reached ({reason}){hint}"


# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL (x509_vfy.h); the ssl module has no names.
_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH = 62, 64


def _is_out(message: MQTTMessageInfo) -> bool:
    with contextlib.suppress(RuntimeError, ValueError):
        return message.is_published()
    return False


def _wait(message: MQTTMessageInfo, seconds: float) -> None:
    # The code of the message reports these errors too.
    with contextlib.suppress(RuntimeError, ValueError):
        message.wait_for_publish(seconds)

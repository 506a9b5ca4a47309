"""Show a device in Home Assistant by MQTT discovery: whether it listens, the latest emotion and its confidence.

    python -m edge_runtime.examples.home_assistant edge.toml

EDGE_TOML is what `edgeemo listen --config edge.toml` runs with: broker, topic, password and labels come from it. Needs
`pip install "edgeemo[mqtt]"`. The messages are retained. A broker may lose them, so the program goes on, as a service
beside the listener: it publishes them again when it connects to the broker again, and when Home Assistant starts and
publishes `online` to `homeassistant/status`. With `--once` it ends after the first time. An empty retained message to
the same topic takes a sensor away again. Fields: https://www.home-assistant.io/integrations/sensor.mqtt.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime import EdgeemoError, __version__, load_bundle, read_settings
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE
from edge_runtime.config import MqttSink
from edge_runtime.extras import needs_extra

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from edge_runtime.sinks.mqtt_connection import Access

BIRTH = "homeassistant/status"
"""Where Home Assistant publishes ``online`` when it starts, unless its settings name another topic."""


def discovery(topic: str, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the discovery message of each sensor by its topic, of a device that publishes under ``topic``."""
    name = "edgeemo_" + re.sub(r"[^a-zA-Z0-9_-]", "_", topic)  # what topics of discovery may hold
    online = f"{topic}/online"
    shared = {
        "device": {"identifiers": [name], "name": topic, "model": "edgeemo", "sw_version": __version__},
        "origin": {"name": "edgeemo", "sw_version": __version__},
    }
    of_results = {
        "state_topic": f"{topic}/final",
        "availability_topic": online,
        "payload_available": "true",
        "payload_not_available": "false",
    }
    emotion = {
        "name": "Emotion",
        "device_class": "enum",
        "options": [*labels, "uncertain"],
        # No automation should act on an uncertain label; the attributes have it.
        "value_template": "{{ 'uncertain' if value_json.uncertain else value_json.label }}",
        "json_attributes_topic": f"{topic}/final",
    }
    confidence = {
        "name": "Confidence",
        "unit_of_measurement": "%",
        "state_class": "measurement",
        "value_template": "{{ (100 * value_json.confidence) | round(1) }}",
    }
    # Retained, and false by last will. It has no availability: "off" is to be shown, not "unavailable".
    listening = {
        "name": "Listening",
        "device_class": "running",
        "state_topic": online,
        "payload_on": "true",
        "payload_off": "false",
    }
    kinds: dict[str, dict[str, dict[str, Any]]] = {
        "sensor": {"emotion": of_results | emotion, "confidence": of_results | confidence},
        "binary_sensor": {"listening": listening},
    }
    return {
        f"homeassistant/{component}/{name}_{kind}/config": {"unique_id": f"{name}_{kind}", **shared, **own}
        for component, each in kinds.items()
        for kind, own in each.items()
    }


class Announcer:
    """Publishes discovery messages to a broker: on every connection, and when Home Assistant starts."""

    def __init__(self, access: Access, name: str, sensors: dict[str, dict[str, Any]]) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._access = access
        self._name = name
        self._problem = ""
        self._messages = {topic: json.dumps(config) for topic, config in sensors.items()}
        # Another name than the listener's: of two connections with the same one, a broker ends the older.
        self._client = client = Client(CallbackAPIVersion.VERSION2, client_id=f"edgeemo-sensors-{uuid.uuid4().hex[:8]}")
        if access.username is not None:
            client.username_pw_set(access.username, access.password)
        if access.tls is not None:
            client.tls_set_context(access.tls)
        client.reconnect_delay_set(1, 60)
        client.on_connect = self._connected
        client.on_message = self._birth

    def once(self) -> None:
        """Publish, and return when the broker has acknowledged it.

        Raises:
            EdgeemoError: the broker cannot be reached, or refuses.
        """
        from paho.mqtt import MQTTException, publish

        access = self._access
        login: Any = {"username": access.username, "password": access.password} if access.username else None
        tls: Any = access.tls
        messages = [(topic, text, 1, True) for topic, text in self._messages.items()]  # QoS 1, retained
        try:
            publish.multiple(list(messages), access.host, access.port, auth=login, tls=tls)
        except (OSError, MQTTException) as error:
            raise self._refused(error) from error
        self._report()

    def stay(self) -> None:
        """Publish now and whenever it is needed, until the process is ended.

        Raises:
            EdgeemoError: the broker cannot be reached at first, or refuses.
        """
        try:
            self._client.connect(self._access.host, self._access.port)
            self._client.loop_forever()
        except (OSError, ValueError) as error:
            raise self._refused(error) from error
        raise self._refused(self._problem)

    def _connected(self, client: Client, _data: object, _flags: object, reason: ReasonCode, _more: object) -> None:
        if reason.is_failure:
            self._problem = str(reason)
            client.disconnect()
            return
        client.subscribe(BIRTH, qos=1)
        self._publish()

    def _birth(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        # A retained one is from before this connection.
        if message.payload == b"online" and not message.retain:
            self._publish()

    def _publish(self) -> None:
        for topic, text in self._messages.items():
            self._client.publish(topic, text, qos=1, retain=True)
        self._report()

    def _report(self) -> None:
        click.echo(f"{self._name}: published {', '.join(self._messages)}", err=True)

    def _refused(self, why: object) -> EdgeemoError:
        return EdgeemoError(f"{self._name}: the sensors cannot be published ({why})")


@click.command()
@click.argument("edge_toml", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Publish once, and end.")
@needs_extra("mqtt")
def main(edge_toml: Path, once: bool) -> None:
    """Publish the discovery messages to the MQTT broker of EDGE_TOML, again whenever it or Home Assistant starts."""
    from edge_runtime.sinks.mqtt import MqttPublisher

    settings = read_settings(edge_toml)
    sink = next((each for each in settings.sinks if isinstance(each, MqttSink)), None)
    if sink is None:
        raise EdgeemoError(f"{edge_toml}: has no sink of the kind 'mqtt'")
    sensors = discovery(sink.topic.rstrip("/"), load_bundle(settings.bundle or DEFAULT_BUNDLE).manifest.labels)
    device = MqttPublisher(sink)
    # With the password from its file, and the certificates to trust.
    announcer = Announcer(device.access(), device.name, sensors)
    if once:
        announcer.once()
    else:
        announcer.stay()


if __name__ == "__main__":
    main()

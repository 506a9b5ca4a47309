"""Show a device in Home Assistant by MQTT discovery: the latest emotion and its confidence.

    python -m edge_runtime.examples.home_assistant edge.toml

EDGE_TOML is what `edgeemo listen --config edge.toml` runs with: broker, topic, password and labels come from it. Needs
`pip install "edgeemo[mqtt]"`. The messages are retained, so once is enough; an empty retained message to the same topic
takes a sensor away again. Fields: https://www.home-assistant.io/integrations/sensor.mqtt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edge_runtime import EdgeemoError, __version__, load_bundle, read_settings
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE
from edge_runtime.config import MqttSink
from edge_runtime.extras import needs_extra


def discovery(topic: str, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the discovery message of each sensor by its topic, of a device that publishes under ``topic``."""
    name = "edgeemo_" + re.sub(r"[^a-zA-Z0-9_-]", "_", topic)  # what topics of discovery may hold
    shared = {
        "state_topic": f"{topic}/final",
        "availability_topic": f"{topic}/online",
        "payload_available": "true",
        "payload_not_available": "false",
        "device": {"identifiers": [name], "name": topic, "model": "edgeemo", "sw_version": __version__},
        "origin": {"name": "edgeemo", "sw_version": __version__},
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
    return {
        f"homeassistant/sensor/{name}_{kind}/config": {"unique_id": f"{name}_{kind}", **shared, **own}
        for kind, own in (("emotion", emotion), ("confidence", confidence))
    }


@click.command()
@click.argument("edge_toml", type=click.Path(path_type=Path))
@needs_extra("mqtt")
def main(edge_toml: Path) -> None:
    """Publish the discovery messages to the MQTT broker of EDGE_TOML."""
    from paho.mqtt import MQTTException, publish

    from edge_runtime.sinks.mqtt import MqttPublisher

    settings = read_settings(edge_toml)
    sink = next((each for each in settings.sinks if isinstance(each, MqttSink)), None)
    if sink is None:
        raise EdgeemoError(f"{edge_toml}: has no sink of the kind 'mqtt'")
    sensors = discovery(sink.topic.rstrip("/"), load_bundle(settings.bundle or DEFAULT_BUNDLE).manifest.labels)
    device = MqttPublisher(sink)
    broker = device.access()  # with the password from its file, and the certificates to trust
    login: Any = {"username": broker.username, "password": broker.password} if broker.username else None
    tls: Any = broker.tls
    messages = [(topic, json.dumps(config), 1, True) for topic, config in sensors.items()]  # QoS 1, retained
    try:
        publish.multiple(list(messages), broker.host, broker.port, auth=login, tls=tls)
    except (OSError, MQTTException) as error:
        raise EdgeemoError(f"{device.name}: the sensors cannot be published ({error})") from error
    click.echo(f"{device.name}: published {', '.join(sensors)}", err=True)


if __name__ == "__main__":
    main()

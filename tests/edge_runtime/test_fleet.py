"""`edge_runtime/FLEET.md`: what it tells people to write into files is read by what reads those files."""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.config import MqttSink, WebSink, read_settings
from edge_runtime.doctor.settings import settings as findings
from edge_runtime.loop.monitor import Monitor
from tests.command import run
from tests.conftest import absent, need
from tests.events_and_takers import emotion, free_port, status, until
from tests.plain_bundles import change, save_plain_bundle

ROOT = Path(__file__).resolve().parents[2]
FLEET = (ROOT / "edge_runtime" / "FLEET.md").read_text(encoding="utf-8")


def files_of(text):
    """Return the files that blocks of a document show, by the name in their first line."""
    blocks = re.findall(r"^```(?:\w+)\n# (\S+)[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return {Path(name).name: content for name, content in blocks}


FILES = files_of(FLEET)


def board(folder, name="kitchen", **mqtt):
    """Write the settings of a board, with secrets where this test may read them; return what the runtime reads."""
    folder.mkdir()
    for secret, content in (("mqtt-password", f"{name}-secret"), ("web-token", "0123456789abcdef")):
        (folder / secret).write_text(f"{content}\n")
        (folder / secret).chmod(0o600)
    text = FILES["edge.toml"].replace("kitchen", name).replace("/run/credentials/edgeemo.service", str(folder))
    for key, value in mqtt.items():
        # Each stands in the document, so that it is the document's own line that is changed.
        text, count = re.subn(rf'^{key} = ".*"$', f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
        assert count == 1, key
    (folder / "edge.toml").write_text(text)
    return read_settings(folder / "edge.toml")


def of_kind(settings, kind):
    (found,) = [each for each in settings.sinks if isinstance(each, kind)]
    return found


def test_every_block_with_a_name_is_looked_at_here():
    assert set(FILES) == {
        "edgeemo.conf", "acl", "edge.toml", "fleet.conf", "prometheus.yml", "edgeemo-rules.yml",
    }  # fmt: skip
    named = len(re.findall(r"^```(?:conf|acl|toml|ini|yaml)$", FLEET, re.MULTILINE))
    assert named == len(FILES)


def test_a_boards_settings(tmp_path):
    settings = board(tmp_path / "kitchen")
    mqtt, web = of_kind(settings, MqttSink), of_kind(settings, WebSink)
    assert settings.bundle == tmp_path / "kitchen" / "bundle"
    # What the access list of the broker goes by.
    assert mqtt.topic == f"edgeemo/{mqtt.username}"
    assert mqtt.ca_file == tmp_path / "kitchen" / "ca.pem"
    assert not mqtt.provisional
    assert web.host in FILES["prometheus.yml"]
    assert f"{web.host}:{web.port}" in FILES["prometheus.yml"]


def test_the_secrets_are_those_that_systemd_hands_over():
    handed = dict(re.findall(r"^LoadCredential=([\w-]+):(\S+)$", FILES["fleet.conf"], re.MULTILINE))
    asked = re.findall(r"/run/credentials/edgeemo.service/([\w-]+)", FILES["edge.toml"])
    assert sorted(asked) == sorted(handed)
    assert all(path.startswith("/etc/edgeemo/") for path in handed.values())


def test_systemd_takes_the_unit_and_what_is_added(tmp_path):
    """It gives 0 for unknown keys, so what it prints counts; the program is not there."""
    if shutil.which("systemd-analyze") is None:
        absent("systemd-analyze")
    unit = files_of((ROOT / "edge_runtime" / "DEVICE.md").read_text(encoding="utf-8"))["edgeemo.service"]
    (tmp_path / "edgeemo.service").write_text(unit)
    (tmp_path / "edgeemo.service.d").mkdir()
    more = tmp_path / "edgeemo.service.d" / "fleet.conf"

    def complaints(text):
        more.write_text(text)
        done = run("systemd-analyze", "verify", tmp_path / "edgeemo.service")
        said = (done.stdout + done.stderr).splitlines()
        return [line for line in said if "edgeemo" in line and "/opt/edgeemo/bin/edgeemo is not executable" not in line]

    assert complaints(FILES["fleet.conf"]) == []
    assert complaints(FILES["fleet.conf"].replace("LoadCredential=", "LoadCredentials="))


class TestBroker:
    @pytest.fixture
    def broker(self, tmp_path):
        """Mosquitto with the document's settings and access list, on a free port, with certificates of its own."""
        need("paho.mqtt")
        from tests.edge_runtime.test_mqtt import PATH, set_password

        openssl, mosquitto = (shutil.which(name, path=PATH) for name in ("openssl", "mosquitto"))
        if not openssl or not mosquitto:
            absent("openssl and mosquitto")
        folder = tmp_path / "broker"
        folder.mkdir()
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        words = ("-keyout", "broker.key", "-out", "broker.pem", "-days", "2", "-subj", "/CN=broker")
        words += ("-addext", "subjectAltName=IP:127.0.0.1")
        run(openssl, "req", "-x509", *key, *words, cwd=folder, check=True)
        shutil.copy(folder / "broker.pem", folder / "ca.pem")
        (folder / "passwords").touch(0o600)
        for name in ("dashboard", "kitchen", "hall"):
            set_password(folder / "passwords", name, f"{name}-secret")
        (folder / "acl").write_text(FILES["acl"])
        (folder / "acl").chmod(0o600)
        port = free_port()
        text = FILES["edgeemo.conf"].replace("listener 8883", f"listener {port} 127.0.0.1")
        text = text.replace("/etc/mosquitto/certs/", f"{folder}/").replace("/etc/mosquitto/", f"{folder}/")
        assert "/etc/" not in text
        (folder / "mosquitto.conf").write_text(f"{text}\nuser root\npersistence_location {folder}/\n")
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([mosquitto, "-c", folder / "mosquitto.conf"], stdout=log, stderr=log)

        def answers():
            assert process.poll() is None, (folder / "log").read_text()
            return "running" in (folder / "log").read_text()

        until(answers)
        yield port, folder / "ca.pem"
        process.terminate()
        process.wait(10)

    @pytest.fixture
    def publisher(self, broker, tmp_path):
        """Make the MQTT sink of a board, as the document's settings say: ``publisher(name, more settings)``."""
        from edge_runtime.sinks.mqtt import MqttPublisher

        port, authority = broker

        def make(name, folder=None, **changed):
            settings = board(tmp_path / (folder or name), name, host="127.0.0.1", ca_file=authority)
            return MqttPublisher(of_kind(settings, MqttSink).model_copy(update={"port": port, **changed}), seconds=5.0)

        return make

    @pytest.fixture
    def dashboard(self, broker):
        """What comes to the one who may read everything."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        port, authority = broker
        heard, subscribed = [], []
        client = Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("dashboard", "dashboard-secret")
        client.tls_set(str(authority))
        client.on_message = lambda _client, _data, message: heard.append((message.topic, message.payload))
        client.on_subscribe = lambda *_: subscribed.append(True)
        client.connect("127.0.0.1", port)
        client.subscribe("edgeemo/#", qos=1)
        client.loop_start()
        until(lambda: subscribed)
        yield heard
        client.disconnect()
        client.loop_stop()

    def test_two_boards_report_and_say_whether_they_are_there(self, publisher, dashboard):
        with publisher("kitchen") as kitchen, publisher("hall") as hall:
            for sink in (kitchen, hall):
                sink.emit(status())
                sink.emit(emotion(3))
            until(lambda: len(dashboard) == 6)
        until(lambda: len(dashboard) == 8)
        for name in ("kitchen", "hall"):
            told = [(topic.removeprefix(f"edgeemo/{name}/"), text) for topic, text in dashboard if f"/{name}/" in topic]
            assert [topic for topic, _ in told] == ["online", "status", "final", "online"]
            assert (told[0][1], told[-1][1]) == (b"true", b"false")

    def test_a_board_can_speak_for_no_other_one(self, publisher, dashboard):
        stolen = publisher("kitchen", topic="edgeemo/hall")
        with stolen, publisher("kitchen", folder="again", client_id="another") as kitchen:
            with contextlib.suppress(OSError):
                stolen.emit(emotion(1))
            kitchen.emit(emotion(2))
            until(lambda: any(topic == "edgeemo/kitchen/final" for topic, _ in dashboard))
        assert not [topic for topic, _ in dashboard if topic.startswith("edgeemo/hall")]

    def test_doctor_finds_nothing_wrong(self, broker, tmp_path):
        need("starlette", "uvicorn", "websockets")
        port, authority = broker
        settings = board(tmp_path / "kitchen", host="127.0.0.1", ca_file=authority)
        sinks = [each.model_copy(update={"port": port} if each.kind == "mqtt" else {}) for each in settings.sinks]
        # This machine is no board: it has neither its microphone nor its address in the VPN.
        here = settings.model_copy(update={"sinks": tuple(sinks), "source": "-"})
        said = list(findings(tmp_path / "kitchen" / "edge.toml", here, None))
        assert {each.state for each in said if "(web)" not in each.what} == {"ok"}, said
        assert any("mqtts://127.0.0.1" in each.found for each in said), said


class TestPrometheus:
    def test_what_the_rules_ask_for_is_told(self):
        need("starlette")
        from edge_runtime.sinks.web.state import STATES, metrics

        monitor = Monitor()
        told = metrics({"": monitor.snapshot()}, clients=0, dropped_clients=0)
        names = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
        (group,) = yaml.safe_load(FILES["edgeemo-rules.yml"])["groups"]
        asked = " ".join(rule["expr"] for rule in group["rules"])
        assert all(rule.keys() <= {"alert", "expr", "for"} and rule["alert"] for rule in group["rules"])
        assert set(re.findall(r"\bedgeemo_\w+", asked)) <= names
        for states in re.findall(r'state=~"([^"]+)"', asked):
            assert set(states.split("|")) <= set(STATES)
        assert set(re.findall(r"`(edgeemo_\w+?)[`{]", FLEET)) <= names
        assert re.search(r'^edgeemo_info\{.*model="', told, re.MULTILINE)

    def test_its_settings(self):
        content = yaml.safe_load(FILES["prometheus.yml"])
        (job,) = content["scrape_configs"]
        assert f'job="{job["job_name"]}"' in FILES["edgeemo-rules.yml"]
        assert job["authorization"]["type"] == "Bearer"
        assert content["rule_files"] == ["edgeemo-rules.yml"]


def test_an_update_is_a_link_that_points_elsewhere(tmp_path):
    """As the document does it; the bundle is the other one after the rename, and as it was after the way back."""
    for number, temperature in ((1, 1.5), (2, 2.5)):
        save_plain_bundle(tmp_path / "bundles" / str(number))
        change(tmp_path / "bundles" / str(number), lambda content, said=temperature: content.update(temperature=said))
    link = tmp_path / "bundle"
    link.symlink_to("bundles/1")
    commands = re.findall(r"^((?:ln -s|mv -T) .*)$", FLEET, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["ln", "mv"]
    for wanted, number in ((2.5, "bundles/2"), (1.5, "bundles/1")):
        for command in commands:
            words = command.replace("bundles/2", number).replace("/etc/edgeemo", os.fspath(tmp_path)).split()
            subprocess.run(words, check=True)
        assert load_bundle(link).manifest.temperature == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundles"]

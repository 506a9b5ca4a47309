"""Events to a real MQTT broker (mosquitto), and when the broker is away."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.config import MqttSink
from edge_runtime.doctor.settings import sinks
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import parse_event
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.group import SinkGroup
from edge_runtime.sinks.open import open_sinks
from edge_runtime.text import harmless
from tests.command import run
from tests.conftest import absent, edgeemo, need
from tests.events_and_takers import QUICK, emotion, free_port, lost, status, until

need("paho.mqtt")
from paho.mqtt.client import Client  # noqa: E402
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402

from edge_runtime.sinks.mqtt import MqttPublisher  # noqa: E402

# paho leaves it to Python to close a socket on which TLS failed, which happens at once.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
"""Debian keeps mosquitto where only root looks."""
HOME_ASSISTANT = Path(__file__).resolve().parents[2] / "edge_runtime" / "examples" / "home_assistant.py"
READINGS = ("emotion", "confidence")


class Broker:
    """A mosquitto on a free port, with persistence over stops."""

    def __init__(self, folder, lines=("allow_anonymous true",), port=None):
        self.folder = folder
        self.port = port or free_port()
        self.settings = folder / "mosquitto.conf"
        usual = (f"listener {self.port} 127.0.0.1", "user root", "persistence true", f"persistence_location {folder}/")
        self.settings.write_text("\n".join([*usual, *lines, ""]))
        self.process = None
        self.start()

    def start(self):
        program = shutil.which("mosquitto", path=PATH)
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen([program, "-c", self.settings], stdout=log, stderr=log)
        until(self.answers)

    def answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(10)

    def sink(self, *, seconds=5.0, **settings):
        given = {"host": "127.0.0.1", "port": self.port, **settings}
        return MqttPublisher(MqttSink(**given), seconds=seconds, backoff=QUICK)


class Subscriber:
    """Receives everything under a topic; the broker keeps for it what comes while it is away."""

    def __init__(self, broker, topic="#", **credentials):
        self.received = []
        self.subscribed = False
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=f"subscriber-{id(self)}", clean_session=False)
        if credentials:
            self.client.username_pw_set(**credentials)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_message = self._receive
        self.client.on_subscribe = lambda *_: setattr(self, "subscribed", True)
        self.client.connect("127.0.0.1", broker.port)
        self.client.subscribe(topic, qos=2)
        self.client.loop_start()
        until(lambda: self.subscribed)

    def _receive(self, client, data, message):
        # The broker repeats unacknowledged messages after a stop, and marks them. What was published twice
        # comes as two messages, of which neither is marked.
        if not message.dup or message.payload not in [each.payload for each in self.received]:
            self.received.append(message)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def starts(self, kind="final"):
        return [json.loads(each.payload)["start"] for each in self.received if each.topic.endswith(f"/{kind}")]

    def online(self):
        return [(each.payload, bool(each.retain)) for each in self.received if each.topic.endswith("/online")]


@pytest.fixture
def brokers(tmp_path):
    """Make brokers: ``brokers(*lines of the settings)``."""
    if shutil.which("mosquitto", path=PATH) is None:
        absent("mosquitto (apt-get install mosquitto)")
    made = []

    def make(*lines, **options):
        folder = tmp_path / f"broker-{len(made)}"
        folder.mkdir()
        made.append(Broker(folder, lines or ("allow_anonymous true",), **options))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def broker(brokers):
    return brokers()


@pytest.fixture
def subscribe(request):
    def make(*arguments, **options):
        subscriber = Subscriber(*arguments, **options)
        request.addfinalizer(subscriber.close)
        return subscriber

    return make


def refusal(sink, tries=1):
    """Return what an event is refused with."""
    with sink:
        for _ in range(tries):
            with pytest.raises(OSError, match=r"\w") as caught:
                sink.emit(emotion(0))
    assert not isinstance(caught.value, BrokenPipeError)
    return str(caught.value)


# ---- delivery


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_events_arrive_in_order_under_their_topics(broker, subscribe, qos):
    subscriber = subscribe(broker)
    events = [status(0), *(emotion(number, "provisional" if number % 2 else "final") for number in range(50))]
    with broker.sink(topic="home/hall", qos=qos) as sink:
        for event in events:
            sink.emit(event)
    until(lambda: subscriber.online()[-1:] == [(b"false", False)])
    assert subscriber.online() == [(b"true", False), (b"false", False)]
    arrived = [each for each in subscriber.received if not each.topic.endswith("/online")]
    assert [each.topic for each in arrived] == [f"home/hall/{event.type}" for event in events]
    assert [parse_event(each.payload) for each in arrived] == events
    assert {each.qos for each in arrived} == {qos}
    assert not any(each.retain for each in arrived)


def test_each_of_several_sources_has_topics_of_its_own(broker, subscribe):
    subscriber = subscribe(broker, "home/#")
    events = [emotion(number, kind) for number, kind in enumerate(("final", "provisional"))]
    events = [event.model_copy(update={"source": name}) for event in events for name in ("hall", "door")]
    with broker.sink(topic="home") as sink:
        for event in events:
            sink.emit(event)
    until(lambda: subscriber.online()[-1:] == [(b"false", False)])
    arrived = [(each.topic, parse_event(each.payload)) for each in subscriber.received if "online" not in each.topic]
    assert arrived == [(f"home/{event.source}/{event.type}", event) for event in events]


def test_as_the_group_and_the_settings_make_it(broker, subscribe):
    subscriber = subscribe(broker, "edgeemo/#")
    monitor = Monitor()
    sinks = open_sinks([MqttSink(host="127.0.0.1", port=broker.port, provisional=False)], monitor)
    assert [sink.name for sink in sinks] == [f"mqtt://127.0.0.1:{broker.port}/edgeemo"]
    with SinkGroup(sinks, monitor, live=True) as group:
        for number in range(20):
            group.emit(emotion(number))
            group.emit(emotion(number, "provisional"))
    until(lambda: len(subscriber.starts()) == 20)
    assert subscriber.starts("provisional") == []
    assert (lost(monitor), group.notices()) == ({}, [])


def test_a_later_subscriber_sees_whether_it_is_online(broker, subscribe):
    with broker.sink() as sink:
        sink.emit(emotion(0))
        late = subscribe(broker)
        until(lambda: late.online() == [(b"true", True)])
    until(lambda: late.online()[-1] == (b"false", False))
    later = subscribe(broker)
    until(lambda: later.online() == [(b"false", True)])


def test_the_last_will_of_a_process_that_was_killed(broker, subscribe):
    code = (
        "import sys, time; from edge_runtime.config import MqttSink\n"
        "from edge_runtime.sinks.mqtt import MqttPublisher\n"
        "from tests.events_and_takers import emotion\n"
        "with MqttPublisher(MqttSink(host='127.0.0.1', port=int(sys.argv[1]))) as sink:\n"
        "    sink.emit(emotion(7)); print('sent', flush=True); time.sleep(60)"
    )
    subscriber = subscribe(broker)
    process = subprocess.Popen([sys.executable, "-c", code, str(broker.port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "sent\n"
        until(lambda: subscriber.starts() == [7])
        assert subscriber.online() == [(b"true", False)]
    finally:
        process.kill()
        process.communicate()
    until(lambda: len(subscriber.online()) == 2)
    later = subscribe(broker)
    until(lambda: later.online() == [(b"false", True)])


# ---- a broker that is away


@pytest.mark.parametrize("qos", [1, 2])
def test_a_broker_that_stops_and_starts_loses_and_repeats_nothing(broker, subscribe, qos):
    subscriber = subscribe(broker)
    monitor, reported, sink = Monitor(), [], broker.sink(qos=qos)
    with SinkGroup([sink], monitor, live=True, backoff=QUICK) as group:
        for number in range(5):
            group.emit(emotion(number))
        until(lambda: len(subscriber.starts()) == 5)
        broker.stop()
        for number in range(5, 10):
            group.emit(emotion(number))
        until(lambda: reported.extend(group.notices()) or reported)
        broker.start()
        for number in range(10, 15):
            group.emit(emotion(number))
        until(lambda: reported.extend(group.notices()) or len(reported) == 2)
    until(lambda: len(subscriber.starts()) >= 15)
    until(lambda: subscriber.online()[-1:] == [(b"false", False)])
    assert subscriber.starts() == list(range(15))
    assert reported[0].startswith(f"{sink.name} takes no events for now (")
    assert reported[1] == f"{sink.name} takes events again; none lost meanwhile"
    assert lost(monitor) == {}


def test_it_reconnects_without_an_event(broker, subscribe):
    subscriber = subscribe(broker)
    with broker.sink() as sink:
        sink.emit(emotion(0))
        broker.stop()
        broker.start()
        until(lambda: subscriber.online()[-1:] == [(b"true", False)] and len(subscriber.online()) >= 2)


def test_a_broker_that_answers_nothing_does_not_keep_the_end(broker):
    with broker.sink(seconds=0.3) as sink:
        sink.emit(emotion(0))
        broker.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
    assert time.monotonic() - began < 4


def test_a_slow_acknowledgement_is_waited_for_and_the_event_not_sent_again(broker, subscribe):
    subscriber = subscribe(broker)
    with broker.sink(seconds=0.3) as sink:
        sink.emit(emotion(0))
        broker.process.send_signal(signal.SIGSTOP)
        event = emotion(1)
        for _ in range(3):
            with pytest.raises(OSError, match="does not acknowledge"):
                sink.emit(event)
        broker.process.send_signal(signal.SIGCONT)
        until(lambda: len(subscriber.starts()) == 2)
        sink.emit(event)
        sink.emit(emotion(2))
    until(lambda: subscriber.starts()[-1] == 2)
    assert subscriber.starts() == [0, 1, 2]


def test_a_broker_that_is_away_at_start_is_no_error(brokers, subscribe):
    port = free_port()
    monitor, reported = Monitor(), []
    sink = MqttPublisher(MqttSink(host="127.0.0.1", port=port), backoff=QUICK)
    with SinkGroup([sink], monitor, live=True, backoff=QUICK) as group:
        group.emit(emotion(0))
        until(lambda: reported.extend(group.notices()) or reported)
        assert reported[0].startswith(f"{sink.name} takes no events for now (cannot be reached (Connection refused))")
        broker = brokers(port=port)
        until(lambda: reported.extend(group.notices()) or len(reported) == 2)
        subscriber = subscribe(broker)
        until(lambda: subscriber.online() == [(b"true", True)])
        group.emit(emotion(1))
        until(lambda: subscriber.starts() == [1])
    assert lost(monitor) == {}


def test_a_server_that_is_no_broker():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        sink = MqttPublisher(MqttSink(host="127.0.0.1", port=server.getsockname()[1]), seconds=0.4, backoff=QUICK)
        assert "is it an MQTT broker without TLS?" in refusal(sink, tries=2)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "......"])
def test_an_unknown_host(host):
    assert "cannot be reached" in refusal(MqttPublisher(MqttSink(host=host), backoff=QUICK))


# ---- credentials


def set_password(users, name, password, *options):
    program = shutil.which("mosquitto_passwd", path=PATH)
    if program is None:
        absent("mosquitto_passwd (apt-get install mosquitto)")
    run(program, "-b", *options, users, name, password, check=True)


@pytest.fixture
def guarded(brokers, tmp_path):
    """A broker with the user ann."""
    set_password(tmp_path / "users", "ann", "s3cret", "-c")
    return brokers("allow_anonymous false", f"password_file {tmp_path / 'users'}")


@pytest.mark.parametrize("where", ["settings", "file", "environment"])
def test_the_password_is_taken_from(guarded, subscribe, where, tmp_path, monkeypatch):
    subscriber = subscribe(guarded, username="ann", password="s3cret")
    given = {"username": "ann"}
    if where == "settings":
        given["password"] = "s3cret"
    elif where == "file":
        (tmp_path / "password").write_text("s3cret\n")
        given["password_file"] = tmp_path / "password"
    else:
        monkeypatch.setenv("EDGEEMO_MQTT_PASSWORD", "s3cret")
    with guarded.sink(**given) as sink:
        sink.emit(emotion(3))
    until(lambda: subscriber.starts() == [3])


def test_a_wrong_password_is_reported_until_it_is_corrected(guarded, caplog, capfd, tmp_path):
    caplog.set_level(logging.DEBUG)
    monitor, reported = Monitor(), []
    sink = guarded.sink(username="ann", password="Wr0ng")
    with SinkGroup([sink], monitor, live=True, backoff=QUICK, close_seconds=0.3) as group:
        group.emit(emotion(0))
        until(lambda: reported.extend(group.notices()) or reported)
    assert "the broker refuses this user name or password (Not authorized)" in reported[0]
    assert lost(monitor) == {sink.name: 1}
    output = [*reported, *group.notices(), repr(sink), repr(vars(sink)), sink.name, caplog.text, *capfd.readouterr()]
    assert "Wr0ng" not in "".join(output)
    # Once the broker has this password for ann, it works without a new start.
    with guarded.sink(username="ann", password="Wr0ng") as sink:
        with pytest.raises(OSError, match="refuses"):
            sink.emit(emotion(0))
        set_password(tmp_path / "users", "ann", "Wr0ng")
        guarded.process.send_signal(signal.SIGHUP)

        def taken():
            try:
                sink.emit(emotion(0))
            except OSError:
                return False
            return True

        until(taken)


def test_a_missing_password_is_reported(guarded):
    assert "requires a user name and a password" in refusal(guarded.sink())


def test_an_unreadable_password_is_an_error_at_start(tmp_path):
    for content in (None, b"", b"\xff\n"):
        path = tmp_path / "password"
        if content is not None:
            path.write_bytes(content)
        sink = MqttPublisher(MqttSink(host="127.0.0.1", username="ann", password_file=path))
        with pytest.raises(EdgeemoError, match="password") as caught:
            sink.__enter__()
        assert str(path) in caught.value.message


# ---- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two authorities, one of which signed for this machine, for another name, and for a client."""
    if shutil.which("openssl") is None:
        absent("openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words):
        run("openssl", *map(str, words), cwd=folder, check=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other-ca"):
        openssl("req", "-x509", *new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    names = {"server": "IP:127.0.0.1", "elsewhere": "DNS:broker.example", "client": "DNS:device"}
    for name, alternative in names.items():
        (folder / "extension").write_text(f"subjectAltName={alternative}\n")
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", f"{name}.pem", "-days", "2", "-extfile", "extension"),
        )
    return folder


@pytest.fixture
def encrypted(brokers, certificates):
    """Make a broker with TLS: ``encrypted(name of its certificate, *lines)``."""

    def make(name="server", *lines):
        files = (f"certfile {certificates / name}.pem", f"keyfile {certificates / name}.key")
        return brokers("allow_anonymous true", *files, f"cafile {certificates / 'ca.pem'}", *lines)

    return make


def test_tls_with_an_authority_of_ones_own(encrypted, certificates):
    broker = encrypted()
    with broker.sink(ca_file=certificates / "ca.pem") as sink:
        assert sink.name.startswith("mqtts://127.0.0.1:")
        sink.emit(emotion(0))


@pytest.mark.parametrize("trusted", ["other-ca.pem", None])
def test_a_broker_that_the_authority_did_not_sign_for_is_refused(encrypted, certificates, trusted):
    reason = refusal(encrypted().sink(**({"ca_file": certificates / trusted} if trusted else {"tls": True})))
    assert "not trusted" in reason
    assert "ca_file" in reason


def test_a_certificate_for_another_name_is_refused(encrypted, certificates):
    reason = refusal(encrypted("elsewhere").sink(ca_file=certificates / "ca.pem"))
    assert "the broker's certificate is for another name" in reason
    assert "127.0.0.1" in reason


def test_a_broker_that_wants_a_certificate(encrypted, certificates):
    broker = encrypted("server", "require_certificate true")
    ours = {"cert_file": certificates / "client.pem", "key_file": certificates / "client.key"}
    with broker.sink(ca_file=certificates / "ca.pem", **ours) as sink:
        sink.emit(emotion(0))
    assert "accepts this client's certificate (cert_file)" in refusal(broker.sink(ca_file=certificates / "ca.pem"))


def test_tls_where_there_is_none_and_none_where_there_is(broker, encrypted):
    assert "is it the port for TLS?" in refusal(broker.sink(tls=True))
    assert "is it an MQTT broker without TLS?" in refusal(encrypted().sink())


@pytest.mark.parametrize("how", ["password", "authority", "no broker"])
def test_many_attempts_leave_nothing_behind(guarded, encrypted, certificates, how):
    sink = {
        "password": lambda: guarded.sink(username="ann", password="Wr0ng"),
        "authority": lambda: encrypted().sink(ca_file=certificates / "other-ca.pem"),
        "no broker": lambda: MqttPublisher(MqttSink(host="127.0.0.1", port=free_port()), backoff=QUICK),
    }[how]()

    def held():
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    others = threading.active_count()
    with sink:
        for attempt in range(12):
            with pytest.raises(OSError, match=r"refuses|not trusted|refused"):
                sink.emit(emotion(0))
            if attempt == 1:
                until(lambda: threading.active_count() <= others + 2)
                before = held()
        until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


def test_unreadable_certificates_are_an_error_at_start(certificates, tmp_path):
    (tmp_path / "junk.pem").write_text("no certificate")
    run("openssl", "genrsa", "-aes128", "-passout", "pass:secret", "-out", tmp_path / "locked.key", "2048", check=True)
    good = certificates / "client.pem"
    for files in (
        {"ca_file": tmp_path / "absent.pem"},
        {"ca_file": tmp_path / "junk.pem"},
        {"ca_file": tmp_path / "a\0b"},
        {"cert_file": tmp_path / "absent.pem"},
        {"cert_file": good, "key_file": tmp_path / "junk.pem"},
        # There is no prompt for the passphrase.
        {"cert_file": good, "key_file": tmp_path / "locked.key"},
    ):
        with pytest.raises(EdgeemoError, match="cannot be read") as caught:
            MqttPublisher(MqttSink(host="127.0.0.1", **files)).__enter__()
        assert harmless(str(list(files.values())[-1])) in caught.value.message


# ---- doctor


def broker_finding(broker, **settings):
    sink = MqttSink(host="127.0.0.1", port=broker.port, topic="home", **settings)
    found = sinks(Path("edge.toml"), [sink])
    return [each for each in found if each.what.endswith(", broker")]


def test_doctor_tries_the_broker_without_a_trace(broker, subscribe):
    subscriber = subscribe(broker)
    with broker.sink(topic="home", client_id="kitchen") as sink:
        sink.emit(emotion(0))
        (finding,) = broker_finding(broker, client_id="kitchen")
        assert (finding.state, finding.found) == ("ok", f"mqtt://127.0.0.1:{broker.port}/home: accepts the connection")
        sink.emit(emotion(1))
    until(lambda: (b"false", False) in subscriber.online())
    # The listener kept its connection, and no other client appeared in `online`.
    assert subscriber.online() == [(b"true", False), (b"false", False)]
    assert {each.topic for each in subscriber.received} == {"home/online", "home/final"}


def test_doctor_reports_a_broker_that_refuses_or_is_away(brokers, tmp_path):
    (tmp_path / "none").touch(mode=0o600)
    broker = brokers("allow_anonymous false", f"password_file {tmp_path / 'none'}")
    (finding,) = broker_finding(broker, username="me", password="s3cret")
    assert (finding.state, finding.exit_code) == ("can be better", 0)
    assert "refuses this user name or password" in finding.found
    broker.stop()
    (away,) = broker_finding(broker, username="me", password="s3cret")
    assert away.state == "can be better"
    assert "cannot be reached (Connection refused)" in away.found
    assert "s3cret" not in repr((finding, away))
    broker.start()


def test_doctor_does_not_wait_for_a_silent_broker(monkeypatch):
    monkeypatch.setattr("edge_runtime.doctor.settings.BROKER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        (finding,) = sinks(Path("edge.toml"), [MqttSink(host="127.0.0.1", port=port)])
    assert finding.state == "can be better"
    assert "no answer in 0." in finding.found


# ---- the example for Home Assistant


def with_broker(broker, tmp_path, *lines):
    """Write settings with a sink of this broker."""
    usual = ("[[sinks]]", 'kind = "mqtt"', 'host = "127.0.0.1"', f"port = {broker.port}")
    (tmp_path / "edge.toml").write_text("\n".join([*usual, *lines, ""]))
    return tmp_path / "edge.toml"


def announced(broker, tmp_path, *lines, options=("--once",)):
    """Run the example with these settings of its sink."""
    return edgeemo(with_broker(broker, tmp_path, *lines), *options, script=HOME_ASSISTANT)


def test_home_assistant_finds_the_device_and_reads_its_events(broker, subscribe, tmp_path):
    """Its templates are Jinja's, with the message as ``value_json``."""
    need("jinja2")
    from jinja2 import Environment, StrictUndefined

    done = announced(broker, tmp_path, 'topic = "home/hall 1"')
    assert done.returncode == 0, done.stderr
    hub = subscribe(broker, "homeassistant/+/+/config")
    until(lambda: len(hub.received) == 3)
    assert all(message.retain for message in hub.received)
    found = {message.topic: json.loads(message.payload) for message in hub.received}
    emotion_topic, confidence_topic = (f"homeassistant/sensor/edgeemo_home_hall_1_{kind}/config" for kind in READINGS)
    listening_topic = "homeassistant/binary_sensor/edgeemo_home_hall_1_listening/config"
    assert set(found) == {emotion_topic, confidence_topic, listening_topic}
    ids = {config["unique_id"] for config in found.values()}
    assert ids == {f"edgeemo_home_hall_1_{kind}" for kind in (*READINGS, "listening")}
    (device,) = {json.dumps(config["device"], sort_keys=True) for config in found.values()}
    assert json.loads(device)["identifiers"] == ["edgeemo_home_hall_1"]

    received = subscribe(broker, "home/#")
    certain = emotion(0)
    with broker.sink(topic="home/hall 1") as sink:
        for event in (certain, certain.model_copy(update={"uncertain": True})):
            sink.emit(event)
    until(lambda: len(received.starts()) == 2 and len(received.online()) == 2)
    # On while it listens, off afterwards, and never hidden as unavailable.
    listening = found.pop(listening_topic)
    states = [m.payload.decode() for m in received.received if m.topic == listening["state_topic"]]
    assert states == [listening["payload_on"], listening["payload_off"]]
    assert "availability_topic" not in listening
    jinja = Environment(undefined=StrictUndefined)
    read = {}
    for topic, config in found.items():
        template = jinja.from_string(config["value_template"])
        messages = [message for message in received.received if message.topic == config["state_topic"]]
        read[topic] = [template.render(value_json=json.loads(message.payload)) for message in messages]
        available = [m.payload.decode() for m in received.received if m.topic == config["availability_topic"]]
        assert available == [config["payload_available"], config["payload_not_available"]]
    assert read[emotion_topic] == [certain.label, "uncertain"]
    assert [float(value) for value in read[confidence_topic]] == [100 * certain.confidence] * 2
    # An enumeration takes the values of its options only, and has no unit.
    config = found[emotion_topic]
    assert set(config["options"]) == {*load_bundle(DEFAULT_BUNDLE).manifest.labels, "uncertain"}
    assert not {"unit_of_measurement", "state_class"} & set(config)
    attributes = next(m for m in received.received if m.topic == config["json_attributes_topic"])
    assert json.loads(attributes.payload)["probabilities"] == certain.probabilities


@pytest.fixture
def announcer(tmp_path):
    """Start the example, which goes on until the end of the test."""
    running = []

    def start(broker, *lines):
        settings = with_broker(broker, tmp_path, *lines)
        running.append(subprocess.Popen([sys.executable, HOME_ASSISTANT, settings], stderr=subprocess.PIPE, text=True))
        assert "published" in running[-1].stderr.readline()
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate(timeout=20)


def test_a_broker_that_lost_its_retained_messages_gets_them_again(brokers, subscribe, announcer):
    broker = brokers("allow_anonymous true")
    process = announcer(broker)
    before = subscribe(broker, "homeassistant/+/+/config")
    until(lambda: len(before.received) == 3)
    broker.stop()
    (broker.folder / "mosquitto.db").unlink()
    broker.start()
    assert "published" in process.stderr.readline()
    after = subscribe(broker, "homeassistant/+/+/config")
    until(lambda: len(after.received) == 3)
    # What came while it subscribed is not marked as retained; for a later one all of it is.
    late = subscribe(broker, "homeassistant/+/+/config")
    until(lambda: len(late.received) == 3)
    assert all(message.retain for message in late.received)
    assert {message.topic: message.payload for message in late.received} == {
        message.topic: message.payload for message in before.received[:3]
    }


def test_home_assistant_gets_them_again_when_it_starts(broker, subscribe, announcer):
    process = announcer(broker)
    hub = subscribe(broker, "homeassistant/+/+/config")
    until(lambda: len(hub.received) == 3)
    for message in hub.received[:3]:
        # Taken away, as by a restored backup; the example gets no message.
        hub.client.publish(message.topic, b"", qos=1, retain=True).wait_for_publish(5)
    until(lambda: len(hub.received) == 6)
    for payload in (b"offline", b"online"):
        hub.client.publish("homeassistant/status", payload, qos=1).wait_for_publish(5)
    assert "published" in process.stderr.readline()
    until(lambda: len(hub.received) == 9)
    time.sleep(0.3)
    late = subscribe(broker, "homeassistant/+/+/config")
    until(lambda: len(late.received) == 3)
    # Once, for "online" only.
    assert len(hub.received) == 9


@pytest.mark.parametrize("options", [(), ("--once",)])
def test_the_example_refuses_settings_that_it_cannot_use(guarded, tmp_path, options):
    done = announced(guarded, tmp_path, 'username = "ann"', 'password = "Wr0ng"', options=options)
    assert done.returncode == 1
    assert "the sensors cannot be published" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Wr0ng" not in done.stderr
    assert announced(guarded, tmp_path, 'username = "ann"', 'password = "s3cret"').returncode == 0
    (tmp_path / "edge.toml").write_text("")
    done = edgeemo(tmp_path / "edge.toml", script=HOME_ASSISTANT)
    assert done.returncode == 1
    assert "has no sink of the kind 'mqtt'" in done.stderr

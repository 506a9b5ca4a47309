"""Settings of `listen`: the file, and what the command line changes of it."""

from pathlib import Path

import pytest

from edge_runtime.config import ListenSettings, MqttSink, read_settings
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.listen_command import merged

WHOLE = """
bundle = "bundle"
source = "mic://USB"
record = "/var/lib/edgeemo"
[engine]
backend = "onnxruntime"
threads = 2
[gate]
enter = 0.6
leave = 0.4
[decision]
hop_seconds = 0.5
[service]
nice = 5
memory_mb = 300
[[sinks]]
kind = "file"
path = "events.jsonl"
[[sinks]]
kind = "mqtt"
host = "broker"
username = "robot"
password = "very secret"
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "edge.toml"
        path.write_text(text)
        return path

    return write


def test_all_of_it_is_read(written):
    settings = read_settings(written(WHOLE))
    assert settings.engine.threads == 2
    assert settings.decision.hop_seconds == 0.5
    assert [sink.kind for sink in settings.sinks] == ["file", "mqtt"]


def test_paths_are_relative_to_the_file(written, tmp_path):
    settings = read_settings(written(WHOLE))
    assert settings.bundle == tmp_path / "bundle"
    assert settings.sinks[0].path == tmp_path / "events.jsonl"
    assert settings.record == Path("/var/lib/edgeemo")


def test_a_password_is_never_shown(written):
    settings = read_settings(written(WHOLE))
    sink = settings.sinks[1]
    assert isinstance(sink, MqttSink)
    assert sink.password.get_secret_value() == "very secret"
    assert "very secret" not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(WrongUseError) as refused:
        read_settings(written(WHOLE + 'password_file = "x"\n'))
    assert "very secret" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("bundel = 'x'", "'bundel'"),
        ("[gate]\nenter = 2.0", "'gate.enter'"),
        ("[gate]\nenter = 0.3\nleave = 0.5", "leave <= enter"),
        ("[engine]\nthreads = 'many'", "'engine.threads'"),
        ("[[sinks]]\nkind = 'fax'", "'sinks.0'"),
        ("[[sinks]]\nkind = 'mqtt'", "host"),
        ("[[sinks]]\nkind = 'mqtt'\nhost = 'b'\ntopic = 'a/#'", "topic"),
        ("bundle = ", "is not valid TOML"),
        ("a = \x00", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(written, text, what):
    with pytest.raises(WrongUseError, match=r"edge\.toml") as refused:
        read_settings(written(text))
    assert what in refused.value.message
    assert "\n" not in refused.value.message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EdgeemoError, match="cannot be read"):
        read_settings(tmp_path / "no.toml")


def test_the_command_line_wins(written):
    settings = merged(
        read_settings(written(WHOLE)), {"source": "call.wav", "threads": 1, "hop": 0.25, "no_vad": True, "paced": None}
    )
    assert settings.source == "call.wav"
    assert (settings.engine.threads, settings.engine.backend) == (1, "onnxruntime")
    assert settings.decision.hop_seconds == 0.25
    assert not settings.gate.enabled
    assert settings.gate.enter == 0.6
    assert settings.sinks[1].password.get_secret_value() == "very secret"


def test_nothing_given_is_what_is_usual():
    assert merged(ListenSettings(), {"source": None}) == ListenSettings()

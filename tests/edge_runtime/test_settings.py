"""Settings of `listen`: the file, and what the command line changes of it."""

import math
import re
from pathlib import Path

import pytest

from edge_runtime.config import ListenSettings, MqttSink, parse_settings, read_settings
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.listen_command import merged

WHOLE = """
bundle = "bundle"
source = "mic://USB"
record = "/var/lib/edgeemo"
[engine]
backend = "onnxruntime"
threads = 2
[vad]
threshold = 0.6
neg_threshold = 0.4
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


def test_all_of_it_is_read_and_paths_are_relative_to_the_file(written, tmp_path):
    settings = read_settings(written(WHOLE))
    assert (settings.engine.threads, settings.decision.hop_seconds) == (2, 0.5)
    assert [sink.kind for sink in settings.sinks] == ["file", "mqtt"]
    assert settings.bundle == tmp_path / "bundle"
    assert settings.sinks[0].path == tmp_path / "events.jsonl"
    assert settings.record == Path("/var/lib/edgeemo")
    assert settings.source == "mic://USB"
    assert read_settings(written('source = "call.wav"')).source == str(tmp_path / "call.wav")
    assert read_settings(written('source = "-"')).source == "-"


def test_a_password_is_never_shown(written):
    settings = read_settings(written(WHOLE))
    sink = settings.sinks[1]
    assert isinstance(sink, MqttSink)
    assert sink.password.get_secret_value() == "very secret"
    assert "very secret" not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(WrongUseError) as refused:
        read_settings(written(WHOLE + 'password_file = "x"\n'))
    assert "very secret" not in refused.value.message


SINKS = "[[sinks]]\nkind = 'stdout'\n[[sinks]]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[engine]\nthread = 2", "'engine.thread': no such setting; did you mean 'threads'?"),
        ("hop = 2", "'hop': no such setting; did you mean 'decision.hop_seconds'?"),
        ("threads = 2", "'threads': no such setting; did you mean 'engine.threads'?"),
        ("bundle = ", "is not valid TOML (…); compare with: edgeemo listen --example-config"),
        ("sinks = ['stdout']", "'sinks 1': must be a table, begun with [[sinks]]"),
        (f"{SINKS}kind = 'file'", "'sinks 2.path': is needed"),
        (f"{SINKS}kind = 'fax'", "'sinks 2.kind': must be one of stdout, terminal, file, mqtt, web"),
        (f"{SINKS}kind = 'mqtt'\nhots = 'b'\nhost = 'b'", "'sinks 2.hots': no such setting; did you mean 'host'?"),
        (f"{SINKS}kind = 'mqtt'\nhost = 'b'\ntopic = 'a/+'", "'sinks 2.topic': must not contain the wildcards # …"),
        (f"{SINKS}kind = 'mqtt'\nhost = 'b'\npassword_file = 'p'", "'sinks 2': a password needs a username"),
        ("sinks = 'stdout'", "'sinks': must be a list of tables, …"),
        ("[engine]\nbackend = 'cuda'", "'engine.backend': must be auto, onnxruntime or tensorrt"),
        ("[engine]\nthreads = 1.5", "'engine.threads': must be a whole number"),
        ("[engine]\nthreads = 0", "'engine.threads': must be at least 1"),
        ("[engine]\nthreads = 65", "'engine.threads': must be at most 64"),
        ("[vad]\nthreshold = 0", "'vad.threshold': must be more than 0"),
        ("[vad]\nthreshold = 'high'", "'vad.threshold': must be a number"),
        ("[vad]\nthreshold = 1.0", "'vad.threshold': must be less than 1"),
        ("[vad]\nenabled = 'perhaps'", "'vad.enabled': must be true or false"),
        ("[decision]\nhop_seconds = nan", "'decision.hop_seconds': must be a finite number"),
        ("source = 1", "'source': must be a text, in quotes"),
        ("a = 1\nthreads = 1", "'a': no such setting; 'threads': no such setting; did you mean 'engine.threads'?"),
        ("\n".join(f"a{n} = 1" for n in range(7)), "'a0': no such setting; … 'a4': no such setting; and 2 more"),
    ],
)
def test_what_is_wrong_is_named(written, text, expected):
    path = written(text)
    with pytest.raises(WrongUseError) as refused:
        read_settings(path)
    wanted = re.escape(f"{path}: {expected}").replace("…", ".*")
    assert re.fullmatch(wanted, refused.value.message), refused.value.message  # in one line


@pytest.mark.parametrize("text", ["password = 12345678", "port = 12345678", "12345678 = 'x'\nqos = '12345678'"])
def test_no_value_is_repeated(written, text):
    with pytest.raises(WrongUseError) as refused:
        read_settings(written(f"[[sinks]]\nkind = 'mqtt'\nhost = 'b'\nusername = 'me'\n{text}\n"))
    assert refused.value.message.count("12345678") == text.startswith("1")


def test_an_option_is_named_as_it_is_written():
    content = {"decision": {"hop_seconds": math.nan}, "engine": {"threads": 0}, "vad": {"threshold": 0.2}}
    with pytest.raises(WrongUseError) as refused:
        parse_settings(content, "the command line", {("decision", "hop_seconds"): "--hop", ("source",): "--source"})
    assert refused.value.message == (
        "the command line: 'engine.threads': must be at least 1; 'vad': must satisfy neg_threshold <= threshold; "
        "--hop: must be a finite number"
    )


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EdgeemoError, match="cannot be read"):
        read_settings(tmp_path / "no.toml")


def test_the_command_line_wins(written):
    given = {"source": "call.wav", "threads": 1, "hop": 0.25, "no_vad": True, "paced": None}
    settings = merged(read_settings(written(WHOLE)), given)
    assert settings.source == "call.wav"
    assert (settings.engine.threads, settings.engine.backend) == (1, "onnxruntime")
    assert settings.decision.hop_seconds == 0.25
    assert not settings.vad.enabled
    assert settings.vad.threshold == 0.6
    assert settings.sinks[1].password.get_secret_value() == "very secret"


def test_nothing_given_is_what_is_usual():
    assert merged(ListenSettings(), {"source": None}) == ListenSettings()

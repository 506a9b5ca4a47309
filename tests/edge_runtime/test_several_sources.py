"""Several sources in one process: the events of each, one engine, failures, signals, settings."""

import json
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import onnxruntime
import pytest
import soundfile

import edge_runtime
from edge_runtime import ListenSettings
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE
from edge_runtime.config import parse_settings, read_settings
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.listen_command import merged
from edge_runtime.loop.monitor import Monitor
from edge_runtime.loop.several import Feed, listen_to_several
from edge_runtime.sources.interface import Block
from edge_runtime.sources.source_uri import parse_sources
from tests.conftest import edgeemo
from tests.edge_runtime.test_listening import events_of, finals_of
from tests.events_and_takers import until


@pytest.fixture(scope="module")
def clips(clip, tmp_path_factory):
    """The clip, and another one of the same speech in another order and louder."""
    pcm, rate = soundfile.read(clip, dtype="float32")
    other = tmp_path_factory.mktemp("clips") / "other.wav"
    pause = np.zeros(rate, np.float32)
    soundfile.write(other, np.concatenate([pcm[4 * rate :], pause, 0.5 * pcm[: 4 * rate]]), rate)
    return clip, other


@pytest.fixture(scope="module")
def model():
    with edge_runtime.load(DEFAULT_BUNDLE) as opened:
        yield opened


def unclocked(events):
    return [event.model_dump(exclude={"source", "time", "latency_ms"}) for event in events]


def by_source(events):
    return {name: [event for event in events if event.source == name] for name in {event.source for event in events}}


def named(**sources):
    return [word for name, place in sources.items() for word in ("--source", f"{name}={place}")]


def last(events):
    return events[-1].status, events[-1].detail


class TestEvents:
    def test_each_gives_the_events_that_it_gives_alone(self, model, clips):
        """Adaptation to the speaker, hysteresis and voice activity detection included: none is shared."""
        alone = [list(edge_runtime.listen(model, clip)) for clip in clips]
        assert unclocked(finals_of(alone[0])) != unclocked(finals_of(alone[1]))
        settings = ListenSettings(sources={"one": clips[0], "two": clips[1], "again": clips[0]})
        found = by_source(list(edge_runtime.listen(DEFAULT_BUNDLE, settings=settings)))
        assert {name: unclocked(events) for name, events in found.items()} == {
            "one": unclocked(alone[0]),
            "two": unclocked(alone[1]),
            "again": unclocked(alone[0]),
        }

    def test_every_line_has_the_name_and_without_names_none_has(self, clips, tmp_path):
        out = tmp_path / "events.jsonl"
        sinks = ("--json", "--sink", f"file:{out}")
        done = edgeemo("listen", DEFAULT_BUNDLE, *named(hall=clips[0], door=clips[1]), *sinks, code=0)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert {line["source"] for line in lines} == {"hall", "door"}
        assert {json.loads(line)["source"] for line in out.read_text().splitlines()} == {"hall", "door"}
        done = edgeemo("listen", DEFAULT_BUNDLE, "--source", clips[0], "--json", code=0)
        assert not any("source" in json.loads(line) for line in done.stdout.splitlines())

    def test_recordings_lie_apart(self, clips, tmp_path):
        words = [*named(hall=clips[0], door=clips[1]), "--record", tmp_path / "audio"]
        done = edgeemo("listen", DEFAULT_BUNDLE, *words, code=0)
        assert "Traceback" not in done.stderr
        for name, clip in (("hall", clips[0]), ("door", clips[1])):
            (written,) = (tmp_path / "audio" / name).iterdir()
            assert soundfile.info(written).frames == soundfile.info(clip).frames


class TestOneEngine:
    def test_there_is_one_session_for_all(self, clips, monkeypatch):
        opened, session = [], onnxruntime.InferenceSession

        def open_session(*given, **options):
            opened.append(given)
            return session(*given, **options)

        monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
        counts = []
        for sources in ({"one": clips[0]}, {str(number): clips[number % 2] for number in range(6)}):
            opened.clear()
            list(edge_runtime.listen(DEFAULT_BUNDLE, settings=ListenSettings(sources=sources)))
            counts.append(len(opened))
        assert counts[0] == counts[1] > 0

    def test_a_source_takes_less_memory_than_an_engine(self, clips):
        """The graph alone has 14 MB, and that of Silero VAD 1 MB; both are opened once."""
        code = (
            "import sys, edge_runtime\n"
            "from edge_runtime import ListenSettings\n"
            "from edge_runtime.service import resident_mb\n"
            "sources = {f's{number}': sys.argv[2] for number in range(int(sys.argv[1]))}\n"
            "list(edge_runtime.listen(settings=ListenSettings(sources=sources)))\n"
            "print(resident_mb())"
        )
        used = [
            float(subprocess.run([sys.executable, "-c", code, count, clips[0]], capture_output=True, check=True).stdout)
            for count in ("1", "11")
        ]
        assert (used[1] - used[0]) / 10 < 1.5


class TestFailures:
    def test_one_that_is_not_there_stops_no_other(self, clips, tmp_path):
        words = named(a=tmp_path / "none.wav", b=clips[0])
        done = edgeemo("listen", DEFAULT_BUNDLE, *words, "--json", code=1)
        found = by_source(events_of(done.stdout))
        assert [event.status for event in found["a"]] == ["stopped"]
        assert "there is no such audio file" in found["a"][0].detail
        assert len(finals_of(found["b"])) >= 1
        assert done.stderr.splitlines()[-1].startswith("Error: source a: ")
        assert "no speech" not in done.stderr

    def test_one_that_fails_on_its_way_stops_no_other(self, model, clips, tmp_path):
        content = clips[0].read_bytes()
        cut = tmp_path / "cut.wav"
        cut.write_bytes(content[: len(content) // 2])
        settings = ListenSettings(sources={"cut": cut, "whole": clips[0]})
        events, listening = [], edge_runtime.listen(DEFAULT_BUNDLE, settings=settings)
        with pytest.raises(EdgeemoError, match=r"^source cut: .*is damaged"):
            events += iter(lambda: next(listening), None)
        found = by_source(events)
        assert "is damaged" in last(found["cut"])[1]
        assert finals_of(found["cut"])
        assert unclocked(found["whole"]) == unclocked(list(edge_runtime.listen(model, clips[0])))

    @pytest.mark.parametrize(
        ("sources", "code"),
        [
            ({"a": "{clip}", "b": "{clip}"}, 0),
            ({"a": "{clip}", "b": "none.wav"}, 1),
            # Wrong use: an address without a host.
            ({"a": "{clip}", "b": "http://", "c": "none.wav"}, 2),
            ({"a": "none.wav", "b": "none.flac"}, 1),
        ],
    )
    def test_the_exit_code_is_the_highest(self, clips, sources, code):
        words = named(**{name: place.format(clip=clips[0]) for name, place in sources.items()})
        done = edgeemo("listen", DEFAULT_BUNDLE, *words, "--json", code=code)
        assert "Traceback" not in done.stderr
        assert bool(done.stdout) == ("{clip}" in sources.values())


class TestSignals:
    def test_sigterm_ends_all_with_their_last_events(self, clips, tmp_path):
        words = [*named(a=clips[0], b=clips[1]), "--paced", "--no-vad", "--json"]
        command = [sys.executable, "-m", "edge_runtime", "listen", str(DEFAULT_BUNDLE), *map(str, words)]
        with (tmp_path / "out").open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: (tmp_path / "out").read_text().count("provisional") >= 2, 60)
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 0, error
        for events in by_source(events_of((tmp_path / "out").read_text())).values():
            assert last(events) == ("stopped", "stopped by SIGTERM")
            assert events[-2].type == "final"

    def test_a_pipe_that_waits_holds_up_neither_the_other_nor_the_end(self, clips):
        words = ["listen", DEFAULT_BUNDLE, *named(a="-", b=clips[0]), "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            lines = iter(process.stdout.readline, b"")
            assert any(b'"stopped"' in line and b'"b"' in line for line in lines)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
            assert json.loads(process.stdout.readlines()[-1])["source"] == "a"
        finally:
            process.kill()
            process.communicate()


class Recorded:
    """A source of blocks at given times, all of which have arrived when the loop begins.

    With ``waits``, it begins once the first blocks of another source are there, which that one sets as ``there``.
    """

    live, name = True, "recorded"

    def __init__(self, times, there=None, waits=None):
        self.times, self.there, self.waits = times, there, waits

    def blocks(self):
        if self.waits:
            assert self.waits.wait(30)
        for number, at in enumerate(self.times):
            if self.there and number == 2:
                self.there.set()
            yield Block(np.zeros(1600, np.float32), 0, at, ("bad-audio", f"{number}") if number else None)

    def close(self):
        pass


def test_the_earliest_block_is_taken_first(model):
    """Of a source whose blocks come all at once, none is taken before an earlier one of another source."""
    begun = time.monotonic()
    there = threading.Event()
    sources = {
        "late": Recorded(begun + np.arange(50, 60), waits=there),
        "early": Recorded(begun + np.arange(10), there=there),
    }
    feeds = [Feed(model.listener(Monitor(), name=name), source) for name, source in sources.items()]
    taken = []
    for listener, event in listen_to_several(feeds):
        if event.status == "bad-audio":
            taken.append(listener.name)
            time.sleep(0.1)  # the threads fill what there is room for
    assert taken[-9:] == ["late"] * 9
    assert taken[:9] == ["early"] * 9


class TestSettings:
    def written(self, tmp_path, text):
        (tmp_path / "edge.toml").write_text(text)
        return tmp_path / "edge.toml"

    def test_a_table_of_sources(self, tmp_path):
        text = (
            'channels = "mix"\n[sources]\nhall = "hall.wav"\n[sources.door]\nsource = "mic://USB"\nchannels = "left"\n'
        )
        settings = read_settings(self.written(tmp_path, f'{text}profile = "anna"\n[vad]\nthreshold = 0.6\n'))
        hall, door = settings.of_sources().values()
        assert list(settings.of_sources()) == ["hall", "door"]
        assert (hall.source, hall.channels, hall.speaker.profile) == (str(tmp_path / "hall.wav"), "mix", None)
        assert (door.source, door.channels, door.speaker.profile) == ("mic://USB", (0,), "anna")
        assert hall.vad.threshold == door.vad.threshold == 0.6

    def test_the_command_runs_it(self, clips, tmp_path):
        path = self.written(tmp_path, f'[sources]\nhall = "{clips[0]}"\ndoor = "{clips[1]}"\n')
        done = edgeemo("listen", DEFAULT_BUNDLE, "--config", path, "--json", code=0)
        assert set(by_source(events_of(done.stdout))) == {"hall", "door"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('source = "a.wav"\n[sources]\nb = "b.wav"', "give source or sources, not both"),
            ('[sources]\na = "mic://USB"\nb = "mic://USB"', "sources a and b have the same input"),
            ('[sources]\na = "hw:1,0"\nb = "mic://hw:1,0"', "sources a and b have the same input"),
            ('[sources]\na = "-"\nb = "/dev/stdin"', "sources a and b have the same input"),
            ('[sources]\na = "a.wav"\na = "b.wav"', "is not valid TOML"),
            ('[sources]\n"a/#" = "a.wav"', "'sources.a/#': must be of letters, digits"),
            (
                '[sources.a]\nsource = "a.wav"\nchanels = 1',
                "'sources.a.chanels': no such setting; did you mean 'channels'",
            ),
            ("[sources.a]\nchannels = 1", "'sources.a.source': is needed"),
            ("[sources]\na = 1", "'sources.a': must be a table"),
            ('[sources]\na = "a.wav"\nb = "b.wav"\n[speaker]\nprofile = "anna"', "a profile belongs to one source"),
            (
                '[sources.a]\nsource = "a.wav"\nprofile = "anna"\n[sources.b]\nsource = "b.wav"\nprofile = "anna"',
                "sources a and b have the same profile",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path, text, message):
        with pytest.raises(WrongUseError, match=r"edge\.toml") as refused:
            read_settings(self.written(tmp_path, text))
        assert message in refused.value.message

    def test_texts_of_the_command_line(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert parse_sources([]) == {}
        assert parse_sources(["a.wav"]) == {"source": "a.wav"}
        assert parse_sources(["a=b=c.wav"]) == {"sources": {"a": "b=c.wav"}}
        assert parse_sources(["a=mic://", "b=-"]) == {"sources": {"a": "mic://", "b": "-"}}
        assert parse_sources(["http://host/x?a=b"]) == {"source": "http://host/x?a=b"}
        # A file of that name, as before there were names.
        (tmp_path / "a=b.wav").touch()
        assert parse_sources(["a=b.wav"]) == {"source": "a=b.wav"}
        with pytest.raises(WrongUseError, match=r"a\.wav: of several sources each needs a name: --source NAME=SOURCE"):
            parse_sources(["a.wav", "b=b.wav"])
        with pytest.raises(WrongUseError, match="two sources are called a"):
            parse_sources(["a=1.wav", "a=2.wav"])

    def test_the_command_line_wins(self):
        one, several = ListenSettings(source="a.wav"), ListenSettings(sources={"a": "a.wav"})
        assert merged(one, parse_sources(["b=b.wav"])).of_sources().keys() == {"b"}
        assert merged(several, parse_sources(["b.wav"])).of_sources()[None].source == "b.wav"
        assert merged(several, {}).of_sources().keys() == {"a"}
        with pytest.raises(WrongUseError, match="a profile belongs to one source"):
            merged(several, parse_sources(["a=a.wav", "b=b.wav"]) | {"profile": "anna"})
        assert merged(several, {"profile": "anna"}).of_sources()["a"].speaker.profile == "anna"

    def test_profiles_lie_apart(self, clips, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        content = {name: {"source": str(clip), "profile": name} for name, clip in zip("ab", clips, strict=True)}
        settings = parse_settings({"sources": content}, "here")
        found = by_source(list(edge_runtime.listen(DEFAULT_BUNDLE, settings=settings)))
        for name, events in found.items():
            assert {event.profile for event in finals_of(events)} == {name}


def test_the_loop_of_one_source_is_a_turn_of_the_process():
    process = Monitor()
    one, two = Monitor(process), Monitor(process)
    before = process.snapshot().last_loop
    time.sleep(0.01)
    one.heartbeat()
    assert process.snapshot().last_loop > before
    assert two.snapshot().last_loop <= before + 0.005
    process.record_lost("broker")
    assert two.snapshot().lost_events == {"broker": 1}


def test_a_listener_has_its_name_in_status_events_of_sinks_too(model):
    assert model.listener(name="hall").status("sink", "is full").source == "hall"
    assert model.listener().status("sink", "is full").source is None

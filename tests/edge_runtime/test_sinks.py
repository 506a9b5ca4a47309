"""Several sinks at once, the rotating file, and how sinks are named on the command line."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from edge_runtime.config import FileSink, MqttSink, StdoutSink, TerminalSink, WebSink, parse_settings
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.events import EmotionEvent
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks import live_line
from edge_runtime.sinks.group import CAPACITY, SinkGroup
from edge_runtime.sinks.json_lines import RotatingFile, json_line
from edge_runtime.sinks.live_line import LiveLine
from edge_runtime.sinks.open import open_sinks, parse_sink
from tests.events_and_takers import QUICK, Taker, emotion, lost, status, until

# ---- the group


def stuck_taker(name="taker"):
    taker = Taker(name)
    taker.may.clear()
    return taker


def test_every_sink_gets_every_event_in_order():
    sinks, monitor = [Taker("one"), Taker("two"), Taker("finals", provisional=False)], Monitor()
    events = [emotion(number, "provisional" if number % 3 else "final") for number in range(300)]
    with SinkGroup(sinks, monitor, live=True) as group:
        for event in events:
            group.emit(event)
    assert sinks[0].taken == sinks[1].taken == events
    assert sinks[2].taken == [event for event in events if event.type == "final"]
    assert [sink.state for sink in sinks] == ["closed"] * 3
    assert lost(monitor) == {}
    assert group.notices() == []


def test_a_stuck_sink_holds_up_neither_the_loop_nor_the_others():
    stuck, other, monitor = stuck_taker("stuck"), Taker("other"), Monitor()
    with SinkGroup([stuck, other], monitor, live=True, capacity=10, close_seconds=0.2) as group:
        group.emit(emotion(0))
        until(stuck.waiting.is_set)
        began = time.monotonic()
        for number in range(1, 1001):
            group.emit(emotion(number))
        assert time.monotonic() - began < 1
        until(lambda: len(other.taken) + lost(monitor).get("other", 0) == 1001)
        assert group.notices()[0] == "stuck is too slow, so that events are lost; provisional ones first"
    # 990 were pushed out; the one under way and those in the queue could not be delivered.
    assert lost(monitor)["stuck"] == 990 + 1 + 10
    assert group.notices() == ["stuck was closed with 11 events not delivered"]
    assert other.state == "closed"
    stuck.may.set()


def test_provisional_events_go_first_when_a_queue_is_full():
    slow, monitor = stuck_taker(), Monitor()
    with SinkGroup([slow], monitor, live=True, capacity=4) as group:
        group.emit(emotion(0))
        until(slow.waiting.is_set)
        for number, kind in enumerate(["final", "provisional", "final", "provisional", "final", "final"], start=1):
            group.emit(emotion(number, kind))
        # Full of final ones: a new provisional event is itself the oldest one, a final one pushes out the oldest.
        group.emit(emotion(7, "provisional"))
        group.emit(status(8))
        assert lost(monitor) == {"taker": 4}
        slow.may.set()
        until(lambda: slow.starts == [0, 3, 5, 6, 8])
        until(lambda: len(group.notices()) == 2)


def test_not_live_nothing_is_lost_and_memory_is_bounded():
    slow, monitor = stuck_taker(), Monitor()
    done = threading.Event()
    with SinkGroup([slow], monitor, live=False, capacity=5, close_seconds=1.0) as group:

        def loop():
            for number in range(100):
                group.emit(emotion(number))
            done.set()

        thread = threading.Thread(target=loop)
        thread.start()
        until(slow.waiting.is_set)
        assert not done.wait(0.3)
        slow.may.set()
        thread.join(10)
        assert done.is_set()
    assert slow.starts == list(range(100))
    assert lost(monitor) == {}


def test_not_live_the_end_waits_as_long_as_events_get_out():
    class Slow(Taker):
        def emit(self, event):
            time.sleep(0.05)
            super().emit(event)

    slow = Slow()
    with SinkGroup([slow], Monitor(), live=False, close_seconds=0.2) as group:
        for number in range(10):
            group.emit(emotion(number))
    assert slow.starts == list(range(10))


def test_hurry_ends_the_waiting():
    slow, monitor = stuck_taker(), Monitor()
    with SinkGroup([slow], monitor, live=False, capacity=2) as group:
        threading.Timer(0.2, group.hurry).start()
        for number in range(10):
            group.emit(emotion(number))
        assert sum(lost(monitor).values()) in (7, 8)
        slow.may.set()


def test_a_refused_event_is_emitted_again_and_reported_once_each_way():
    refusing = True
    sink = Taker(refuses=lambda event: OSError(errno.ENOSPC, "No space left on device") if refusing else None)
    monitor = Monitor()
    with SinkGroup([sink], monitor, live=True, capacity=3, backoff=QUICK) as group:
        for number in range(6):
            group.emit(emotion(number))
            until(lambda number=number: sink.tries > number)
        until(lambda: sink.tries > 10)
        reported = group.notices()
        assert reported == ["taker takes no events for now (No space left on device); they are kept until it does"]
        refusing = False
        until(lambda: len(sink.taken) == 4)
        until(lambda: reported.extend(group.notices()) or len(reported) == 2)
        assert reported[1] == "taker takes events again; 2 events lost meanwhile"
    # The first one was under way; of the others the queue had room for three.
    assert sink.starts == [0, 3, 4, 5]
    assert lost(monitor) == {"taker": 2}
    assert group.notices() == []


def test_the_back_off_grows_to_its_limit():
    times = []
    sink = Taker(refuses=lambda event: times.append(time.monotonic()) or OSError("away"))
    with SinkGroup([sink], Monitor(), live=True, backoff=(0.02, 0.16), close_seconds=0) as group:
        group.emit(emotion(0))
        until(lambda: len(times) >= 7)
    pauses = [after - before for before, after in pairwise(times)]
    # Sleeping is never shorter than requested; how much longer depends on the machine.
    assert all(pause >= wanted * 0.95 for pause, wanted in zip(pauses, (0.02, 0.04, 0.08, 0.16, 0.16), strict=False))
    assert sum(pauses[:6]) < 3


def test_an_event_that_a_sink_cannot_bear_is_given_up_and_the_next_one_delivered():
    sink = Taker(refuses=lambda event: ZeroDivisionError("in the sink") if event.start == 1 else None)
    monitor, reported = Monitor(), []
    with SinkGroup([sink], monitor, live=True, backoff=QUICK) as group:
        for number in range(3):
            group.emit(emotion(number))
        until(lambda: reported.extend(group.notices()) or len(reported) == 2)
    assert sink.starts == [0, 2]
    assert "ZeroDivisionError: in the sink" in reported[0]
    assert reported[1] == "taker takes events again; 1 event lost meanwhile"
    assert lost(monitor) == {"taker": 1}


def test_news_of_a_name_that_is_no_text_can_become_an_event():
    sink = Taker(os.fsdecode(b"file:\xff"), refuses=lambda event: OSError("full"))
    with SinkGroup([sink], Monitor(), live=True, close_seconds=0) as group:
        group.emit(emotion(0))
        until(lambda: sink.tries)
    json.loads(json_line(status(detail=group.notices()[0])))


def test_a_reader_that_left_ends_the_loop():
    left, other = Taker("left", refuses=lambda event: BrokenPipeError()), Taker("other")
    left.reader_may_leave = True
    group = SinkGroup([left, other], Monitor(), live=True)
    with group:
        group.emit(emotion(0))
        with pytest.raises(BrokenPipeError):
            until(lambda: group.emit(emotion(1)))
    assert left.state == other.state == "closed"
    assert other.taken
    assert left.tries == 1
    assert group.notices() == []


def test_if_one_cannot_start_those_before_it_are_closed(tmp_path):
    first = Taker()
    second = RotatingFile(FileSink(path=tmp_path / "absent" / "events.jsonl"))
    before = threading.active_count()
    with pytest.raises(EdgeemoError, match="absent does not exist"), SinkGroup([first, second], Monitor(), live=True):
        raise AssertionError("not reached")
    assert first.state == "closed"
    assert threading.active_count() == before


def test_undelivered_events_are_counted_and_reported_within_the_time():
    dead = [Taker(name, refuses=lambda event: OSError("away")) for name in ("one", "two")]
    monitor = Monitor()
    with SinkGroup(dead, monitor, live=True, close_seconds=0.3) as group:
        for number in range(5):
            group.emit(emotion(number))
        began = time.monotonic()
    # Both at once, not one after the other.
    assert 0.25 < time.monotonic() - began < 0.55
    assert lost(monitor) == {"one": 5, "two": 5}
    assert [text for text in group.notices() if "closed" in text] == [
        f"{name} was closed with 5 events not delivered (away)" for name in ("one", "two")
    ]
    assert [sink.state for sink in dead] == ["closed", "closed"]


def test_the_end_cuts_a_long_pause_short():
    sink = Taker(refuses=lambda event: OSError("away") if sink.tries == 1 else None)
    with SinkGroup([sink], Monitor(), live=True, backoff=(20.0, 20.0)) as group:
        group.emit(emotion(0))
        until(lambda: sink.tries)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert sink.starts == [0]


def test_waiting_events_take_little_memory():
    """A broker that is away for a night: the queue is full, and stays as it is."""
    sink = Taker(refuses=lambda event: OSError("away"))
    tracemalloc.start()
    try:
        with SinkGroup([sink], Monitor(), live=True, capacity=CAPACITY // 10, close_seconds=0) as group:
            for number in range(CAPACITY // 10 + 1):
                group.emit(emotion(number))
            full, _ = tracemalloc.get_traced_memory()
            for number in range(CAPACITY // 2):
                group.emit(emotion(number))
            after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert full * 10 < 8e6
    assert after - full < 0.1e6


# ---- standard output

IMPORTS = """
import resource, sys, time
from pathlib import Path
from edge_runtime.config import FileSink
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.group import SinkGroup
from edge_runtime.sinks.json_lines import JsonLines, RotatingFile
from tests.events_and_takers import QUICK, emotion, lost, until
"""
"""What the processes below begin with."""


@contextmanager
def writing(code):
    with subprocess.Popen([sys.executable, "-c", code], stdout=PIPE, stderr=PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_reader_that_does_not_read_does_not_keep_the_process():
    """A pager that waits: the pipe is full, the sink's thread stuck in it; the process still ends."""
    code = (
        f"{IMPORTS}"
        "with SinkGroup([JsonLines(sys.stdout)], Monitor(), live=True, close_seconds=0.2) as group:\n"
        "    for number in range(2000): group.emit(emotion(number))\n"
        "print(*group.notices(), file=sys.stderr)"
    )
    with writing(code) as process:
        assert process.wait(30) == 0
        assert process.stderr.read().startswith("standard output was closed with ")


def test_a_reader_of_standard_output_that_leaves_ends_the_loop():
    code = (
        f"{IMPORTS}"
        "try:\n"
        "    with SinkGroup([JsonLines(sys.stdout)], Monitor(), live=False) as group:\n"
        "        while True: group.emit(emotion(1))\n"
        "except BrokenPipeError: print('left', *group.notices(), file=sys.stderr)"
    )
    with writing(code) as process:
        assert json.loads(process.stdout.readline())["label"] == "joy"
        process.stdout.close()
        assert process.stderr.read() == "left\n"
        assert process.wait(20) == 0


def test_of_a_line_that_a_full_disk_took_in_part_the_rest_follows(tmp_path):
    code = (
        f"{IMPORTS}"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "sink = JsonLines(sys.stdout); monitor = Monitor()\n"
        "with SinkGroup([sink], monitor, live=True, backoff=QUICK) as group:\n"
        "    for number in range(10): group.emit(emotion(number))\n"
        "    reported = []; until(lambda: reported.extend(group.notices()) or reported)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "assert 'File too large' in reported[0] and not lost(monitor), reported"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, timeout=60)
    assert [row["start"] for row in rows(tmp_path / "out")] == list(range(10))


# ---- the rotating file


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def starts(path):
    return [row["start"] for row in rows(path)]


SIZE = len(json_line(emotion(10)))


def test_files_are_rotated_and_the_oldest_removed(tmp_path):
    path = tmp_path / "events.jsonl"
    with RotatingFile(FileSink(path=path, max_mb=3.5 * SIZE / 1e6, keep=2)) as sink:
        for number in range(10, 21):
            sink.emit(emotion(number))
            # Out at once, for those who follow the file.
            assert starts(path)[-1] == number
    assert sorted(each.name for each in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    found = [starts(tmp_path / f"events.jsonl{end}") for end in (".2", ".1", "")]
    assert found == [[13, 14, 15], [16, 17, 18], [19, 20]]
    assert [EmotionEvent.model_validate(row).label for row in rows(path)] == ["joy", "joy"]
    with RotatingFile(FileSink(path=path, max_mb=3.5 * SIZE / 1e6, keep=2)) as sink:
        sink.emit(emotion(21))
    assert starts(path) == [19, 20, 21]


def test_without_older_files_only_the_newest_stays(tmp_path):
    with RotatingFile(FileSink(path=tmp_path / "e", max_mb=2.5 * SIZE / 1e6, keep=0)) as sink:
        for number in range(10, 15):
            sink.emit(emotion(number))
    assert [each.name for each in tmp_path.iterdir()] == ["e"]
    assert starts(tmp_path / "e") == [14]


def test_a_line_longer_than_the_limit_is_written_all_the_same(tmp_path):
    with RotatingFile(FileSink(path=tmp_path / "e", max_mb=1e-6, keep=1)) as sink:
        sink.emit(emotion(1))
        sink.emit(emotion(2))
    assert (starts(tmp_path / "e"), starts(tmp_path / "e.1")) == ([2], [1])


@pytest.mark.parametrize("how", ["moved", "removed", "cut"])
def test_logrotate(tmp_path, how):
    path = tmp_path / "e"
    with RotatingFile(FileSink(path=path)) as sink:
        sink.emit(emotion(1))
        if how == "moved":
            path.rename(tmp_path / "old")
        elif how == "removed":
            path.unlink()
        else:
            os.truncate(path, 0)
        sink.emit(emotion(2))
    assert starts(path) == [2]
    if how == "moved":
        assert starts(tmp_path / "old") == [1]


def test_a_line_that_the_power_failed_in_does_not_spoil_the_next_one(tmp_path):
    path = tmp_path / "e"
    path.write_text(json_line(emotion(1)) + '{"schema_version":"1.1","ti')
    with RotatingFile(FileSink(path=path)) as sink:
        sink.emit(emotion(2))
    first, half, last = path.read_text().splitlines()
    assert (json.loads(first)["start"], half, json.loads(last)["start"]) == (1, '{"schema_version":"1.1","ti', 2)


FULL_DISK = (
    f"{IMPORTS}"
    "path, room = Path(sys.argv[1]), int(sys.argv[2])\n"
    "def limit(size): resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
    "monitor, reported = Monitor(), []\n"
    "with SinkGroup([RotatingFile(FileSink(path=path))], monitor, live=True, backoff=QUICK) as group:\n"
    "    limit(room)\n"
    "    for number in range(10, 15): group.emit(emotion(number))\n"
    "    until(lambda: reported.extend(group.notices()) or reported)\n"
    "    time.sleep(0.1)\n"
    "    assert 'File too large' in reported[0], reported\n"
    "    text = path.read_text()\n"
    f"    assert len(text) == room // {SIZE} * {SIZE} and text.count(chr(10)) == room // {SIZE}, text\n"
    "    limit(resource.RLIM_INFINITY)\n"
    "    until(lambda: reported.extend(group.notices()) or len(reported) == 2)\n"
    "assert reported[1].endswith('takes events again; none lost meanwhile'), reported\n"
    "assert not lost(monitor)\n"
)


@pytest.mark.parametrize("room", [0, SIZE * 5 // 2])
def test_nothing_half_written_stays_where_there_is_no_room(tmp_path, room):
    """The system itself refuses, after a part of the line, as on a full disk (EFBIG of RLIMIT_FSIZE)."""
    subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path / "e", str(room)], check=True, timeout=60)
    assert starts(tmp_path / "e") == [10, 11, 12, 13, 14]


def test_a_file_in_use_and_other_kinds_of_files_are_refused(tmp_path):
    path = tmp_path / "e"
    with RotatingFile(FileSink(path=path)), pytest.raises(EdgeemoError, match="another process or sink writes it"):
        RotatingFile(FileSink(path=path)).__enter__()
    os.mkfifo(tmp_path / "pipe")
    for wrong in (tmp_path / "pipe", tmp_path, Path("/dev/null"), tmp_path / "a\0b"):
        with pytest.raises(EdgeemoError, match="cannot be written"):
            RotatingFile(FileSink(path=wrong)).__enter__()


@pytest.mark.parametrize("content", [b"RIFF", b"time,label\n1,sad\n", b"\0"])
def test_a_file_of_something_else_stays_as_it_is(tmp_path, content):
    """As a recording that is named by mistake."""
    (tmp_path / "call.wav").write_bytes(content)
    with pytest.raises(EdgeemoError, match=r"call\.wav: cannot be written .*holds something else than events; name"):
        RotatingFile(FileSink(path=tmp_path / "call.wav")).__enter__()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_a_directory_that_goes_away_and_returns(tmp_path):
    folder = tmp_path / "usb"
    folder.mkdir()
    monitor, reported = Monitor(), []
    with SinkGroup([RotatingFile(FileSink(path=folder / "e"))], monitor, live=True, backoff=QUICK) as group:
        shutil.rmtree(folder)
        group.emit(emotion(1))
        until(lambda: reported.extend(group.notices()) or reported)
        folder.mkdir()
        until(lambda: reported.extend(group.notices()) or len(reported) == 2)
    assert starts(folder / "e") == [1]
    assert lost(monitor) == {}


# ---- names on the command line


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("stdout", StdoutSink()),
        ("terminal", TerminalSink()),
        ("file:events.jsonl", FileSink(path=Path("events.jsonl"))),
        ("file:///var/log/a b.jsonl", FileSink(path=Path("/var/log/a b.jsonl"))),
        ("mqtt://broker", MqttSink(host="broker")),
        ("mqtt://broker/", MqttSink(host="broker")),
        ("mqtt://ann@broker:1884/home/hall", MqttSink(host="broker", port=1884, username="ann", topic="home/hall")),
        ("mqtts://[::1]:9/t%20t", MqttSink(host="::1", port=9, tls=True, topic="t t")),
        ("web", WebSink()),
        ("web://0.0.0.0:80", WebSink(host="0.0.0.0", port=80)),
        ("web://[::]", WebSink(host="::")),
    ],
)
def test_sinks_of_the_command_line(text, wanted):
    assert parse_sink(text) == wanted


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("syslog", "use one of stdout"),
        ("stdout:x", "use one of stdout"),
        ("file:", "use one of stdout"),
        ("mqtt:broker", "use one of stdout"),
        ("mqtt://", "no host"),
        ("mqtt://broker:0", "port"),
        ("mqtt://[::1", "host or port"),
        ("mqtt://broker/a/#", "after . or # is not used: # and . match many topics"),
        ("web://127.0.0.1/#", "after . or # is not used$"),
        ("mqtt://broker/%23", "'topic': must not contain the wildcards"),
        ("web:8080", "did you mean web://127.0.0.1:8080"),
        ("/var/log/events", "did you mean file:/var/log/events"),
        ("web://127.0.0.1/page", "nothing else"),
    ],
)
def test_sinks_that_mean_nothing_are_refused_in_one_sentence(text, what):
    with pytest.raises(WrongUseError, match=what) as caught:
        parse_sink(text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        *("mqtt://ann:s3cret@broker", "mqtts://ann:s3cret@broker:x/t", "mqtt://ann:s3cret/x@broker"),
        *("mqtt://ann:s3cret#@broker", "mqtt:ann:s3cret@broker", "web://ann:s3cret@broker", "amqp://ann:s3cret@broker"),
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(text):
    with pytest.raises(WrongUseError) as caught:
        parse_sink(text)
    assert "s3cret" not in caught.value.message
    if text == "mqtt://ann:s3cret@broker":
        assert "password_file" in caught.value.message


# No limit for one text: the machine may be busy.
@settings(deadline=None)
@given(
    start=st.sampled_from(["", "file:", "mqtt://", "mqtts://u@h:1/", "mqtt://[", "web://", "web://h:"]), rest=st.text()
)
def test_any_text_is_a_sink_or_refused(start, rest):
    with suppress(WrongUseError):
        found = parse_sink(start + rest)
        assert parse_settings({"sinks": [found.model_dump()]}, "here").sinks == (found,)


def test_sinks_are_opened_in_order(tmp_path):
    """Standard output and the terminal may be named twice."""
    given = [StdoutSink(), TerminalSink(), FileSink(path=tmp_path / "e"), StdoutSink(), TerminalSink()]
    names = [sink.name for sink in open_sinks(given, Monitor())]
    assert names == ["standard output", "terminal", f"file:{tmp_path / 'e'}"]


@pytest.mark.parametrize(
    ("profile", "known", "shown"),
    [
        ("anna", 0.617, "  profile anna  speaker 62% known"),
        ("[bold]", 0.0, "  profile [bold]"),
        (None, 0.4, "  speaker 40% known"),
        (None, 0.0, ""),
    ],
)
@pytest.mark.parametrize("kind", ["final", "provisional"])
def test_the_terminal_shows_what_is_known_of_the_speaker(kind, profile, known, shown, monkeypatch):
    reported = io.StringIO()
    monkeypatch.setattr(live_line, "console", Console(file=reported, width=120))
    event = emotion(1, kind).model_copy(update={"profile": profile, "speaker_known": known})
    monitor = Monitor()
    monitor.record_audio(np.zeros(1600, np.float32), 16_000, speech=0.9, speaking=True, dropped=0)
    sink = LiveLine(monitor)
    sink.emit(event)
    text = reported.getvalue() if kind == "final" else sink._lines_now().plain
    assert "joy" in text
    assert shown in text
    assert ("profile" in text, "known" in text) == (profile is not None, known > 0)


@pytest.mark.parametrize(
    ("change", "shown"), [("started", "listening"), ("device-lost", "device-lost"), ("stopped", "stopped")]
)
def test_the_terminal_shows_whether_it_listens(change, shown):
    monitor = Monitor()
    sink = LiveLine(monitor)
    assert sink._lines_now().plain.endswith("starting")
    monitor.record(status(0, "").model_copy(update={"status": change}))
    assert sink._lines_now().plain.endswith(shown)


def test_the_terminal_names_several_sources_and_shows_those_with_speech_first(monkeypatch):
    reported = io.StringIO()
    monkeypatch.setattr(live_line, "console", Console(file=reported, width=120))
    monitors = {f"s{number}": Monitor() for number in range(20)}
    for number, monitor in enumerate(monitors.values()):
        speaking = number in (3, 17)
        monitor.record_audio(np.zeros(1600, np.float32), 16_000, speech=0.9, speaking=speaking, dropped=0)
    sink = LiveLine(Monitor(), monitors)
    sink.emit(emotion(1, "provisional").model_copy(update={"source": "s17"}))
    sink.emit(emotion(1).model_copy(update={"source": "s5"}))
    sink.emit(status(2, "a gap").model_copy(update={"source": "s5"}))
    assert reported.getvalue().splitlines()[0].startswith("s5 ")
    assert reported.getvalue().splitlines()[1].startswith("s5 ")
    lines = sink._lines_now().plain.splitlines()
    assert len(lines) == 8
    assert {"s3", "s17"} < {line.split()[0] for line in lines}
    assert [line.split()[0] for line in lines if "joy" in line] == ["s17"]


@pytest.mark.parametrize("twice", [FileSink(path=Path("e")), MqttSink(host="broker")])
def test_the_same_sink_twice_is_refused(twice):
    with pytest.raises(WrongUseError, match="2 sinks write to"):
        open_sinks([twice, FileSink(path=Path("other")), twice], Monitor())

"""The state of the web sink: `/healthz`, `/metrics` and uptime."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.loop.monitor import Monitor
from edge_runtime.text import valid_unicode
from tests.conftest import need
from tests.edge_runtime.web.events import emotion, listening, wait_for

need("starlette", "uvicorn", "websockets", "httpx")


from edge_runtime.sinks.web import state  # noqa: E402
from tests.edge_runtime.web.clients import live, receive  # noqa: E402


def test_health_turns_when_the_loop_stands_still(sink, monitor, ask):
    assert ask(f"{sink.address}/healthz").status_code == 200
    monitor._now = replace(monitor.snapshot(), last_loop=time.monotonic() - 12.1)
    stalled = ask(f"{sink.address}/healthz")
    assert stalled.status_code == 503
    assert stalled.json()["status"] == "stalled"
    assert stalled.json()["reason"] == "the last turn of the loop was 12 s ago"
    monitor.heartbeat()
    assert ask(f"{sink.address}/healthz").json()["status"] == "ok"


def test_health_turns_when_no_window_can_be_scored(sink, monitor, ask):
    def reported():
        answer = ask(f"{sink.address}/healthz")
        return answer.status_code, answer.json()["status"], ask(f"{sink.address}/api/state").json()["failing"]

    monitor.record_window(0.1)
    for _ in range(9):
        monitor.record_window(0.1, failed=True)
    assert reported() == (200, "ok", False)
    monitor.record_window(0.1, failed=True)
    assert reported() == (503, "failing", True)
    assert ask(f"{sink.address}/healthz").json()["reason"] == "the last 10 windows could not be scored"
    assert "edgeemo_scoring_failures_in_row 10.0" in ask(f"{sink.address}/metrics").text
    with live(sink) as client:
        assert receive(client, "hello")["now"]["failing"]
        monitor.record_window(0.1)
        wait_for(lambda: not receive(client, "level")["failing"])
    assert reported() == (200, "ok", False)
    assert "edgeemo_scoring_failures_in_row 0.0" in ask(f"{sink.address}/metrics").text
    # Not one after the other.
    for _ in range(20):
        monitor.record_window(0.1, failed=True)
        monitor.record_window(0.1)
    assert reported() == (200, "ok", False)
    assert monitor.snapshot().failures == 30


@pytest.mark.parametrize("jump", [1e9, -1e9])
def test_uptime_does_not_jump_with_the_clock(monkeypatch, jump):
    """A board without a clock of its own begins in 1970, until NTP sets it."""
    monitor = listening()
    before = time.time
    monkeypatch.setattr(time, "time", lambda: before() + jump)
    now = monitor.snapshot()
    wait_for(lambda: state.state(now)["uptime"] >= 0.1)
    _, values = parse(state.metrics({"": now}, clients=0, dropped_clients=0))
    reported = state.state(now)
    for uptime in (reported["uptime"], state.level(now)["uptime"], values["edgeemo_uptime_seconds", ()]):
        assert 0.1 <= uptime < 30
    # Monotonic times mean nothing to other processes.
    assert "began" not in reported


_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"

_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"'


def parse(text):
    """Read Prometheus' text format as its documentation has it; return types, and values by name and labels."""
    assert text.endswith("\n")
    types, helped, values, family = {}, set(), {}, None
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(rf"# HELP ({_NAME}) (.+)", line):
            assert match[1] not in helped
            helped.add(match[1])
        elif match := re.fullmatch(rf"# TYPE ({_NAME}) (counter|gauge)", line):
            assert match[1] in helped
            assert match[1] not in types
            family = match[1]
            types[family] = match[2]
            assert family.endswith("_total") == (match[2] == "counter")
        else:
            match = re.fullmatch(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S+)", line)
            assert match, line
            assert match[1] == family
            labels = tuple(
                (name, re.sub(r"\\(.)", lambda each: {"n": "\n"}.get(each[1], each[1]), value))
                for name, value in re.findall(_LABEL, match[2] or "")
            )
            assert (family, labels) not in values
            values[family, labels] = float(match.groups()[-1])
    return types, values


def test_metrics_follow_the_monitor(sink, monitor, ask):
    monitor.record(emotion("final", 0, 1))
    monitor.record(emotion("final", 1, 2))
    monitor.record_window(0.25)
    monitor.record_window(0.5, failed=True)
    monitor.record_lost("broker")
    monitor.record_audio(np.full(1600, 0.1, np.float32), 16_000, speech=0.75, speaking=True, dropped=160)
    with live(sink) as client:
        receive(client, "hello")
        answer = ask(f"{sink.address}/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    types, values = parse(answer.text)

    def value(name, **labels):
        return values[name, tuple(labels.items())]

    assert value("edgeemo_events_total", type="final") == 2
    assert value("edgeemo_events_total", type="provisional") == 0
    assert value("edgeemo_windows_total") == 2
    assert value("edgeemo_scoring_seconds_total") == 0.75
    assert value("edgeemo_scoring_failures_total") == 1
    assert value("edgeemo_scoring_failures_in_row") == 1
    assert value("edgeemo_dropped_samples_total") == 160
    assert value("edgeemo_lost_events_total", sink="broker") == 1
    assert value("edgeemo_level_dbfs") == pytest.approx(-20, abs=0.01)
    assert value("edgeemo_speaking") == 1
    assert value("edgeemo_speech_probability") == 0.75
    assert value("edgeemo_state", state="listening") == 1
    assert sum(found for (name, _), found in values.items() if name == "edgeemo_state") == 1
    assert value("edgeemo_web_clients") == 1
    assert 1e7 < value("process_resident_memory_bytes") < 1e11
    assert value("process_cpu_seconds_total") > 0
    assert time.time() - 24 * 3600 < value("process_start_time_seconds") < time.time()
    assert value("edgeemo_listening_since_seconds") <= time.time()
    assert types["edgeemo_lost_events_total"] == "counter"


def test_metrics_hold_hostile_names():
    name = 'a"b\\c\nd{e="f"} 1\n# TYPE x gauge'
    monitor = listening(source=name)
    monitor.record_lost(name)
    _, values = parse(state.metrics({"": monitor.snapshot()}, clients=0, dropped_clients=0))
    shown = valid_unicode(name)
    assert values["edgeemo_lost_events_total", (("sink", shown),)] == 1
    (about,) = (dict(labels) for found, labels in values if found == "edgeemo_info")
    assert about["source"] == shown


def test_metrics_before_any_audio():
    _, values = parse(state.metrics({"": Monitor().snapshot()}, clients=0, dropped_clients=0))
    assert values["edgeemo_state", (("state", "starting"),)] == 1
    assert ("edgeemo_speech_probability", ()) not in values

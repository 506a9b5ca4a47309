"""A processor that is too slow leaves out provisional events, reports it, and keeps final ones as they are."""

import time

import numpy as np
import pytest

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.loop.listener import Listener
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.interface import Block
from tests.edge_runtime.test_listening import PLAIN, finals_of, without_clock
from tests.laid_out import LaidOut


@pytest.fixture(scope="module")
def bundle(bundle_dir):
    return load_bundle(bundle_dir)


@pytest.fixture(scope="module")
def engine(bundle):
    return OnnxEngine.of(bundle)


def listened(bundle, engine, clip, arrived, **changes):
    pcm = read_audio(clip)[: 4 * 16_000]
    blocks = [Block(each, 0, arrived(), **changes) for each in np.split(pcm, 40)]
    monitor = Monitor()
    events = list(Listener(bundle, engine, PLAIN, monitor).listen(LaidOut(*blocks)))
    reports = [event.detail for event in events if event.type == "status" and event.status == "late"]
    return events, reports, monitor.snapshot().left_out


def test_final_events_are_those_of_a_fast_processor(bundle, engine, clip):
    events, _, none = listened(bundle, engine, clip, lambda: time.monotonic() + 60, real_time=True)
    late, reports, count = listened(bundle, engine, clip, lambda: time.monotonic() - 2, real_time=True)
    provisional = [event for event in events if event.type == "provisional"]
    assert provisional
    assert not [event for event in late if event.type == "provisional"]
    assert without_clock(finals_of(late)) == without_clock(finals_of(events))
    assert (none, count) == (0, len(provisional))
    hop = f"{bundle.manifest.window.hop_seconds:g} s"
    assert reports == [
        f"decisions are more than {hop} late; provisional events are left out",
        f"the end; {count} provisional events were left out",
    ]


def test_what_need_not_be_in_time_has_all_events(bundle, engine, clip):
    events, reports, count = listened(bundle, engine, clip, lambda: time.monotonic() - 2)
    assert [event for event in events if event.type == "provisional"]
    assert (reports, count) == ([], 0)


def test_the_end_is_reported_once_a_window_was_in_time(bundle, engine, clip, monkeypatch):
    monkeypatch.setattr("edge_runtime.loop.listener._RECOVERED", -1.0)
    arrivals = iter([time.monotonic() - 2] * 20 + [time.monotonic() + 60] * 20)
    events, reports, count = listened(bundle, engine, clip, lambda: next(arrivals), real_time=True)
    assert [event for event in events if event.type == "provisional"]
    assert [report.partition(";")[0].split(" ")[-1] for report in reports] == ["late", "again"]
    assert reports[-1].startswith(f"decisions are in time again; {count} provisional event")


def test_silence_is_no_sign_of_recovery(bundle, engine, clip, monkeypatch):
    monkeypatch.setattr("edge_runtime.loop.listener._RECOVERED", -1.0)
    pcm = read_audio(clip)[: 2 * 16_000]
    late = [Block(each, 0, time.monotonic() - 2, real_time=True) for each in np.split(pcm, 20)]
    nothing = [Block(np.zeros(0, np.float32), 0, time.monotonic())] * 5
    events = list(Listener(bundle, engine, PLAIN).listen(LaidOut(*late, *nothing)))
    reports = [event.detail for event in events if event.type == "status" and event.status == "late"]
    assert [report.partition(";")[0].split(" ")[-1] for report in reports] == ["late", "end"]

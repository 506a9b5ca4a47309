"""The web sink with several sources: one at a time on a page, all of them in health and metrics."""

import numpy as np
import pytest

from edge_runtime import config
from edge_runtime.loop.monitor import Monitor
from tests.conftest import need
from tests.edge_runtime.web.events import MODEL, emotion, listening, status, wait_for

need("starlette", "uvicorn", "websockets", "httpx")

from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from edge_runtime.sinks.web.sink import WebSink  # noqa: E402
from tests.edge_runtime.web.clients import receive  # noqa: E402
from tests.edge_runtime.web.test_metrics import parse  # noqa: E402


@pytest.fixture
def monitors():
    return {"hall": listening(source="microphone of the hall"), "door": listening(source="camera")}


@pytest.fixture
def sink(monitors):
    with WebSink(config.WebSink(port=0), Monitor(), monitors) as opened:
        yield opened


def of(source, event):
    return event.model_copy(update={"source": source})


def live(sink, query=""):
    return connect(f"{sink.address.replace('http', 'ws')}/ws{query}", proxy=None, max_size=None)


def test_a_client_gets_the_events_of_its_source(sink):
    sink.emit(of("hall", emotion("final", 0, 1, "sad")))
    with live(sink) as first, live(sink, "?source=door") as door:
        hello = receive(first, "hello")
        assert (hello["sources"], hello["now"]["source"]) == (["hall", "door"], "microphone of the hall")
        assert [event["label"] for event in hello["history"]] == ["sad"]
        hello = receive(door, "hello")
        assert (hello["now"]["source"], hello["history"]) == ("camera", [])
        # Results of other sources replace no provisional ones, and go to no other page.
        sink.emit(of("door", emotion("provisional", 0, 1, "happy")))
        sink.emit(of("hall", emotion("final", 0, 2, "neutral")))
        assert receive(first, "final")["label"] == "neutral"
        assert receive(door, "provisional")["source"] == "door"
        assert receive(door, "level")["source"] == "camera"
    with live(sink, "?source=door") as again:
        assert [event["label"] for event in receive(again, "hello")["history"]] == ["happy"]
    with pytest.raises(InvalidStatus), live(sink, "?source=attic"):
        pass


def test_state_and_events_of_all_and_of_one(sink, ask):
    for name in ("hall", "door", "hall"):
        sink.emit(of(name, emotion("final", 0, 1)))
    assert ask(f"{sink.address}/api/state").json()["sources"].keys() == {"hall", "door"}
    assert ask(f"{sink.address}/api/state?source=door").json()["source"] == "camera"
    assert [event["source"] for event in ask(f"{sink.address}/api/events").json()] == ["hall", "door", "hall"]
    assert [event["source"] for event in ask(f"{sink.address}/api/events?source=door").json()] == ["door"]
    assert ask(f"{sink.address}/api/state?source=attic").status_code == 404
    assert ask(f"{sink.address}/api/events?source=attic").status_code == 404


def test_health_names_the_source_with_a_problem(sink, monitors, ask):
    assert ask(f"{sink.address}/healthz").json()["status"] == "ok"
    for _ in range(10):
        monitors["door"].record_window(0.1, failed=True)
    answer = ask(f"{sink.address}/healthz")
    assert (answer.status_code, answer.json()["source"], answer.json()["status"]) == (503, "door", "failing")
    # A source that has ended is no problem of the process.
    monitors["door"].record(status("stopped", 1, "the end"))
    assert ask(f"{sink.address}/healthz").status_code == 200


def test_metrics_have_a_label_for_the_stream(sink, monitors, ask):
    monitors["hall"].record_window(0.25)
    monitors["door"].record_audio(np.full(1600, 0.1, np.float32), 16_000, speech=0.75, speaking=True, dropped=0)
    types, values = parse(ask(f"{sink.address}/metrics").text)
    assert values["edgeemo_windows_total", (("stream", "hall"),)] == 1
    assert values["edgeemo_windows_total", (("stream", "door"),)] == 0
    assert values["edgeemo_state", (("stream", "door"), ("state", "listening"))] == 1
    assert ("edgeemo_speech_probability", (("stream", "hall"),)) not in values
    assert values["edgeemo_speech_probability", (("stream", "door"),)] == 0.75
    (about,) = (dict(labels) for name, labels in values if name == "edgeemo_info" and ("stream", "door") in labels)
    assert (about["source"], about["model"]) == ("camera", MODEL)
    assert values["edgeemo_web_clients", ()] == 0
    assert types["edgeemo_windows_total"] == "counter"


def test_the_page_offers_them(sink):
    need("playwright")
    from playwright.sync_api import expect

    from tests.browser import chromium

    sink.emit(of("hall", emotion("final", 0, 1, "sad")))
    sink.emit(of("door", emotion("final", 0, 1, "happy")))
    with chromium() as browser:
        page = browser.new_page()
        page.goto(sink.address)
        choice = page.get_by_role("combobox", name="Source")
        expect(choice).to_have_value("hall")
        expect(page.locator("#emotion-label")).to_have_text("sad")
        choice.select_option("door")
        expect(page.locator("#emotion-label")).to_have_text("happy")
        expect(page.locator("#source")).to_have_text("camera")
        assert page.url.endswith("?source=door")
        expect(page).to_have_title("door – edgeemo")
        page.reload()
        expect(page.get_by_role("combobox", name="Source")).to_have_value("door")
    assert wait_for(lambda: sink._hub.clients == 0)

"""The server of the web sink: what it answers, which connections it keeps, how it starts and stops."""

import re
import socket
import time
from contextlib import ExitStack

import numpy as np
import pytest

from edge_runtime import config
from edge_runtime.errors import EdgeemoError, MissingPartError
from tests.conftest import need
from tests.web_events import LABELS, emotion, listening, status, wait_for, web_sink

need("starlette", "uvicorn", "websockets", "httpx")

import httpx  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402

from edge_runtime.sinks.web import server  # noqa: E402
from tests.web_clients import idle_client, live, port_of, receive  # noqa: E402


@pytest.fixture
def monitor():
    return listening()


@pytest.fixture
def sink(monitor):
    with web_sink(monitor) as opened:
        yield opened


@pytest.fixture(scope="module")
def still():
    """One for the tests that change nothing."""
    with web_sink() as opened:
        yield opened


@pytest.fixture
def ask():
    """Ask without a proxy, and without following redirects."""
    with httpx.Client(trust_env=False) as client:
        yield client.get


def test_the_page_and_its_files_come_with_strict_headers(sink, ask):
    page = ask(sink.address)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    linked = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert "/static/app.js" in linked
    scripts = [ask(sink.address + path) for path in linked]
    modules = re.findall(r'from "\./(\w+\.js)"', scripts[linked.index("/static/app.js")].text)
    assert len(modules) > 3
    for answer in (
        page,
        *scripts,
        *(ask(f"{sink.address}/static/{name}") for name in modules),
        ask(f"{sink.address}/x"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
        # Nothing of the page is elsewhere: what names a place is relative, but for the name of SVG itself.
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
        if answer.status_code == 200:
            assert "style=" not in answer.text
    assert scripts[linked.index("/static/app.js")].headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path", ["/static/../sink.py", "/static/%2e%2e/sink.py", "/static/..%2fsink.py", "/etc/passwd"]
)
def test_nothing_else_is_served(still, path):
    with socket.create_connection(("127.0.0.1", port_of(still))) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404")


def test_only_reading_is_allowed(still):
    assert httpx.post(f"{still.address}/api/state", trust_env=False).status_code == 405


def test_state_and_events_are_told_as_json(sink, monitor, ask):
    monitor.heard(np.full(1600, 0.1, np.float32), 32_000, speech=0.9, speaking=True, dropped=7)
    sink.emit(emotion("provisional", 0, 1))
    sink.emit(emotion("final", 0, 2))
    sink.emit(status("gap", 2, "lost"))
    state = ask(f"{sink.address}/api/state").json()
    assert state["source"] == "test microphone"
    assert state["labels"] == list(LABELS)
    assert state["level_db"] == pytest.approx(-20, abs=0.01)
    assert (state["speaking"], state["dropped_samples"], state["position"]) == (True, 7, 2.0)
    assert 0 <= state["loop_age"] < 5
    events = ask(f"{sink.address}/api/events").json()
    assert [event["type"] for event in events] == ["final", "status"]


def test_texts_that_are_no_unicode_do_not_break_the_answers(ask):
    with web_sink(listening(source="clip \udcff.wav")) as sink:
        assert ask(f"{sink.address}/api/state").json()["source"] == "clip ?.wav"
        assert 'source="clip ?.wav"' in ask(f"{sink.address}/metrics").text
        with live(sink) as client:
            assert receive(client, "hello")["now"]["source"] == "clip ?.wav"
            sink.emit(status("started", 0, "listening to clip \udcff.wav"))
            assert receive(client, "status")["detail"] == "listening to clip ?.wav"


def test_connections_that_ask_for_nothing_keep_nobody_out(sink, ask):
    idle = [socket.create_connection(("127.0.0.1", port_of(sink))) for _ in range(150)]
    try:
        wait_for(lambda: ask(f"{sink.address}/healthz").status_code == 200)
        assert len(sink._server._uvicorn.server_state.connections) < 20
    finally:
        for each in idle:
            each.close()


def test_pages_are_told_when_it_stops_and_it_stops_soon(monitor):
    sink = web_sink(monitor)
    with sink, idle_client(sink), ExitStack() as stack:
        wait_for(lambda: sink._hub.clients == 1)
        for number in range(1000):
            sink.emit(status("gap", number, "x" * 4000))
        client = stack.enter_context(live(sink))
        receive(client, "hello")
        thread = sink._server._thread
        begin = time.monotonic()
        sink.close()
        assert time.monotonic() - begin < 2
        with pytest.raises(ConnectionClosed) as closed:
            receive(client, "no such type")
        assert closed.value.rcvd.code == 1012
    assert not thread.is_alive()
    with pytest.raises(OSError, match="does not run"):
        sink.emit(emotion("final", 0, 1))


def test_the_same_port_can_be_taken_again_at_once(monitor):
    with web_sink(monitor) as sink, live(sink) as client:
        receive(client, "hello")
        port = port_of(sink)
    with web_sink(monitor, port=port) as again:
        assert port_of(again) == port


def test_a_taken_port_is_one_sentence(sink):
    with (
        pytest.raises(EdgeemoError, match=f"127.0.0.1:{port_of(sink)} \\(Address already in use\\)"),
        web_sink(port=port_of(sink)),
    ):
        pass
    with pytest.raises(EdgeemoError, match=r"no-such-host\.invalid:0 "), web_sink(host="no-such-host.invalid"):
        pass


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("edge_runtime.sinks.web.sink.missing_modules", lambda extra: ["uvicorn"])
    with pytest.raises(MissingPartError, match=r'pip install "edgeemo\[web\]"'):
        web_sink()


def test_an_ipv6_address_is_told_with_brackets(ask):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with web_sink(host="::1") as sink:
        assert sink.address.startswith("http://[::1]:")
        assert ask(sink.address).status_code == 200


def test_what_is_bound_elsewhere_is_known_by_its_address():
    assert server.address_text("::", 1) == "[::]:1"
    assert config.WebSink().host == "127.0.0.1"

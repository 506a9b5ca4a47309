"""The server of the web sink: what it answers, which connections it keeps, how it starts and stops."""

import re
import socket
import time
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection

import numpy as np
import pytest

from edge_runtime import config
from edge_runtime.errors import EdgeemoError
from tests.conftest import need
from tests.edge_runtime.web.events import LABELS, emotion, listening, status, wait_for, web_sink

need("starlette", "uvicorn", "websockets", "httpx")

import httpx  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402

from edge_runtime.sinks.web import server  # noqa: E402
from tests.edge_runtime.web.clients import idle_client, live, opened, port_of, receive  # noqa: E402

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


def test_the_page_and_its_files_come_with_strict_headers(sink, ask):
    page = ask(sink.address)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    linked = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert "static/app.js" in linked
    scripts = [ask(f"{sink.address}/{path}") for path in linked]
    modules = ["app.js"]
    for module in modules:
        found = re.findall(r'from "\./(\w+\.js)"', ask(f"{sink.address}/static/{module}").text)
        modules += [name for name in dict.fromkeys(found) if name not in modules]
    assert len(modules) > 3
    others = (ask(f"{sink.address}/{path}") for path in ("x", *(f"static/{name}" for name in modules)))
    for answer in (page, *scripts, *others):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
        # Nothing of the page is elsewhere: what names a place is relative, but for the name of SVG itself.
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
        if answer.status_code == 200:
            assert "style=" not in answer.text
    assert scripts[linked.index("static/app.js")].headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["/static/../sink.py", "/static/%2e%2e/sink.py", "/static/..%2fsink.py"])
def test_nothing_else_is_served(still, path):
    with socket.create_connection(("127.0.0.1", port_of(still))) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404")


def test_only_reading_is_allowed(still):
    assert httpx.post(f"{still.address}/api/state", trust_env=False).status_code == 405


def test_state_and_events_as_json(sink, monitor, ask):
    monitor.record_audio(np.full(1600, 0.1, np.float32), 32_000, speech=0.9, speaking=True, dropped=7)
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
    escaped = r"clip \udcff\ud800.wav"
    with web_sink(listening(source="clip \udcff\ud800.wav")) as sink:
        assert ask(f"{sink.address}/api/state").json()["source"] == escaped
        # The format of Prometheus escapes backslashes once more.
        assert r'source="clip \\udcff\\ud800.wav"' in ask(f"{sink.address}/metrics").text
        with live(sink) as client:
            assert receive(client, "hello")["now"]["source"] == escaped
            sink.emit(status("started", 0, "listening to clip \udcff\ud800.wav"))
            assert receive(client, "status")["detail"] == f"listening to {escaped}"


def kept(sink):
    return len(sink._server._uvicorn.server_state.connections)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\n", HEALTHZ + HEALTHZ[:20]])
def test_idle_connections_do_not_block_others(sink, ask, sent):
    """Not even where a request was answered before and the next one never ends."""
    with ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(opened(sink, sent))
        wait_for(lambda: ask(f"{sink.address}/healthz").status_code == 200)
        wait_for(lambda: kept(sink) <= server.ROOMY)


def test_the_oldest_idle_one_makes_room_and_who_is_answered_stays(sink, monkeypatch):
    monkeypatch.setattr(server, "ROOMY", 3)
    with live(sink) as client, ExitStack() as stack:
        receive(client, "hello")
        first, *_, last = (stack.enter_context(opened(sink, HEALTHZ)) for _ in range(6))
        first.settimeout(5)
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: first.recv(65536), b""))
        wait_for(lambda: kept(sink) == 3)
        last.sendall(HEALTHZ)
        assert last.recv(65536).startswith(b"HTTP/1.1 200")
        receive(client, "level")


@pytest.mark.parametrize("more", [HEALTHZ[:20], POST + b"slow"])
def test_a_request_that_takes_too_long_is_ended(sink, monkeypatch, more):
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.7)
    with opened(sink, HEALTHZ + more) as idle, live(sink) as page:
        receive(page, "hello")
        idle.settimeout(0.1)
        begin = time.monotonic()
        # A byte now and then, for which uvicorn would wait for ever.
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            drip(idle, begin + 5)
        assert time.monotonic() - begin > 0.6
        receive(page, "level")


def drip(raw, until):
    while time.monotonic() < until:
        raw.sendall(b"x")
        with suppress(TimeoutError):
            raw.recv(65536)


def test_a_connection_with_repeated_requests_is_kept(sink, monkeypatch):
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.7)
    with closing(HTTPConnection("127.0.0.1", port_of(sink))) as busy:
        busy.connect()
        same = busy.sock
        begin = time.monotonic()
        while time.monotonic() - begin < 2.5:
            busy.request("GET", "/healthz")
            assert busy.getresponse().read().startswith(b'{"status":"ok"')
            assert busy.sock is same
            time.sleep(0.1)


def test_an_answer_has_more_time_but_not_for_ever(sink, monkeypatch):
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(server, "RESPONSE_SECONDS", 2)
    for number in range(1900):
        sink.emit(status("gap", number, "x" * 4000))
    request = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with opened(sink, request):
        wait_for(lambda: kept(sink) == 1)
        begin = time.monotonic()
        wait_for(lambda: kept(sink) == 0, 8)
        assert time.monotonic() - begin > 1.5


def test_one_address_cannot_take_all_connections(ask):
    """Asked by this machine's address in its network, which is none of those that are exempt."""
    address = address_in_the_network()
    with web_sink(host="0.0.0.0") as sink, ExitStack() as stack:
        port = port_of(sink)
        mine = [stack.enter_context(socket.create_connection((address, port))) for _ in range(server.PER_ADDRESS)]
        wait_for(lambda: kept(sink) == server.PER_ADDRESS)
        one_more = stack.enter_context(socket.create_connection((address, port)))
        one_more.settimeout(5)
        with pytest.raises(ConnectionResetError):
            one_more.recv(1)
        assert ask(f"http://127.0.0.1:{port}/healthz").status_code == 200
        mine[0].sendall(HEALTHZ)
        assert mine[0].recv(65536).startswith(b"HTTP/1.1 200")
        mine[0].close()
        wait_for(lambda: ask_quietly(ask, f"http://{address}:{port}/healthz"))


def ask_quietly(ask, url):
    try:
        return ask(url).status_code == 200
    except httpx.TransportError:
        return False


def address_in_the_network():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only looks up where it would go.
            probe.connect(("203.0.113.1", 9))
        except OSError:
            pytest.skip("this machine is in no network")
        return probe.getsockname()[0]


@pytest.mark.parametrize(
    ("counted", "addresses"),
    [(False, "127.0.0.1 127.9.9.9 ::1 ::ffff:127.0.0.1"), (True, "192.0.2.1 ::ffff:192.0.2.1 fe80::1%eth0")],
)
def test_this_machine_is_not_limited(counted, addresses):
    for address in addresses.split():
        assert (server.limited_address((address, 1)) is not None) == counted
    assert server.limited_address(None) is None


def test_pages_are_closed_when_it_stops_and_it_stops_soon(monitor):
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


def test_a_taken_port_is_one_sentence(sink):
    expected = f"127.0.0.1:{port_of(sink)} \\(Address already in use\\)"
    with pytest.raises(EdgeemoError, match=expected), web_sink(port=port_of(sink)):
        pass
    with pytest.raises(EdgeemoError, match=r"no-such-host\.invalid:0 "), web_sink(host="no-such-host.invalid"):
        pass


def test_an_ipv6_address_is_told_with_brackets(ask):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with web_sink(host="::1") as sink:
        assert sink.address.startswith("http://[::1]:")
        assert ask(sink.address).status_code == 200


def test_addresses_and_the_default_host():
    assert server.address_text("::", 1) == "[::]:1"
    assert config.WebSink().host == "127.0.0.1"

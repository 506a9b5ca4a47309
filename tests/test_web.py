"""The web sink: the real server, asked by real clients."""

import asyncio
import json
import logging
import re
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime import config
from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.monitor import Monitor
from edge_runtime.sinks.web.history import History
from tests.conftest import need
from tests.web_events import LABELS, MODEL, emotion, listening, status, wait_for, web_sink

need("starlette", "uvicorn", "websockets", "httpx")

import httpx  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from edge_runtime.sinks.web import hub, metrics, server  # noqa: E402

TOKEN = "a-token-for-tests-0123456789"


def live(sink, **headers):
    """Open the WebSocket as a program does, without Origin."""
    url = sink.address.replace("http", "ws") + "/ws"
    return connect(url, additional_headers=headers, proxy=None, max_size=None)


def receive(socket, wanted):
    """Return the next message of a type."""
    deadline = time.monotonic() + 10
    while (message := json.loads(socket.recv(timeout=5)))["type"] != wanted:
        # The level comes for ever.
        assert time.monotonic() < deadline, f"no message of type '{wanted}' came"
    return message


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def handshake(host):
    """Return the bytes that open a WebSocket."""
    headers = UPGRADE | {"Host": host}
    return "\r\n".join(["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def port_of(sink):
    return int(sink.address.rpartition(":")[2])


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


@pytest.fixture(scope="module")
def guarded():
    """Bound to all addresses, so that a token is asked for; for tests that change nothing."""
    with web_sink(host="0.0.0.0", token=TOKEN) as opened:
        opened.address = f"http://127.0.0.1:{port_of(opened)}"
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


def test_a_page_is_told_the_past_then_the_events_and_the_level(sink, monitor):
    sink.emit(emotion("final", 0, 2))
    with live(sink) as client:
        hello = json.loads(client.recv(timeout=5))
        assert (hello["type"], hello["labels"], hello["model"]) == ("hello", list(LABELS), MODEL)
        assert [event["type"] for event in hello["history"]] == ["final"]
        assert hello["now"]["source"] == "test microphone"
        event = emotion("provisional", 3, 4, "sad")
        sink.emit(event)
        assert receive(client, "provisional") == json.loads(event.model_dump_json())
        monitor.heard(np.full(1600, 0.1, np.float32), 64_000, speech=0.5, speaking=True, dropped=0)
        level = wait_for(lambda: (told := receive(client, "level"))["speaking"] and told)
        assert level["level_db"] == pytest.approx(-20, abs=0.1)
        begin = time.monotonic()
        for _ in range(5):
            receive(client, "level")
        assert 0.6 < time.monotonic() - begin < 3


def test_every_client_hears_every_event_in_order(sink):
    with live(sink) as first, live(sink) as second:
        events = [emotion("final", number, number + 1) for number in range(300)]
        for client in (first, second):
            receive(client, "hello")
        for event in events:
            sink.emit(event)
        for client in (first, second):
            assert [receive(client, "final")["start"] for _ in events] == [event.start for event in events]


def test_a_final_event_takes_the_place_of_the_provisional_ones():
    history = History(minutes=1)
    history.add(emotion("provisional", 0, 1))
    history.add(emotion("final", 0, 2))
    history.add(emotion("provisional", 5, 6))
    history.add(status("gap", 6, "lost"))
    history.add(emotion("provisional", 6, 7.5))
    history.add(emotion("final", 5, 7))
    entries, hole = history.after(0)
    assert [(entry.event.type, entry.event.start) for entry in entries] == [("final", 0), ("status", 6), ("final", 5)]
    assert not hole
    assert [entry.event.start for entry in history.after(entries[1].number)[0]] == [5]


def test_the_history_is_bounded_by_time_and_count():
    now = [100.0]
    history = History(minutes=1, count=5, clock=lambda: now[0])
    for number in range(8):
        history.add(emotion("final", number, number + 1))
    entries, hole = history.after(0)
    assert [entry.event.start for entry in entries] == [3, 4, 5, 6, 7]
    assert hole
    assert history.after(3)[1] is False
    now[0] += 61
    assert history.after(0)[0] == []
    history.add(status("gap", 9, "lost"))
    assert len(history.after(0)[0]) == 1


@contextmanager
def idle_client(sink):
    """A client that opens the WebSocket and then reads nothing, with small buffers."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port_of(sink)))
    raw.sendall(handshake("localhost"))
    try:
        yield raw
    finally:
        raw.close()


def test_a_client_that_does_not_read_is_dropped_and_holds_nobody(sink, monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    monkeypatch.setattr(hub, "FAREWELL", 0.2)
    with idle_client(sink) as idle, live(sink) as client:
        receive(client, "hello")
        wait_for(lambda: sink._hub.clients == 2)
        slowest, number = 0.0, 0
        reader = _Reader(client)
        while not sink._hub.dropped:
            assert number < 100_000
            begin = time.perf_counter()
            sink.emit(status("gap", number, "x" * 4000))
            slowest = max(slowest, time.perf_counter() - begin)
            number += 1
            # Faster than any device, but in step with the one that reads.
            if number % 50 == 0:
                reader.wait_for(number)
        assert slowest < 0.25
        wait_for(lambda: sink._hub.clients == 1)
        # The connection is gone for good, with what it had not read.
        wait_for(lambda: len(sink._server._uvicorn.server_state.connections) == 1)
        idle.settimeout(5)
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: idle.recv(1 << 20), b""))
        with live(sink) as again:
            assert receive(again, "hello")["history"]


class _Reader(threading.Thread):
    """Counts the events that a client hears."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.heard = 0
        self._client = client
        self.start()

    def wait_for(self, number):
        wait_for(lambda: self.heard >= number)

    def run(self):
        try:
            for text in self._client:
                self.heard += json.loads(text)["type"] != "level"
        except ConnectionClosed:
            pass


def test_a_client_that_wakes_up_in_time_hears_why_it_is_dropped(sink, monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    monkeypatch.setattr(hub, "FAREWELL", 20)
    with idle_client(sink) as idle:
        wait_for(lambda: sink._hub.clients == 1)
        for number in range(1500):
            sink.emit(status("gap", number, "x" * 4000))
        wait_for(lambda: sink._hub.dropped == 1)
        idle.settimeout(5)
        heard = b"".join(iter(lambda: _received(idle), b""))
    # A close frame: 0x88, its length, code 1013 and the reason.
    assert heard.endswith(b"\x88\x0a\x03\xf5too slow")


def _received(raw):
    data = raw.recv(1 << 20)
    if data.endswith(b"too slow"):
        raw.shutdown(socket.SHUT_WR)
    return data


def test_one_that_lags_behind_the_history_is_told_to_come_back(monkeypatch, monitor):
    """Between two looks of the client, more came than is kept."""
    with web_sink(monitor) as sink, live(sink) as client:
        receive(client, "hello")
        small = History(minutes=1, count=3)
        for number in range(6):
            small.add(emotion("final", number, number + 1))
        monkeypatch.setattr(sink._hub, "_history", small)
        sink._server.call(sink._hub.wake)
        with pytest.raises(ConnectionClosed) as closed:
            receive(client, "no such type")
        assert closed.value.rcvd.code == hub.TRY_LATER


def test_twenty_pages_at_most(sink):
    async def fill():
        from websockets.asyncio.client import connect as aconnect

        url = sink.address.replace("http", "ws") + "/ws"
        clients = [await aconnect(url, proxy=None) for _ in range(hub.CLIENTS)]
        for client in clients:
            await client.recv()
        one_more = await aconnect(url, proxy=None)
        with pytest.raises(ConnectionClosed) as closed:
            await one_more.recv()
        assert closed.value.rcvd.code == hub.TRY_LATER
        sink.emit(emotion("final", 0, 1))
        for client in clients:
            while json.loads(await client.recv())["type"] != "final":
                pass
        await clients[0].close()
        await asyncio.to_thread(wait_for, lambda: sink._hub.clients == hub.CLIENTS - 1)
        again = await aconnect(url, proxy=None)
        assert json.loads(await again.recv())["type"] == "hello"
        for client in (*clients, again):
            await client.close()

    asyncio.run(fill())


def test_what_clients_say_is_ignored_and_small(sink):
    with live(sink) as client:
        receive(client, "hello")
        for _ in range(20):
            client.send('{"type": "final"}')
        sink.emit(emotion("final", 0, 1))
        receive(client, "final")
    with live(sink) as client:
        receive(client, "hello")
        client.send("x" * 5000)
        with pytest.raises(ConnectionClosed) as closed:
            receive(client, "no such type")
        assert closed.value.rcvd.code == 1009


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


# --- who may ask


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/state", "/api/events", "/metrics", "/nothing"])
def test_bound_elsewhere_everything_but_health_asks_for_the_token(guarded, ask, path):
    url = guarded.address + path
    wrong = [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": f"edgeemo_{port_of(guarded)}={TOKEN}"},
        {"Cookie": f"edgeemo_{port_of(guarded)}="},
    ]
    for headers in wrong:
        answer = ask(url, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
        assert MODEL not in answer.text
    right = ask(url, headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code == (404 if path == "/nothing" else 200)
    healthy = ask(f"{guarded.address}/healthz")
    assert healthy.status_code == 200
    assert set(healthy.json()) == {"status", "loop_age_seconds"}


def test_a_link_with_the_token_sets_a_cookie_and_leaves_the_address_clean(guarded):
    with httpx.Client(trust_env=False, base_url=guarded.address) as browser:
        assert browser.get("/", params={"token": "wrong"}).status_code == 401
        assert browser.get("/api/state", params={"token": TOKEN}).status_code == 401
        known = browser.get("/", params={"token": TOKEN, "x": "1"})
        assert known.status_code == 303
        assert known.headers["location"] == "/?x=1"
        cookie = known.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert browser.get("/").status_code == 200
        assert browser.get("/api/state").status_code == 200
        (value,) = (f"{name}={value}" for name, value in browser.cookies.items())
    with live(guarded, Cookie=value) as client:
        receive(client, "hello")
    with live(guarded, Authorization=f"Bearer {TOKEN}") as client:
        receive(client, "hello")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": value + "0"}):
        with pytest.raises(InvalidStatus) as refused, live(guarded, **headers):
            pass
        assert refused.value.response.status_code == 403


def test_a_browser_without_token_is_asked_for_it_in_words(guarded, ask):
    answer = ask(guarded.address, headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 401
    assert "needs its token" in answer.text


def test_a_token_is_made_up_and_told_once(capfd, ask, monitor, caplog):
    caplog.set_level(logging.DEBUG)
    with web_sink(monitor, host="0.0.0.0") as sink:
        told = capfd.readouterr().err
        (token,) = re.findall(r"\?token=([\w-]{32,})", told)
        url = f"http://127.0.0.1:{port_of(sink)}"
        assert ask(url).status_code == 401
        assert ask(url, params={"token": token}).status_code == 303
        assert ask(url, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    after = capfd.readouterr()
    assert token not in after.err + after.out
    # What the client of this test itself logs aside.
    assert not [each for each in caplog.records if token in each.getMessage() and each.name.startswith("uvicorn")]
    with web_sink(monitor, host="0.0.0.0") as another:
        assert token not in capfd.readouterr().err
        assert ask(f"http://127.0.0.1:{port_of(another)}", params={"token": token}).status_code == 401


def test_a_given_token_is_not_told(capfd):
    with web_sink(host="0.0.0.0", token=TOKEN):
        told = capfd.readouterr()
    assert "web page: http://" in told.err
    assert "token" not in told.err + told.out


def test_the_token_may_stand_in_a_file(tmp_path, ask, monitor):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\nsecond line\n")
    # A token that is given is asked for on this machine too.
    with web_sink(monitor, token_file=path) as sink:
        assert ask(sink.address).status_code == 401
        assert ask(sink.address, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    with pytest.raises(EdgeemoError, match="cannot be read"), web_sink(token_file=tmp_path / "none"):
        pass
    for bad in ("", "\n", "two words", "töken"):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(WrongUseError, match="ASCII"), web_sink(token_file=path):
            pass
    with pytest.raises(WrongUseError, match="not both"), web_sink(token=TOKEN, token_file=path):
        pass


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]:1", "[", "0.0.0.0"]
)
def test_a_name_made_to_point_at_this_machine_is_refused(still, ask, host):
    for path in ("/", "/api/state", "/healthz", "/static/app.js"):
        assert ask(still.address + path, headers={"Host": host}).status_code == 403
    assert ask(f"{still.address}/ws", headers=UPGRADE | {"Host": host}).status_code == 403
    with socket.create_connection(("127.0.0.1", port_of(still))) as raw:
        raw.sendall(handshake("localhost"))
        assert raw.recv(12) == b"HTTP/1.1 101"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8765"])
def test_names_of_this_machine_are_taken(still, ask, host):
    assert ask(still.address, headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_cannot_open_the_websocket(sink, guarded):
    for each, headers in ((sink, {}), (guarded, {"Authorization": f"Bearer {TOKEN}"})):
        port = port_of(each)
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", f"http://127.0.0.1:{port}.evil"):
            with pytest.raises(InvalidStatus) as refused, live(each, Origin=origin, **headers):
                pass
            assert refused.value.response.status_code == 403
        with live(each, Origin=each.address, **headers) as client:
            receive(client, "hello")


# --- health and metrics


def test_health_turns_when_the_loop_stands_still(sink, monitor, ask):
    assert ask(f"{sink.address}/healthz").status_code == 200
    monitor._now = replace(monitor.snapshot(), last_loop=time.monotonic() - 10.5)
    stalled = ask(f"{sink.address}/healthz")
    assert stalled.status_code == 503
    assert stalled.json()["status"] == "stalled"
    monitor.alive()
    assert ask(f"{sink.address}/healthz").json()["status"] == "ok"


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
    monitor.said(emotion("final", 0, 1))
    monitor.said(emotion("final", 1, 2))
    monitor.scored(0.25)
    monitor.scored(0.5, failed=True)
    monitor.lost("broker")
    monitor.heard(np.full(1600, 0.1, np.float32), 16_000, speech=0.75, speaking=True, dropped=160)
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
    monitor.lost(name)
    _, values = parse(metrics.metrics(monitor.snapshot(), clients=0, dropped_clients=0))
    assert values["edgeemo_lost_events_total", (("sink", name),)] == 1
    (about,) = (dict(labels) for found, labels in values if found == "edgeemo_info")
    assert about["source"] == name


def test_metrics_of_a_monitor_that_heard_nothing_yet():
    _, values = parse(metrics.metrics(Monitor().snapshot(), clients=0, dropped_clients=0))
    assert values["edgeemo_state", (("state", "starting"),)] == 1
    assert ("edgeemo_speech_probability", ()) not in values


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

"""Open pages: their messages over the WebSocket, and the history behind it."""

import asyncio
import json
import socket
import threading
import time

import numpy as np
import pytest

from tests.conftest import need
from tests.edge_runtime.web.events import LABELS, MODEL, emotion, status, wait_for, web_sink

need("starlette", "uvicorn", "websockets")

from websockets.exceptions import ConnectionClosed  # noqa: E402

from edge_runtime.sinks.web import live as pages  # noqa: E402
from edge_runtime.sinks.web.live import History  # noqa: E402
from tests.edge_runtime.web.clients import idle_client, live, receive  # noqa: E402


def test_a_page_receives_the_history_then_events_and_level(sink, monitor):
    sink.emit(emotion("final", 0, 2))
    with live(sink) as client:
        hello = json.loads(client.recv(timeout=5))
        assert (hello["type"], hello["labels"], hello["model"]) == ("hello", list(LABELS), MODEL)
        assert [event["type"] for event in hello["history"]] == ["final"]
        assert hello["now"]["source"] == "test microphone"
        event = emotion("provisional", 3, 4, "sad")
        sink.emit(event)
        assert receive(client, "provisional") == json.loads(event.model_dump_json())
        monitor.record_audio(np.full(1600, 0.1, np.float32), 64_000, speech=0.5, speaking=True, dropped=0)
        level = wait_for(lambda: (message := receive(client, "level"))["speaking"] and message)
        assert level["level_db"] == pytest.approx(-20, abs=0.1)
        begin = time.monotonic()
        for _ in range(5):
            receive(client, "level")
        assert 0.6 < time.monotonic() - begin < 3


def test_every_client_receives_every_event_in_order(sink):
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
    entries, newest, hole = history.after(0)
    assert [(entry.event.type, entry.event.start) for entry in entries] == [("final", 0), ("status", 6), ("final", 5)]
    assert newest == 6
    assert not hole
    assert [entry.event.start for entry in history.after(entries[1].number).entries] == [5]


def test_the_history_is_bounded_by_time_and_count():
    now = [100.0]
    history = History(minutes=1, count=5, clock=lambda: now[0])
    for number in range(8):
        history.add(emotion("final", number, number + 1))
    entries, newest, hole = history.after(0)
    assert [entry.event.start for entry in entries] == [3, 4, 5, 6, 7]
    assert hole
    assert newest == 8
    assert not history.after(3).hole
    now[0] += 61
    assert history.after(0) == ([], 8, True)
    assert not history.after(8).hole
    history.add(status("gap", 9, "lost"))
    assert len(history.after(0).entries) == 1


def test_a_page_that_is_opened_when_all_has_expired_stays(monkeypatch, monitor):
    """And one that was open all the time."""
    now = [100.0]
    expired = History(minutes=1, clock=lambda: now[0])
    with web_sink(monitor) as sink:
        monkeypatch.setattr(sink._views[""], "history", expired)
        for number in range(3):
            sink.emit(emotion("final", number, number + 1))
        with live(sink) as early:
            assert len(receive(early, "hello")["history"]) == 3
            now[0] += 61
            with live(sink) as late:
                assert receive(late, "hello")["history"] == []
                for client in (early, late):
                    receive(client, "level")
                    receive(client, "level")
                sink.emit(emotion("final", 9, 10))
                for client in (early, late):
                    assert receive(client, "final")["start"] == 9
        assert sink._hub.dropped == 0


def test_a_client_that_does_not_read_is_dropped_and_delays_no_other(sink, monkeypatch):
    monkeypatch.setattr(pages, "PATIENCE", 0.3)
    monkeypatch.setattr(pages, "FAREWELL", 0.2)
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
    """Counts the events that a client receives."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.received = 0
        self._client = client
        self.start()

    def wait_for(self, number):
        wait_for(lambda: self.received >= number)

    def run(self):
        try:
            for text in self._client:
                self.received += json.loads(text)["type"] != "level"
        except ConnectionClosed:
            pass


def test_a_client_that_reads_in_time_receives_the_reason_of_its_end(sink, monkeypatch):
    monkeypatch.setattr(pages, "PATIENCE", 0.2)
    monkeypatch.setattr(pages, "FAREWELL", 20)
    with idle_client(sink) as idle:
        wait_for(lambda: sink._hub.clients == 1)
        for number in range(1500):
            sink.emit(status("gap", number, "x" * 4000))
        wait_for(lambda: sink._hub.dropped == 1)
        idle.settimeout(5)
        received = b"".join(iter(lambda: _received(idle), b""))
    # A close frame: 0x88, its length, code 1013 and the reason.
    assert received.endswith(b"\x88\x0a\x03\xf5too slow")


def _received(raw):
    data = raw.recv(1 << 20)
    if data.endswith(b"too slow"):
        raw.shutdown(socket.SHUT_WR)
    return data


def test_a_client_behind_the_history_is_dropped_with_try_later(monkeypatch, monitor):
    """Between two looks of the client, more came than is kept."""
    with web_sink(monitor) as sink, live(sink) as client:
        receive(client, "hello")
        small = History(minutes=1, count=3)
        for number in range(6):
            small.add(emotion("final", number, number + 1))
        monkeypatch.setattr(sink._views[""], "history", small)
        sink._server.call(lambda: sink._hub.wake(sink._views[""]))
        with pytest.raises(ConnectionClosed) as closed:
            receive(client, "no such type")
        assert closed.value.rcvd.code == pages.TRY_LATER


def test_twenty_pages_at_most(sink):
    async def fill():
        from websockets.asyncio.client import connect as aconnect

        url = sink.address.replace("http", "ws") + "/ws"
        clients = [await aconnect(url, proxy=None) for _ in range(pages.CLIENTS)]
        for client in clients:
            await client.recv()
        one_more = await aconnect(url, proxy=None)
        with pytest.raises(ConnectionClosed) as closed:
            await one_more.recv()
        assert closed.value.rcvd.code == pages.TRY_LATER
        sink.emit(emotion("final", 0, 1))
        for client in clients:
            while json.loads(await client.recv())["type"] != "final":
                pass
        await clients[0].close()
        await asyncio.to_thread(wait_for, lambda: sink._hub.clients == pages.CLIENTS - 1)
        again = await aconnect(url, proxy=None)
        assert json.loads(await again.recv())["type"] == "hello"
        for client in (*clients, again):
            await client.close()

    asyncio.run(fill())


def test_messages_of_clients_are_ignored_and_limited(sink):
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

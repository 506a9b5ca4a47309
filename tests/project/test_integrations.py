"""The examples for other systems, against their real libraries; ROS 2, which pip cannot install, is a stand-in."""

import array
import asyncio
import contextlib
import importlib
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import EmotionEvent, load, parse_event
from edge_runtime.sources.audio import read_audio
from tests.conftest import need
from tests.stand_in_ros import AudioData, StandInRos

EXAMPLES = Path(__file__).resolve().parents[2] / "edge_runtime" / "examples"
INTEGRATIONS = ["fastapi_server", "livekit_agent", "ros2_node", "wyoming_service"]


@pytest.fixture(scope="module")
def model():
    with load() as opened:
        yield opened


@pytest.fixture(scope="module")
def pcm(clip):
    """Rendered speech, int16 ``[samples]``; it ends within an utterance, so that the last event comes at the end."""
    return (read_audio(clip)[: 5 * 16_000] * 32767).astype(np.int16)


@pytest.fixture(scope="module")
def wanted(model, pcm):
    """The events of a stream that is fed in chunks of another size."""
    return summary(model.stream(16_000).events(np.array_split(pcm, 7)))


def summary(events):
    """Return what must not depend on the way of the sound: all but times of the clock."""
    events = list(events)
    assert [event.status for event in events if event.type == "status"][:: len(events)] == ["started"]
    assert events[-1].status == "stopped"
    found = [(each.type, each.start, each.end, each.label) for each in events if isinstance(each, EmotionEvent)]
    assert [each for each in found if each[0] == "final"]
    return found


def chunks(pcm, size=1_024):
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integration_is_short(name):
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 80


class TestFastAPI:
    @pytest.fixture(scope="class")
    @staticmethod
    def client(model):
        need("fastapi", "httpx", "uvicorn")
        from starlette.testclient import TestClient

        from edge_runtime.examples.fastapi_server import application

        return TestClient(application(model))

    def test_events_come_while_sound_is_sent(self, client, pcm, wanted):
        events = []
        with client.websocket_connect("/?rate=16000") as connection:
            connection.send_bytes(pcm[:1_600].tobytes())
            events.append(parse_event(connection.receive_text()))
            for chunk in chunks(pcm[1_600:]):
                connection.send_bytes(chunk.tobytes())
            connection.send_bytes(b"")
            while not (events[-1].type == "status" and events[-1].status == "stopped"):
                events.append(parse_event(connection.receive_text()))
        assert summary(events) == wanted

    @pytest.mark.parametrize("sound", [bytes(3), "text"])
    def test_what_is_no_sound_ends_the_stream_with_its_events_and_a_reason(self, client, pcm, wanted, sound):
        from starlette.websockets import WebSocketDisconnect

        events = []
        with client.websocket_connect("/") as connection:
            connection.send_bytes(pcm.tobytes())
            (connection.send_text if isinstance(sound, str) else connection.send_bytes)(sound)
            with pytest.raises(WebSocketDisconnect) as closed:
                events.extend(map(parse_event, iter(connection.receive_text, None)))
        assert (closed.value.code, closed.value.reason[:15]) == (1003, "not 16-bit PCM:")
        assert summary(events) == wanted

    @pytest.mark.parametrize(("rate", "code"), [("3", 1003), ("fast", 1008)])
    def test_a_rate_that_is_none_is_refused(self, client, rate, code):
        from starlette.websockets import WebSocketDisconnect

        with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect(f"/?rate={rate}") as connection:
            connection.receive_text()
        assert closed.value.code == code

    def test_the_last_events_of_a_client_that_left_are_printed(self, client, pcm, wanted, capsys):
        with client.websocket_connect("/") as connection:
            connection.send_bytes(pcm.tobytes())
            connection.receive_text()
        assert summary(map(parse_event, capsys.readouterr().out.splitlines())) == wanted

    def test_a_message_that_is_too_large_ends_its_connection_only(self):
        need("fastapi", "uvicorn", "websockets")
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "edge_runtime.examples.fastapi_server", "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                address, deadline = f"ws://127.0.0.1:{port}", time.monotonic() + 60
                while True:
                    with contextlib.suppress(OSError), connect(address, proxy=None):
                        break
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                with connect(address, proxy=None) as large, connect(address, proxy=None) as other:
                    with contextlib.suppress(ConnectionClosed):
                        large.send(bytes(2 << 20))
                    with pytest.raises(ConnectionClosed) as closed:
                        large.recv()
                    assert closed.value.rcvd.code == 1009
                    other.send(bytes(32_000))
                    assert parse_event(other.recv()).status == "started"
            finally:
                server.terminate()


class TestWyoming:
    @pytest.fixture
    def served(self, model):
        """Return a function that runs a conversation with a real server, over TCP."""
        need("wyoming")
        from wyoming.client import AsyncTcpClient
        from wyoming.server import AsyncTcpServer

        from edge_runtime.examples.wyoming_service import EmotionHandler

        def run(talk):
            async def both():
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = free.getsockname()[1]
                server = AsyncTcpServer("127.0.0.1", port)
                serving = asyncio.create_task(server.run(lambda *connection: EmotionHandler(model, *connection)))
                while server._server is None:
                    await asyncio.sleep(0.01)
                try:
                    async with AsyncTcpClient("127.0.0.1", port) as client:
                        result = await talk(client)
                    while server._handlers:
                        await asyncio.sleep(0.01)
                    return result
                finally:
                    serving.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await serving

            return asyncio.run(asyncio.wait_for(both(), 60))

        return run

    @staticmethod
    async def send(client, pcm, *, stop=True, channels=1):
        from wyoming.audio import AudioChunk, AudioStart, AudioStop

        await client.write_event(AudioStart(16_000, 2, channels).event())
        for chunk in chunks(pcm):
            await client.write_event(AudioChunk(16_000, 2, channels, chunk.tobytes()).event())
        if stop:
            await client.write_event(AudioStop().event())

    @staticmethod
    async def until(client, kind):
        """Return the emotion events up to a message of another type, and that message."""
        events = []
        while (message := await client.read_event()) is not None and message.type != kind:
            events.append(parse_event(json.dumps(message.data)))
        return events, message

    def test_events_and_a_transcript(self, served, pcm, wanted, capsys):
        async def talk(client):
            await self.send(client, pcm)
            first = await self.until(client, "transcript")
            await self.send(client, pcm)  # the next voice command, on the same connection
            return first, await self.until(client, "transcript")

        both = served(talk)
        for events, transcript in both:
            assert summary(events) == wanted
            last = [event for event in events if event.type == "final"][-1]
            assert transcript.data["text"] == ("" if last.uncertain else last.label)
        printed = [parse_event(line) for line in capsys.readouterr().out.splitlines()]
        assert printed == [event for events, _ in both for event in events]

    def test_home_assistant_finds_a_speech_to_text_program(self, served):
        from wyoming.info import Describe, Info

        async def talk(client):
            await client.write_event(Describe().event())
            return Info.from_event(await client.read_event())

        (program,) = served(talk).asr
        assert program.installed
        assert program.models[0].languages == ["de", "en", "it", "ko"]

    def test_the_last_events_of_a_client_that_left_are_printed(self, served, pcm, wanted, capsys):
        async def talk(client):
            await self.send(client, pcm, stop=False)
            client._writer.write_eof()
            await self.until(client, "never")

        served(talk)
        assert summary(map(parse_event, capsys.readouterr().out.splitlines())) == wanted

    def test_sound_that_is_no_16_bit_pcm_is_an_error_and_loses_no_event(self, served, pcm, wanted, capsys):
        from wyoming.audio import AudioChunk

        async def talk(client):
            await self.send(client, pcm, stop=False)
            await client.write_event(AudioChunk(16_000, 4, 1, bytes(4)).event())
            return await self.until(client, "error")

        _, error = served(talk)
        assert error.data["text"] == "audio-chunk: send audio-start first, then 16-bit sound of its rate"
        assert summary(map(parse_event, capsys.readouterr().out.splitlines())) == wanted

    def test_messages_of_other_types_are_ignored(self, served, pcm, wanted):
        from wyoming.asr import Transcribe

        async def talk(client):
            await client.write_event(Transcribe(language="en").event())
            await self.send(client, np.repeat(pcm[:, None], 2, axis=1), channels=2)
            return await self.until(client, "transcript")

        events, _ = served(talk)
        assert [each[0] for each in summary(events)].count("final") == [each[0] for each in wanted].count("final")


class TestLiveKit:
    """Real tracks and streams of LiveKit's SDK, in a room that no server connects: there is none to install."""

    @pytest.fixture
    def example(self):
        need("livekit")
        return importlib.import_module("edge_runtime.examples.livekit_agent")

    @staticmethod
    async def play(room, pcm, end):
        """Publish sound in real time as a track of the room."""
        from livekit import rtc

        source = rtc.AudioSource(16_000, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
        anna = type("Participant", (), {"identity": "anna"})()
        room.emit("track_subscribed", track, None, anna)
        for chunk in chunks(pcm, 160):
            await source.capture_frame(rtc.AudioFrame(chunk.tobytes(), 16_000, 1, len(chunk)))
        await source.wait_for_playout()
        await end(track)
        await source.aclose()

    @pytest.mark.parametrize("ends", ["track", "job"])
    def test_a_track_gives_the_events_of_its_sound(self, example, model, pcm, wanted, ends):
        from livekit import rtc

        sent = []

        class StandInParticipant:
            async def send_text(self, text, *, topic, attributes):
                assert (topic, attributes) == ("edgeemo", {"participant": "anna"})
                sent.append(parse_event(text))

        class StandInRoom(rtc.Room):
            local_participant = StandInParticipant()

        async def run():
            room = StandInRoom()
            emotions = example.RoomEmotions(room, model)

            async def end(track):
                if ends == "job":
                    await emotions.end()
                room.emit("track_unsubscribed", track, None, None)
                while not (sent and sent[-1].type == "status" and sent[-1].status == "stopped"):
                    await asyncio.sleep(0.01)

            await self.play(room, pcm[: len(pcm) // 160 * 160], end)

        asyncio.run(asyncio.wait_for(run(), 60))
        finals = [each for each in summary(sent) if each[0] == "final"]
        expected = [each for each in wanted if each[0] == "final"]
        # LiveKit may insert silence, where this machine is late.
        assert [each[3] for each in finals] == [each[3] for each in expected]
        assert [each[1] for each in finals] == pytest.approx([each[1] for each in expected], abs=0.5)
        assert not [event for event in sent if event.type == "status" and event.status == "gap"]

    def test_what_cannot_be_sent_is_logged(self, example, model, caplog):
        from livekit import rtc

        async def run():
            room = rtc.Room()  # never connected
            emotions = example.RoomEmotions(room, model)
            await self.play(room, np.zeros(1_600, np.int16), lambda track: emotions.end())

        with caplog.at_level(logging.WARNING, "edgeemo"):
            asyncio.run(asyncio.wait_for(run(), 60))
        lines = [record.getMessage() for record in caplog.records if record.name == "edgeemo"]
        assert all(line.startswith("not sent (") for line in lines)
        assert [json.loads(line[line.index("{") :])["status"] for line in lines] == ["started", "stopped"]

    def test_a_job_where_livekit_agents_is_installed(self, example, pcm, wanted):
        """A job of a real agent server, in the simulated room that LiveKit has for jobs without a server.

        livekit-agents is in no extra, since it brings forty packages.
        """
        agents = pytest.importorskip("livekit.agents", reason="livekit-agents is not installed")
        played, rooms = asyncio.Event(), []

        async def run():
            loop = asyncio.get_running_loop()
            server = agents.AgentServer(job_executor_type=agents.JobExecutorType.THREAD)

            async def join(job):
                await example.join(job)
                rooms.append(job.room)
                handlers = dict(call.args for call in job.room.on.call_args_list if len(call.args) == 2)
                room = type("Room", (), {"emit": lambda _, kind, *about: handlers[kind](*about)})()
                await self.play(room, pcm[: len(pcm) // 160 * 160], lambda track: asyncio.sleep(0.1))
                loop.call_soon_threadsafe(played.set)

            server.rtc_session(join, on_session_end=example.leave)
            started = asyncio.Event()
            server.once("worker_started", started.set)
            running = asyncio.create_task(server.run(devmode=True, unregistered=True))
            await started.wait()
            await server.simulate_job("room", agent_identity="agent", fake_job=True)
            await played.wait()
            await server.aclose()
            await running

        asyncio.run(asyncio.wait_for(run(), 60))
        (room,) = rooms
        room.connect.assert_awaited_once()
        sent = [parse_event(call.args[0]) for call in room.local_participant.send_text.await_args_list]
        assert [each[3] for each in summary(sent) if each[0] == "final"] == [
            each[3] for each in wanted if each[0] == "final"
        ]


class TestRos:
    """Against a stand-in for ROS 2 (`tests/stand_in_ros.py`)."""

    @pytest.fixture
    def run(self, monkeypatch):
        def run(messages, **parameters):
            ros = StandInRos(parameters, [AudioData(array.array("B", each)) for each in messages])
            for name, module in ros.modules().items():
                monkeypatch.setitem(sys.modules, name, module)
            monkeypatch.delitem(sys.modules, "edge_runtime.examples.ros2_node", raising=False)
            before = signal.getsignal(signal.SIGTERM)
            try:
                importlib.import_module("edge_runtime.examples.ros2_node").main()
            finally:
                signal.signal(signal.SIGTERM, before)
                sys.modules.pop("edge_runtime.examples.ros2_node", None)
            return ros

        return run

    def test_all_events_are_published_before_the_node_ends(self, run, pcm, wanted):
        ros = run([chunk.tobytes() for chunk in chunks(pcm)])
        assert summary(map(parse_event, ros.published["/edgeemo/events"])) == wanted
        assert (ros.acknowledged, ros.running, ros.errors) == (True, False, [])

    def test_half_a_sample_is_reported(self, run, pcm, wanted):
        ros = run([pcm.tobytes() + b"\0"])
        assert len(ros.errors) == 1
        assert summary(map(parse_event, ros.published["/edgeemo/events"])) == wanted

    def test_a_bundle_that_is_missing_ends_the_node(self, run, tmp_path):
        from edge_runtime import EdgeemoError

        with pytest.raises(EdgeemoError, match="there is no such bundle directory"):
            run([], bundle=str(tmp_path / "gone"))

"""Calls of PortAudio with a deadline, and the command with a sound server that hangs (PulseAudio after SIGSTOP)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from benchmarks.lab.virtual_microphone import PROGRAMS, virtual_microphone
from edge_runtime.sources import deadline
from edge_runtime.sources.deadline import NoAnswerError, in_background, with_deadline, within_deadline
from tests.command import python
from tests.conftest import absent
from tests.edge_runtime.test_virtual_microphone import need_portaudio
from tests.events_and_takers import until


class TestDeadline:
    @pytest.fixture
    def hanging(self):
        """A call that hangs until the end of the test, or until the event is set."""
        over = threading.Event()
        yield over
        over.set()
        until(lambda: not deadline._running)

    def test_result_and_error(self):
        assert within_deadline(lambda: 3) == 3
        assert with_deadline(lambda number, plus: number + plus)(3, plus=4) == 7
        with pytest.raises(KeyError):
            within_deadline(lambda: {}["x"])

    def test_a_call_that_hangs_and_those_after_it(self, hanging):
        late, begun = [], []
        with pytest.raises(NoAnswerError, match=r"has not answered for 0\.2 s; restart it"):
            within_deadline(lambda: hanging.wait() and "stream", late.append, seconds=0.2)
        with pytest.raises(NoAnswerError):
            within_deadline(lambda: begun.append(1), seconds=0.1)
        # PortAudio is not entered by two threads.
        assert begun == []
        hanging.set()
        until(lambda: late == ["stream"])
        assert within_deadline(lambda: 5, seconds=0.5) == 5

    def test_no_deadline_where_no_caller_waits(self, monkeypatch):
        monkeypatch.setattr(deadline, "SECONDS", 0.05)
        slow = with_deadline(lambda: time.sleep(0.3) or "done")
        assert in_background(slow).result(timeout=5) == "done"

    def test_the_error_stream_is_heard_during_a_call_that_mutes_it(self, hanging, monkeypatch, capfd):
        monkeypatch.setattr(deadline, "_MUTED_SECONDS", 0.05)

        def mute():
            with Path(os.devnull).open("w") as null:
                os.dup2(null.fileno(), 2)
            hanging.wait()

        kept = os.dup(2)
        try:
            call = in_background(mute)
            time.sleep(0.3)
            os.write(2, b"a sentence")
            hanging.set()
            call.result(timeout=5)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        assert "a sentence" in capfd.readouterr().err


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The environment of a sound server of our own, and its process id."""
    if sys.platform != "linux":
        pytest.skip("PulseAudio's virtual microphone is a Linux matter")
    if not all(map(shutil.which, PROGRAMS)):
        absent("PulseAudio (apt-get install pulseaudio pulseaudio-utils libasound2-plugins)")
    need_portaudio()
    folder = tmp_path_factory.mktemp("hang")
    with virtual_microphone(folder) as environment:
        yield environment, int((folder / "pulse" / "pid").read_text())


@contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def timed(environment, *words):
    began = time.monotonic()
    done = python("-m", "edge_runtime", *words, env=environment, timeout=60)
    return done, time.monotonic() - began


@pytest.mark.parametrize("words", [["listen", "--list-devices"], ["listen"], ["doctor"]], ids=" ".join)
def test_a_sound_server_that_hangs_is_reported(server, words):
    environment, pid = server
    # A table that is wide enough for a sentence in one line.
    environment = environment | {"COLUMNS": "250"}
    # What the process takes beside waiting: "listen" ends here before its microphone is opened.
    extra = ["--source", "mic://no such device"] if words == ["listen"] else []
    _, usual = timed(environment, *words, *extra)
    with stopped(pid):
        done, seconds = timed(environment, *words)
    assert done.returncode == 1, done.stderr
    assert "the sound server has not answered for 3.5 s" in (done.stdout if words == ["doctor"] else done.stderr)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == done.stderr.splitlines()[-1:]
    assert "Traceback" not in done.stderr
    assert seconds < usual + deadline.SECONDS + 1.5


def test_doctor_is_content_where_no_microphone_is_needed(server, tmp_path):
    environment, pid = server
    (tmp_path / "edge.toml").write_text('source = "-"\n')
    with stopped(pid):
        done, _ = timed(environment, "doctor", "--config", tmp_path / "edge.toml", "--json")
    assert done.returncode == 0, done.stderr
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if "has not answered" in each["found"]]
    assert (finding["what"], finding["state"]) == ("PulseAudio", "missing")
    assert "restart" in finding["remedy"]


@contextmanager
def listening(environment):
    words = [sys.executable, "-m", "edge_runtime", "listen", "--json"]
    process = subprocess.Popen(words, env=environment, stdout=PIPE, stderr=PIPE, text=True)
    try:
        assert json.loads(process.stdout.readline())["status"] == "started"
        time.sleep(1.5)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def statuses(process, last):
    found = []
    while last not in found:
        found.append(json.loads(process.stdout.readline()).get("status"))
    return found


def test_a_server_that_hangs_in_mid_session_is_a_lost_device(server):
    environment, pid = server
    with listening(environment) as process:
        with stopped(pid):
            assert "device-lost" in statuses(process, "device-lost")
        assert statuses(process, "device-back")
        process.terminate()
        assert statuses(process, "stopped")
        assert process.wait(timeout=10) == 0


def test_it_can_be_ended_while_the_server_hangs(server):
    environment, pid = server
    with listening(environment) as process, stopped(pid):
        statuses(process, "device-lost")
        process.terminate()
        assert statuses(process, "stopped")
        # A call of PortAudio hangs still.
        assert process.wait(timeout=5) == 0

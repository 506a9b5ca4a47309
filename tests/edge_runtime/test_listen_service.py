"""`edgeemo listen` as a service: the real command, its settings, its signals, and its messages to systemd."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.sources.audio import read_audio
from tests.conftest import absent, edgeemo, need
from tests.events_and_takers import free_port, until


@pytest.fixture
def start():
    """Start the command, and end it with the test."""
    running = []

    def run(*words, env=None, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime", "listen", *map(str, words)],
            env=os.environ | (env or {}),
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket, and what came to it."""
    reported = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(0.1)
        over = threading.Event()

        def listen():
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    reported.extend(server.recv(4096).decode().splitlines())

        thread = threading.Thread(target=listen)
        thread.start()
        yield str(tmp_path / "notify"), reported
        over.set()
        thread.join()


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def settings(path, bundle, clip, more=""):
    path.write_text(
        f'bundle = "{bundle}"\nsource = "{clip}"\npaced = true\n{more}\n[[sinks]]\nkind = "file"\npath = "e.jsonl"\n'
    )
    return path


def test_it_notifies_systemd_and_ends_well_on_sigterm(start, manager, bundle_dir, clip, tmp_path):
    place, reported = manager
    config = settings(tmp_path / "edge.toml", bundle_dir, clip, "[service]\nnice = 3")
    watch = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "400000"}
    process = start("--config", config, env=watch)
    until(lambda: "READY=1" in reported and reported.count("WATCHDOG=1") >= 3, 60)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 3
    until(lambda: f"STATUS=listening: {clip}" in reported)
    until(lambda: {row["type"] for row in rows(tmp_path / "e.jsonl")} > {"status"} or process.poll() is not None, 60)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    until(lambda: "STOPPING=1" in reported)
    assert reported.index(f"STATUS=stopped: {clip}") < reported.index("STOPPING=1")
    events = rows(tmp_path / "e.jsonl")
    assert events[0]["status"] == "started"
    assert (events[-1]["status"], events[-1]["detail"]) == ("stopped", "stopped by SIGTERM")
    # It was stopped in the middle of a segment.
    assert events[-2]["type"] == "final"


def test_the_lock_on_its_file_shows_whether_it_runs(start, bundle_dir, clip, tmp_path):
    """Of a process that was killed, the last status event in the file is ``started``."""
    if shutil.which("flock") is None:
        absent("flock (apt-get install util-linux)")

    def free():
        return subprocess.run(["flock", "--nonblock", tmp_path / "e.jsonl", "true"], check=False).returncode == 0

    process = start("--config", settings(tmp_path / "edge.toml", bundle_dir, clip))
    until(lambda: (tmp_path / "e.jsonl").exists() and rows(tmp_path / "e.jsonl"), 60)
    assert not free()
    process.kill()
    process.communicate(timeout=30)
    assert free()
    assert rows(tmp_path / "e.jsonl")[0]["status"] == "started"
    assert "stopped" not in {row.get("status") for row in rows(tmp_path / "e.jsonl")}


def test_one_that_grew_too_big_ends_with_a_sentence(start, bundle_dir, clip, tmp_path):
    config = settings(tmp_path / "edge.toml", bundle_dir, clip, "[service]\nmemory_mb = 64")
    _, error = (process := start("--config", config)).communicate(timeout=60)
    assert process.returncode == 1
    assert "beyond the limit of 64 MB" in error
    assert "Traceback" not in error
    assert rows(tmp_path / "e.jsonl")[-1]["status"] == "stopped"


def test_sigterm_ends_it_while_its_pipe_is_idle(start, bundle_dir):
    process = start(bundle_dir, "--source", "-", stdin=subprocess.PIPE)
    assert json.loads(process.stdout.readline())["status"] == "started"
    process.stdin.buffer.write(bytes(16_000))
    process.stdin.flush()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    # Not `communicate`, which would end the pipe.
    assert process.wait(timeout=30) == 0
    assert json.loads(process.stdout.readlines()[-1])["status"] == "stopped"


def test_other_sinks_have_everything_when_the_reader_of_stdout_leaves(start, bundle_dir, clip, tmp_path):
    sinks = ("--sink", "stdout", "--sink", f"file:{tmp_path / 'e.jsonl'}")
    process = start(bundle_dir, "--source", clip, "--paced", *sinks)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    events = rows(tmp_path / "e.jsonl")
    assert events[-1]["status"] == "stopped"
    assert events[-2]["type"] == "final"


def test_a_terminal_view_without_a_reader_costs_no_other_sink(start, bundle_dir, clip, tmp_path):
    words = ["--source", clip, "--sink", "terminal", "--sink", "stdout", "--sink", f"file:{tmp_path / 'e.jsonl'}"]
    process = start(bundle_dir, *words)
    process.stderr.close()
    out = process.stdout.read()
    assert process.wait(timeout=60) == 0
    assert len(out.splitlines()) >= len(rows(tmp_path / "e.jsonl"))
    assert json.loads(out.splitlines()[-1])["status"] == "stopped"


def test_memory_start_and_threads_stay_within_the_design(start, bundle_dir, clip, tmp_path):
    """150 MB resident while listening, two seconds to the first window, of the command as users start it.

    The time is that of the processor: the clock of a busy machine message nothing of a device. The model is small;
    `benchmarks/results/soak.json` has the figures of one that is meant for devices.
    """
    need("paho.mqtt", "starlette", "uvicorn", "websockets")
    sinks = ["--sink", "stdout", "--sink", "web://127.0.0.1:0", "--sink", f"file:{tmp_path / 'e.jsonl'}"]
    process = start(bundle_dir, "--source", clip, "--paced", "--no-vad", *sinks)
    for line in process.stdout:
        if json.loads(line)["type"] == "provisional":
            break
    place = Path(f"/proc/{process.pid}")
    fields = (place / "stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    assert seconds <= 2.0
    assert int(status["VmRSS"].split()[0]) / 1000 <= 150
    assert int(status["Threads"]) <= 12


def test_problems_of_a_sink_are_printed_without_a_terminal_view(start, bundle_dir, clip):
    """Of a broker that is not there, with the reason; of a file that came to its end it is a failure."""
    need("paho.mqtt")
    process = start(bundle_dir, "--source", clip, "--sink", f"mqtt://127.0.0.1:{free_port()}/x")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "takes no events for now" in error
    assert error.count("refused") >= 2
    assert "events were lost" in error.splitlines()[-1]


def test_a_full_standard_output_is_a_failure(start, bundle_dir, clip):
    with Path("/dev/full").open("w") as full:
        process = start(bundle_dir, "--source", clip, stdout=full)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "No space left" in error


def test_missing_speech_is_reported(bundle_dir, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000, np.float32), 16_000)
    done = edgeemo("listen", bundle_dir, "--source", tmp_path / "silence.wav")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert "no speech was found" in done.stderr
    assert "--no-vad" in done.stderr


def test_a_recording_too_short_to_score_is_reported(bundle_dir, clip, tmp_path):
    soundfile.write(tmp_path / "short.wav", read_audio(clip)[:3_000], 16_000)
    done = edgeemo("listen", bundle_dir, "--source", tmp_path / "short.wav", "--no-vad")
    assert done.returncode == 0
    assert "short.wav is shorter than the 0.25 s that are scored" in done.stderr


def test_raw_samples_have_no_header(bundle_dir, tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(32_000))
    done = edgeemo("listen", bundle_dir, "--source", tmp_path / "a.raw")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has no header" in done.stderr

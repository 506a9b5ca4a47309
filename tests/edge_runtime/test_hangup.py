"""SIGHUP and a closed terminal end `edgeemo listen` as SIGTERM does."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest
import soundfile

from tests.conftest import tone
from tests.events_and_takers import until


@pytest.fixture
def spoken(tmp_path):
    """A minute of synthetic sound, scored without voice activity detection: it is always in the middle of a segment."""
    soundfile.write(tmp_path / "tone.wav", tone(60), 16_000)
    return tmp_path / "tone.wav"


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def started(spoken, tmp_path, *sinks, **options):
    """Start the command, and wait until it has scored a window."""
    events = tmp_path / "e.jsonl"
    (tmp_path / "edge.toml").write_text(
        f'source = "{spoken}"\npaced = true\n[vad]\nenabled = false\n[[sinks]]\nkind = "file"\npath = "e.jsonl"\n'
        "provisional = true\n" + "".join(f'[[sinks]]\nkind = "{kind}"\n' for kind in sinks)
    )
    words = [sys.executable, "-m", "edge_runtime", "listen", "--config", str(tmp_path / "edge.toml")]
    # The signal as a terminal has it, whatever the tests were started with, as by nohup.
    usual = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}
    process = subprocess.Popen(words, **(usual | options))
    until(lambda: {row["type"] for row in rows(events)} > {"status"} or process.poll() is not None, 60)
    assert process.poll() is None
    return process, events


def check_end(events, process, signal_name=None):
    try:
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
    *_, last, end = rows(events)
    assert last["type"] == "final"
    assert end["status"] == "stopped"
    if signal_name:
        assert end["detail"] == f"stopped by {signal_name}"


def test_sighup_ends_it_with_its_last_events(spoken, tmp_path):
    process, events = started(spoken, tmp_path, stderr=subprocess.DEVNULL)
    process.send_signal(signal.SIGHUP)
    # Both the shell and the system send one.
    process.send_signal(signal.SIGHUP)
    check_end(events, process, "SIGHUP")


def test_nohup_keeps_it_running(spoken, tmp_path):
    process, events = started(
        spoken,
        tmp_path,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    check_end(events, process, "SIGTERM")


@pytest.mark.parametrize("sink", ["stdout", "terminal"])
def test_a_closed_terminal(spoken, tmp_path, sink):
    """The process is the leader of the terminal's session, as one that a terminal window or sshd starts."""
    ours, theirs = pty.openpty()

    def take_terminal():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        process, events = started(spoken, tmp_path, sink, **streams, preexec_fn=take_terminal)
    finally:
        os.close(theirs)
    os.close(ours)
    check_end(events, process)


def test_a_terminal_that_is_closed_without_sighup(spoken, tmp_path):
    """Of a process in another session, as after `setsid`: it goes on with its other sinks."""
    ours, theirs = pty.openpty()
    try:
        process, events = started(spoken, tmp_path, "terminal", stderr=theirs, stdout=theirs, start_new_session=True)
    finally:
        os.close(theirs)
    os.close(ours)
    seen = len(rows(events))
    until(lambda: len(rows(events)) > seen + 3 or process.poll() is not None, 30)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    check_end(events, process, "SIGTERM")

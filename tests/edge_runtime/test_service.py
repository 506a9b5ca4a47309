"""systemd's protocol on real sockets, the watchdog of a loop that hangs, and bounded memory."""

import itertools
import os
import platform
import socket
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from edge_runtime.loop.monitor import Monitor
from edge_runtime.service import (
    Watchdog,
    lower_priority,
    memory_exceeded,
    notify,
    resident_mb,
    watchdog_seconds,
)
from tests.command import python


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """A socket as systemd opens one: in the file system, or in the abstract namespace."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are a Linux matter")
    name = str(tmp_path / "notify") if request.param == "path" else f"@edgeemo-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1))
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield receiver


def received(manager):
    return manager.recv(4096).decode()


class TestNotify:
    def test_messages_to_the_manager(self, manager):
        assert notify("READY=1", "STATUS=listening to microphone")
        assert received(manager) == "READY=1\nSTATUS=listening to microphone"
        assert notify("WATCHDOG=1")
        assert received(manager) == "WATCHDOG=1"

    def test_a_line_break_in_a_text_makes_no_state_of_its_own(self, manager):
        notify("STATUS=a name with\nREADY=1 in it")
        assert received(manager) == "STATUS=a name with READY=1 in it"

    def test_without_a_manager(self, monkeypatch):
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        assert not notify("READY=1")

    @pytest.mark.parametrize("name", ["", "relative", "/nothing/there", "@" + "x" * 200])
    def test_a_socket_that_cannot_be_used_is_no_error(self, monkeypatch, name):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert not notify("READY=1")

    def test_a_manager_that_does_not_read_is_not_waited_for(self, manager):
        began = time.monotonic()
        assert not all(notify("STATUS=" + "x" * 4000) for _ in range(10_000))
        assert time.monotonic() - began < 5


class TestWatchdogSeconds:
    @pytest.mark.parametrize(
        ("microseconds", "process", "seconds"),
        [("30000000", None, 30.0), ("30000000", "ours", 30.0), ("30000000", "1", None)]
        + [(wrong, None, None) for wrong in ("0", "soon", None)],
    )
    def test_variables_of_systemd(self, monkeypatch, microseconds, process, seconds):
        for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", process)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, str(os.getpid()) if value == "ours" else value)
        assert watchdog_seconds() == seconds


class Loop(threading.Thread):
    """A loop that turns until `hangs` is set."""

    def __init__(self, monitor):
        super().__init__()
        self.monitor, self.hangs, self.ends = monitor, threading.Event(), threading.Event()

    def run(self):
        while not self.ends.wait(0.01):
            if not self.hangs.is_set():
                self.monitor.heartbeat()


class TestWatchdog:
    @pytest.fixture
    def loop(self):
        loop = Loop(Monitor())
        loop.start()
        yield loop
        loop.ends.set()
        loop.join()

    def test_pings_while_the_loop_turns_and_not_while_it_hangs(self, manager, monkeypatch, loop):
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        with Watchdog(loop.monitor, limit=0.3):
            times = []
            for _ in range(4):
                assert received(manager) == "WATCHDOG=1"
                times.append(time.monotonic())
            # Before the time is over that systemd waits.
            assert all(later - sooner < 0.6 for sooner, later in itertools.pairwise(times))
            loop.hangs.set()
            output = next(output for _ in range(4) if (output := received(manager)) != "WATCHDOG=1")
            assert output.startswith("STATUS=the loop has not turned for 0.")
            manager.settimeout(1)
            with pytest.raises(TimeoutError):
                received(manager)
            manager.settimeout(5)
            loop.hangs.clear()
            assert received(manager) == "WATCHDOG=1\nSTATUS=the loop turns again"

    @pytest.mark.parametrize("limit", [{}, {"limit": 60.0}])
    def test_a_short_time_of_systemd_is_no_limit_for_the_loop(self, manager, monkeypatch, loop, limit):
        """The loop itself gives a sign of life twice a second only."""
        monkeypatch.setenv("WATCHDOG_USEC", "40000")
        loop.hangs.set()
        with Watchdog(loop.monitor, **limit):
            assert [received(manager) for _ in range(5)] == ["WATCHDOG=1"] * 5

    def test_no_thread_where_no_pings_are_expected(self, monkeypatch, loop):
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        before = threading.active_count()
        with Watchdog(loop.monitor):
            assert threading.active_count() == before

    def test_it_ends_with_the_loop(self, manager, monkeypatch, loop):
        monkeypatch.setenv("WATCHDOG_USEC", "20000000")
        with Watchdog(loop.monitor):
            assert received(manager) == "WATCHDOG=1"
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert "watchdog" not in {thread.name for thread in threading.enumerate()}


class TestShareOfTheDevice:
    def nice_after(self, *levels):
        code = (
            "import os\nfrom edge_runtime.service import lower_priority\n"
            f"for level in {levels}: lower_priority(level)\nprint(os.getpriority(os.PRIO_PROCESS, 0))"
        )
        return int(python("-c", code, check=True).stdout)

    def test_a_lower_priority_is_taken_and_never_given_back(self):
        here = os.getpriority(os.PRIO_PROCESS, 0)
        assert self.nice_after(min(19, here + 3)) == min(19, here + 3)
        assert self.nice_after(min(19, here + 3), 0) == min(19, here + 3)
        lower_priority(here)
        assert os.getpriority(os.PRIO_PROCESS, 0) == here

    def test_resident_memory_grows_with_use(self):
        # In a process of its own: one that has run other tests may hold freed memory, and give that.
        code = (
            "from edge_runtime.service import resident_mb\n"
            "before = resident_mb()\nblock = bytearray(b'x') * 50_000_000\nprint(resident_mb() - before)"
        )
        grown = python("-c", code, check=True).stdout
        assert 45 < float(grown) < 60

    @pytest.mark.parametrize("content", [None, "", "nothing numeric"])
    def test_without_proc_it_is_the_most_there_was(self, tmp_path, content):
        statm = tmp_path / "statm"
        if content is not None:
            statm.write_text(content)
        assert resident_mb(statm) >= 0.9 * resident_mb()

    def test_the_guard_reports_memory_beyond_the_limit(self):
        now = resident_mb()
        assert memory_exceeded(None) is None
        assert memory_exceeded(now + 200) is None
        expected = f"beyond the limit of {now - 10:.0f} MB (memory_mb under [service])"
        assert expected in memory_exceeded(now - 10)
        assert memory_exceeded(100, lambda: 100.0) is None
        assert memory_exceeded(100, lambda: 100.1) is not None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux only")
def test_memory_that_is_free_is_given_back():
    code = (
        "from edge_runtime.service import give_back_memory, resident_mb\n"
        "held = [bytes(4000) for _ in range(20_000)]\n"
        "keep = held[-1]; full = resident_mb(); del held; left = resident_mb()\n"
        "give_back_memory(); print(full, left, resident_mb())"
    )
    done = python("-c", code, check=True)
    full, left, trimmed = map(float, done.stdout.split())
    assert trimmed <= left
    assert trimmed < full - 40


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_blocks_are_given_back_after_a_larger_one():
    """A small block above them keeps none of their pages; without the setting it does."""
    code = (
        "import sys; from edge_runtime.service import give_back_large_blocks, resident_mb\n"
        "if sys.argv[1] == 'set': give_back_large_blocks()\n"
        "graph = bytearray(b'1') * 15_000_000; del graph; before = resident_mb()\n"
        "held, kept = [], []\n"
        "for _ in range(40): held.append(bytearray(b'1') * 1_000_000); kept.append(bytearray(1000))\n"
        "del held; print(resident_mb() - before)"
    )
    left = {way: float(python("-c", code, way, check=True).stdout) for way in ("set", "unset")}
    assert left["set"] < 3
    assert left["unset"] > left["set"] + 5

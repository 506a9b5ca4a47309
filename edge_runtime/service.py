"""systemd notifications and watchdog, nice level and memory limit of `edgeemo listen` as a service."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_runtime.loop.monitor import Monitor

_MIN_LIMIT = 2.0
_STATM = Path("/proc/self/statm")
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 128 * 1024
"""Bytes; where glibc's own threshold begins."""


def notify(*states: str) -> bool:
    """Send states, such as ``READY=1`` and ``STATUS=text``, to the service manager; return whether they were sent.

    They are one datagram, a line each, to the socket in ``NOTIFY_SOCKET`` (sd_notify(3) of systemd); ``@`` begins the
    name of an abstract one. Without a service manager, and if it does not read, nothing is sent.
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return False
    address = "\0" + name[1:] if name.startswith("@") else name
    message = "\n".join(state.replace("\n", " ") for state in states).encode(errors="backslashreplace")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(message, address)
    except OSError:
        return False
    return True


def watchdog_seconds() -> float | None:
    """Return the watchdog timeout of this process, None without one.

    Source: sd_watchdog_enabled(3) of systemd.
    """
    process = os.environ.get("WATCHDOG_PID")
    if process and process != str(os.getpid()):
        return None
    try:
        seconds = int(os.environ.get("WATCHDOG_USEC", "")) / 1e6
    except ValueError:
        return None
    return seconds if seconds > 0 else None


class Watchdog:
    """Pings the service manager while the loop turns, so that systemd restarts a service whose loop hangs.

    A context manager around the loop; it starts a thread only if the service manager has a watchdog timeout.

    ``limit``: seconds without a turn after which no more pings are sent; by default the time between two
    pings. So systemd acts at the latest after ``limit`` and its own ``WatchdogSec``.
    """

    def __init__(self, monitor: Monitor, limit: float | None = None) -> None:
        self._monitor = monitor
        timeout = watchdog_seconds()
        # Half of the timeout, as sd_watchdog_enabled(3) recommends.
        self._interval = None if timeout is None else timeout / 2
        # Not below the longest time between two turns of a loop that works.
        self._limit = limit or max(_MIN_LIMIT, self._interval or 0.0)
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watchdog:
        if self._interval is not None:
            self._thread = threading.Thread(target=self._run, args=(self._interval,), name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, interval: float) -> None:
        hung = False
        while True:
            still = time.monotonic() - self._monitor.snapshot().last_loop
            if still < self._limit:
                notify("WATCHDOG=1", *(["STATUS=the loop turns again"] if hung else []))
                hung = False
            elif not hung:
                notify(f"STATUS=the loop has not turned for {still:.1f} s")
                hung = True
            if self._end.wait(interval):
                return


def lower_priority(nice: int) -> None:
    """Set a nice level above that of the process; call it before threads start.

    A lower level than systemd's ``Nice=`` is not set: only root may raise a priority.
    """
    if nice > os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def resident_mb(statm: Path = _STATM) -> float:
    """Return the resident memory of this process, in MB of a million bytes.

    The second number of ``statm`` is the resident pages, proc(5). Without this file it is the maximum of getrusage(2).
    """
    try:
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError, ValueError):
        maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Linux counts in units of 1024 bytes, macOS in bytes.
        return maximum / 1e6 if sys.platform == "darwin" else maximum * 1024 / 1e6


def give_back_large_blocks() -> None:
    """Have glibc return large blocks to the system when they are freed; call it before any are.

    Its threshold rises to the size of each large block that is freed, a bundle's graph above all. Later blocks up to
    that size then lie in the heaps, which keep their pages. mallopt(3): a threshold that is set stays.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def give_back_memory() -> None:
    """Return free memory to the system by malloc_trim(3) of glibc: a tenth of a listener's, free after loading."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_exceeded(limit_mb: float | None, resident: Callable[[], float] = resident_mb) -> str | None:
    """Return the sentence to end with (exit code 1) above a limit of resident memory, else None; takes microseconds."""
    if limit_mb is None or (memory := resident()) <= limit_mb:
        return None
    return (
        f"{memory:.0f} MB of memory are resident, beyond the limit of {limit_mb:.0f} MB (memory_mb under "
        "[service]); ending, so that the service manager restarts it"
    )

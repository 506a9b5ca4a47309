"""What makes `edgeemo listen` a good service: systemd's notifications and watchdog, nice level, bounded memory."""

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
from types import TracebackType

from edge_runtime.loop.monitor import Monitor

_SHORTEST_LIMIT = 2.0
_STATM = Path("/proc/self/statm")


def notify(*states: str) -> bool:
    """Tell the service manager one or more states, as sd_notify(3) of systemd describes.

    One datagram, a line each, to the socket that ``NOTIFY_SOCKET`` names; ``@`` begins the name of an abstract one.

    Args:
        states: ``READY=1``, ``STATUS=text``, ``WATCHDOG=1`` or ``STOPPING=1``.

    Returns:
        whether a service manager was told; False without one, and where it does not answer (a service goes on then).
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return False
    address = "\0" + name[1:] if name.startswith("@") else name
    message = "\n".join(state.replace("\n", " ") for state in states).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # Never wait for a manager that does not read.
            sender.setblocking(False)
            sender.sendto(message, address)
    except OSError:
        return False
    return True


def ready(status: str) -> bool:
    """Tell that the service runs now, and what it does."""
    return notify("READY=1", f"STATUS={status}")


def stopping(status: str = "stopping") -> bool:
    """Tell that the service ends now by itself."""
    return notify("STOPPING=1", f"STATUS={status}")


def watchdog_seconds() -> float | None:
    """Return how long the service manager waits for a ping, or None where it expects none of this process.

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
    """Pings the service manager while the loop turns, so that a loop that hangs is killed and started again.

    A context manager around the loop; it starts a thread only where the service manager expects pings.

    Args:
        monitor: whose `last_loop` tells when the loop turned last.
        limit: seconds after which a loop that did not turn hangs; the time between two pings if not told. So systemd
            acts at the latest when ``limit`` and its own ``WatchdogSec`` have passed.
    """

    def __init__(self, monitor: Monitor, limit: float | None = None) -> None:
        self._monitor = monitor
        patience = watchdog_seconds()
        # Half of the time: sd_watchdog_enabled(3) recommends it.
        self._interval = None if patience is None else patience / 2
        # Not under what the loop itself takes from one sign of life to the next.
        self._limit = limit or max(_SHORTEST_LIMIT, self._interval or 0.0)
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watchdog:
        """Begin to ping."""
        if self._interval is not None:
            self._thread = threading.Thread(target=self._run, args=(self._interval,), name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop pinging."""
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
    """Take a nice level, if it is a lower priority than the process has; call it before threads start.

    What systemd's ``Nice=`` gave is not taken back: only root may raise a priority.
    """
    if nice > os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def resident_mb(statm: Path = _STATM) -> float:
    """Return the memory of this process that is resident now, in MB of a million bytes.

    Args:
        statm: second number: resident pages, proc(5). Without such a file it is the most there ever was, getrusage(2).
    """
    try:
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Linux counts in units of 1024 bytes, macOS in bytes.
        return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def give_back_memory() -> None:
    """Give the system back what loading left free: a tenth of a listener's memory, which would stay resident for weeks.

    malloc_trim(3) of glibc; nothing elsewhere.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class MemoryGuard:
    """Tells when the process has grown beyond what it was allowed.

    Args:
        limit_mb: resident memory, in MB; None for no limit.
        resident: returns the resident memory in MB.
    """

    def __init__(self, limit_mb: float | None, resident: Callable[[], float] = resident_mb) -> None:
        self._limit = limit_mb
        self._resident = resident

    def passed(self) -> str | None:
        """Return the sentence to end with (exit code 1), or None while the limit holds. Takes some microseconds."""
        if self._limit is None or (resident := self._resident()) <= self._limit:
            return None
        return (
            f"{resident:.0f} MB of memory are resident, beyond the limit of {self._limit:.0f} MB (memory_mb under "
            "[service]); ending, so that the service manager starts it again"
        )

"""Energy by the machine's own meter: `tegrastats` on a Jetson, RAPL on x86; runs on the device.

Where there is no meter, or it may not be read, the reason is told and nothing else.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Protocol

from benchmarks.device.device_sections import Energy, GraphEnergy
from benchmarks.device.tegrastats import parse_line, total_rails
from edge_runtime.doctor import board
from edge_runtime.doctor.system import System
from edge_runtime.files import text_of

INTERVAL_MS = 100
IDLE_SECONDS = 20.0
"""How long the idle machine is measured."""
_RAPL = "/sys/class/powercap/intel-rapl:*"
_TEGRASTATS = ("/usr/bin/tegrastats", "/usr/local/bin/tegrastats")
_FIRST_SECONDS = 5.0


class MeterError(Exception):
    """There is no meter, or it did not tell; the message is the reason."""


@dataclass(frozen=True)
class Spent:
    """What a meter counted between `Meter.start` and `Meter.stop`."""

    joules: float
    seconds: float


class Meter(Protocol):
    """Counts energy."""

    @property
    def source(self) -> str:
        """What counts, and what of it is added up."""

    def start(self) -> None:
        """Begin to count; raises MeterError where that is not possible."""

    def stop(self) -> Spent:
        """Return what was counted since `start`; raises MeterError where nothing was."""


class RaplMeter:
    """Counters of x86 processors (Linux, ``Documentation/power/powercap``): packages, and memory where it has its own.

    A counter goes back to 0 when it has passed ``max_energy_range_uj``, which takes minutes at full load; `stop` takes
    a smaller number for one such turn, so measure less than that at once.

    Args:
        system: where the system's files are.

    Raises:
        MeterError: there are no counters, or this user may not read them.
    """

    def __init__(self, system: System) -> None:
        # intel-rapl:0 is a package; intel-rapl:0:1 a part of it, of which only memory is not within the package.
        zones = system.find(_RAPL)
        if not zones:
            raise MeterError("the system has no RAPL counters (/sys/class/powercap/intel-rapl*)")
        named = {zone: text_of(zone / "name") for zone in zones}
        self._zones = [
            zone for zone, name in named.items() if name.startswith("package") or (name == "dram" and ":" in zone.name)
        ]
        if not self._zones:
            raise MeterError(f"RAPL has no zone of a package here, only {', '.join(named.values())}")
        self.source = "RAPL: " + " + ".join(named[zone] for zone in self._zones)
        self._ranges = [_microjoules(zone / "max_energy_range_uj") for zone in self._zones]
        self._counted()
        self._first: list[int] = []
        self._began = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._first, self._began = self._counted(), time.monotonic()

    def stop(self) -> Spent:
        """Return what was counted since `start`."""
        last, seconds = self._counted(), time.monotonic() - self._began
        grown = [
            after - before if after >= before else after - before + most + 1
            for before, after, most in zip(self._first, last, self._ranges, strict=True)
        ]
        return Spent(sum(grown) / 1e6, seconds)

    def _counted(self) -> list[int]:
        return [_microjoules(zone / "energy_uj") for zone in self._zones]


class TegrastatsMeter:
    """A `tegrastats` process; energy is the integral of its lines' power over the time when they came (trapezoids).

    Args:
        command: how to start it.

    Raises:
        MeterError: it cannot be started.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._lines: list[tuple[float, str]] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.source = "tegrastats"
        # Once for its rails: whoever asks what counts has not started it yet.
        self.start()
        self.stop()

    def start(self) -> None:
        """Start it, and wait for its first line."""
        self._lines = []
        try:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
            )
        except OSError as error:
            raise MeterError(f"tegrastats cannot be started ({error.strerror})") from error
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        ends = time.monotonic() + _FIRST_SECONDS
        while not self._lines and self._reader.is_alive() and time.monotonic() < ends:
            time.sleep(INTERVAL_MS / 5000)

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.append((time.monotonic(), line))

    def stop(self) -> Spent:
        """Stop it and return the energy between its first line and its last."""
        assert self._process is not None
        assert self._reader is not None
        # So that what happened since the last line is in one.
        time.sleep(1.2 * INTERVAL_MS / 1000)
        self._process.terminate()
        self._reader.join(timeout=_FIRST_SECONDS)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        found = integrate(self._lines)
        self.source = f"tegrastats: {found[1]}"
        return found[0]


def integrate(lines: list[tuple[float, str]]) -> tuple[Spent, str]:
    """Return the energy of timed `tegrastats` lines, and the rails that were added up.

    Args:
        lines: when each came, in seconds, and its text.

    Raises:
        MeterError: fewer than two lines tell the power, or none of the known rails is in them.
    """
    samples = [(at, parse_line(text).milliwatts) for at, text in lines]
    samples = [(at, rails) for at, rails in samples if rails]
    if len(samples) < 2:
        raise MeterError("tegrastats printed no power rails (some modules and containers have no sensors)")
    rails = total_rails(list(samples[0][1]))
    if rails is None:
        raise MeterError(f"which of the rails {', '.join(samples[0][1])} are the whole is not known")
    power = [(at, sum(found[name] for name in rails) / 1000) for at, found in samples if set(rails) <= set(found)]
    joules = sum((after - before) * (now + then) / 2 for (before, then), (after, now) in pairwise(power))
    return Spent(joules, power[-1][0] - power[0][0]), " + ".join(rails)


def find_meter(system: System | None = None) -> Meter:
    """Return this machine's meter.

    Args:
        system: where the system's files are; this machine's if not told.

    Raises:
        MeterError: there is none; the message is why.
    """
    system = system or System()
    program = next((system.path(each) for each in _TEGRASTATS if system.path(each).is_file()), None)
    if program is not None:
        return TegrastatsMeter((str(program), "--interval", str(INTERVAL_MS)))
    if board.is_jetson(system):
        raise MeterError("this is a Jetson, and tegrastats is not at /usr/bin/tegrastats (in a container: mount it)")
    return RaplMeter(system)


def count(meter: Meter, work: Callable[[], object]) -> Spent:
    """Return what a meter counts while some work is done.

    Raises:
        MeterError: it tells nothing.
    """
    meter.start()
    try:
        work()
    finally:
        spent = meter.stop()
    return spent


def count_idle(meter: Meter, say: Callable[[str], None]) -> tuple[Spent, Energy]:
    """Return what the idle machine takes, and the section of a report that begins with it, without systems yet.

    Args:
        meter: what counts.
        say: told what takes long.

    Raises:
        MeterError: it tells nothing.
    """
    say(f"energy: the idle machine, {IDLE_SECONDS:g} s")
    idle = count(meter, lambda: time.sleep(IDLE_SECONDS))
    return idle, Energy(
        source=meter.source, idle_seconds=round(idle.seconds, 2), idle_watts=round(idle.joules / idle.seconds, 3)
    )


def per_window(system: str, windows: int, spent: Spent, idle: Spent) -> GraphEnergy:
    """Return the energy of a window: all that was spent, less what the idle machine takes in the same time.

    Args:
        system: what was scored with.
        windows: how many were scored.
        spent: while they were, the sleep between them included.
        idle: while nothing was.
    """
    idle_joules = idle.joules / idle.seconds * spent.seconds
    return GraphEnergy(
        system=system,
        windows=windows,
        seconds=round(spent.seconds, 3),
        joules=round(spent.joules, 4),
        idle_joules=round(idle_joules, 4),
        per_window_mj=round((spent.joules - idle_joules) / windows * 1000, 4),
    )


def _microjoules(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except PermissionError as error:
        raise MeterError(f"{path}: only root may read the RAPL counter (sudo chmod a+r {path})") from error
    except (OSError, ValueError) as error:
        raise MeterError(f"{path}: cannot be read ({error})") from error

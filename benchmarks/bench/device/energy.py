"""Energy by the machine's own meter: `tegrastats` on a Jetson, RAPL on x86; runs on the device.

Without a readable meter, the reason is reported and no figure.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from benchmarks.bench.device.device_sections import Energy, GraphEnergy
from edge_runtime.doctor import board
from edge_runtime.doctor.system import System
from edge_runtime.files import text_of

INTERVAL_MS = 100
IDLE_SECONDS = 20.0
"""Duration of the measurement of the idle machine."""
_RAPL = "/sys/class/powercap/intel-rapl:*"
_TEGRASTATS = ("/usr/bin/tegrastats", "/usr/local/bin/tegrastats")
_FIRST_SECONDS = 5.0


class MeterError(Exception):
    """There is no meter, or it cannot be read; the message is the reason."""


@dataclass(frozen=True)
class Spent:
    """Energy counted between `Meter.start` and `Meter.stop`."""

    joules: float
    seconds: float


class Meter(Protocol):
    """A counter of energy."""

    @property
    def source(self) -> str:
        """Name of the meter, and the counters that are summed."""

    def start(self) -> None:
        """Start counting; raises MeterError."""

    def stop(self) -> Spent:
        """Return the energy since `start`; raises MeterError."""


class RaplMeter:
    """Counters of x86 processors (Linux, ``Documentation/power/powercap``): packages, and memory if counted.

    A counter wraps around at ``max_energy_range_uj``, after minutes at full load; `stop` corrects for one wrap.

    Raises:
        MeterError: there are no counters, or this user may not read them.
    """

    def __init__(self, system: System) -> None:
        # intel-rapl:0 is a package; intel-rapl:0:1 a part of it; only memory is not included in the package.
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
        """Start counting."""
        self._first, self._began = self._counted(), time.monotonic()

    def stop(self) -> Spent:
        """Return the energy since `start`."""
        last, seconds = self._counted(), time.monotonic() - self._began
        grown = [
            after - before if after >= before else after - before + most + 1
            for before, after, most in zip(self._first, last, self._ranges, strict=True)
        ]
        return Spent(sum(grown) / 1e6, seconds)

    def _counted(self) -> list[int]:
        return [_microjoules(zone / "energy_uj") for zone in self._zones]


# A line of tegrastats has rails as ``VDD_IN 4236mW/4240mW``: now, and the mean since it was started; newer releases add
# the maximum (``/5500mW``), older ones leave the unit out. Rails by module (NVIDIA's Jetson Linux guide, "Power
# monitoring"): Orin NX and Nano have ``VDD_IN``, the whole module; AGX Orin has ``VDD_GPU_SOC``, ``VDD_CPU_CV`` and
# ``VIN_SYS_5V0``, of which the sum is the module; Thor has ``VIN``, the whole board, beside its parts.
_RAIL = re.compile(r"\b(?P<name>(?:VDD|VIN|VDDQ|POM|GPU|CPU|SOC|CV|SYS)[A-Z0-9_]*) (?P<now>-?\d+)(?:mW)?/-?\d+(?:mW)?")
_TEMPERATURE = re.compile(r"\b(?P<name>[A-Za-z][A-Za-z0-9]*)@(?P<degrees>-?\d+(?:\.\d+)?)C\b")
_TOTALS = (
    ("VIN",),
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
)
"""Rails whose sum is the total consumption, the widest scope first."""


class PowerSample(NamedTuple):
    """Power and temperatures of one line.

    Attributes:
        milliwatts: by rail; Thor's GPU rail may be slightly negative.
        temperatures: °C by sensor.
    """

    milliwatts: dict[str, int]
    temperatures: dict[str, float]


def parse_line(line: str) -> PowerSample:
    """Return the power and temperatures in a line.

    >>> parse_line("RAM 1/2MB tj@47.1C VDD_IN 4236mW/4240mW VDD_SOC 1340mW/1341mW").milliwatts
    {'VDD_IN': 4236, 'VDD_SOC': 1340}
    """
    return PowerSample(
        {found["name"]: int(found["now"]) for found in _RAIL.finditer(line)},
        {found["name"].lower(): float(found["degrees"]) for found in _TEMPERATURE.finditer(line)},
    )


def total_rails(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the rails whose sum is the total consumption that the sensors cover; None for unknown rails.

    >>> total_rails(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"])
    ('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0')
    """
    return next((rails for rails in _TOTALS if set(rails) <= set(names)), None)


class TegrastatsMeter:
    """A `tegrastats` process; energy is the integral of the power in its lines over time (trapezoidal rule).

    Raises:
        MeterError: it cannot be started.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._lines: list[tuple[float, str]] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.source = "tegrastats"
        # One run to read the names of the rails for `source`.
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
        # One more line, for the time since the last one.
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
    """Return the energy of timed `tegrastats` lines, and the rails that were summed.

    Args:
        lines: time in seconds, and text.

    Raises:
        MeterError: fewer than two lines have power rails, or the rails are unknown.
    """
    samples = [(at, parse_line(text).milliwatts) for at, text in lines]
    samples = [(at, rails) for at, rails in samples if rails]
    if len(samples) < 2:
        raise MeterError("tegrastats printed no power rails (some modules and containers have no sensors)")
    rails = total_rails(list(samples[0][1]))
    if rails is None:
        raise MeterError(f"the rails {', '.join(samples[0][1])} are unknown, so their total is too")
    power = [(at, sum(found[name] for name in rails) / 1000) for at, found in samples if set(rails) <= set(found)]
    joules = sum((after - before) * (now + then) / 2 for (before, then), (after, now) in pairwise(power))
    return Spent(joules, power[-1][0] - power[0][0]), " + ".join(rails)


def find_meter(system: System | None = None) -> Meter:
    """Return this machine's meter.

    Args:
        system: access to the system's files; None for this machine.

    Raises:
        MeterError: there is none.
    """
    system = system or System()
    program = next((system.path(each) for each in _TEGRASTATS if system.path(each).is_file()), None)
    if program is not None:
        return TegrastatsMeter((str(program), "--interval", str(INTERVAL_MS)))
    if board.is_jetson(system):
        raise MeterError("this is a Jetson, and tegrastats is not at /usr/bin/tegrastats (in a container: mount it)")
    return RaplMeter(system)


def count(meter: Meter, work: Callable[[], object]) -> Spent:
    """Return the energy during some work.

    Raises:
        MeterError: the meter cannot be read.
    """
    meter.start()
    try:
        work()
    finally:
        spent = meter.stop()
    return spent


def count_idle(meter: Meter, say: Callable[[str], None]) -> tuple[Spent, Energy]:
    """Return the energy of the idle machine, and a section of a report with it, still without systems.

    Raises:
        MeterError: the meter cannot be read.
    """
    say(f"energy: the idle machine, {IDLE_SECONDS:g} s")
    idle = count(meter, lambda: time.sleep(IDLE_SECONDS))
    return idle, Energy(
        source=meter.source, idle_seconds=round(idle.seconds, 2), idle_watts=round(idle.joules / idle.seconds, 3)
    )


def per_window(system: str, windows: int, spent: Spent, idle: Spent) -> GraphEnergy:
    """Return the energy of a window: that of the measurement minus that of the idle machine in the same time.

    Args:
        system: name of the system.
        windows: number of scored windows.
        spent: while they were scored, sleep in between included.
        idle: of the idle machine.
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

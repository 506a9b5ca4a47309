"""State of the machine before and after measuring: temperatures, clocks, load, throttling."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.bench.device.device_sections import MachineMoment, MachineState
from edge_runtime.doctor import board
from edge_runtime.doctor.system import System
from edge_runtime.files import text_of

_COUNTERS = (
    # Intel, by core and by package (Linux, Documentation/arch/x86: therm_throt).
    "/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
    "/sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count",
    # Jetson Orin and Thor, over-current (NVIDIA's Jetson Linux guide, "Over-Current Throttling").
    "/sys/class/hwmon/hwmon*/oc*_event_cnt",
)
_COOLING = "/sys/class/thermal/cooling_device*"
_SLOWS = ("cpu", "gpu", "processor", "dvfs")
"""Parts of the names of cooling devices that lower a clock; fans do not."""
_STATE = " state"
"""Suffix of names of states, which are not counters: a value above 0 means that a clock is lowered."""


def machine_moment(system: System | None = None) -> MachineMoment:
    """Return the state of the machine.

    Args:
        system: access to the system's files; None for this machine.
    """
    system = system or System()
    zones = board.zones(system)
    return MachineMoment(
        temperatures={zone.name: round(zone.degrees, 1) for zone in zones},
        throttled=[zone.name for zone in zones if zone.throttled],
        load_average=_load(system),
        clocks_mhz=_clocks(system),
        throttle_events=_events(system),
        free_memory_mb=_free_memory(system),
    )


def machine_state(before: MachineMoment, after: MachineMoment) -> MachineState:
    """Return both moments, with a sentence on throttling between them."""
    grown = [
        f"{name} grew by {count - before.throttle_events[name]}"
        for name, count in after.throttle_events.items()
        if not name.endswith(_STATE) and count > before.throttle_events.get(name, count)
    ]
    grown += [f"{name} is {count}" for name, count in after.throttle_events.items() if count and name.endswith(_STATE)]
    hot = sorted({*before.throttled, *after.throttled})
    if grown or hot:
        throttling = "; ".join([*(f"{name} was at its throttling point" for name in hot), *grown])
    elif after.throttle_events:
        throttling = f"none: {len(after.throttle_events)} throttling counters did not grow"
    elif after.temperatures:
        throttling = "not counted here; no thermal zone was at its throttling point before or after"
    else:
        throttling = "unknown: the system has neither throttling counters nor thermal zones (as in a virtual machine)"
    return MachineState(before=before, after=after, throttling=throttling)


def _load(system: System) -> float | None:
    try:
        return float((system.read("/proc/loadavg") or "").split()[0])
    except (IndexError, ValueError):
        return None


def _clocks(system: System) -> dict[str, float]:
    found = {}
    for policy in system.find("/sys/devices/system/cpu/cpufreq/policy*"):
        kilohertz = _number(policy / "scaling_cur_freq")
        if kilohertz is not None:
            found[policy.name] = round(kilohertz / 1000, 1)
    return found


def _events(system: System) -> dict[str, int]:
    found = {}
    for pattern in _COUNTERS:
        for path in system.find(pattern):
            count = _number(path)
            if count is not None:
                owner = path.parent.parent.name if path.parent.name == "thermal_throttle" else path.parent.name
                found[f"{owner} {path.name}"] = count
    for device in system.find(_COOLING):
        kind = text_of(device / "type")
        count = _number(device / "cur_state")
        if count is not None and any(part in kind.lower() for part in _SLOWS):
            found[f"{device.name} ({kind}){_STATE}"] = count
    return found


def _free_memory(system: System) -> float | None:
    for line in (system.read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None


def _number(path: Path) -> int | None:
    try:
        return int(text_of(path))
    except ValueError:
        return None


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

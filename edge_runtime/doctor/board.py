"""Checks of the board: model, Jetson software, power mode, cores, clock and temperature."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_runtime.doctor.finding import Finding, rated
from edge_runtime.doctor.system import System
from edge_runtime.files import text_of

_FIRST_L4T = (36, 4)
"""Jetson Linux of JetPack 6.1, the first with TensorRT 10.3."""
_HOT = 85.0
"""Temperature in °C that counts as throttling in a zone without a passive trip point."""
_NO_SENSORS = ("PMIC-Die",)
"""Zones with a constant value."""
_ADAPTIVE_DRIVERS = ("intel_pstate", "amd-pstate-epp")
"""Drivers whose governor "powersave" adapts the clock to the load."""


def is_jetson(system: System) -> bool:
    """Return whether the system is a Jetson's."""
    return system.read("/etc/nv_tegra_release") is not None or "NVIDIA" in _model(system)


def _model(system: System) -> str:
    return system.read("/proc/device-tree/model") or system.read("/sys/firmware/devicetree/base/model") or ""


def board(system: System) -> Iterator[Finding]:
    """Check the model and, on a Jetson, Jetson Linux (L4T), JetPack and the power mode."""
    model = _model(system)
    if not is_jetson(system):
        yield Finding("board", "ok", model or "not a Jetson")
        return
    yield Finding("board", "ok", model or "a Jetson of an unknown model")
    yield _l4t(system)
    yield _jetpack(system)
    yield _power_mode(system)


def _l4t(system: System) -> Finding:
    text = system.read("/etc/nv_tegra_release")
    if text is None:
        remedy = "in a container mount /etc/nv_tegra_release"
        return Finding("Jetson Linux (L4T)", "unknown", "there is no /etc/nv_tegra_release", remedy)
    match = re.match(r"# R(\d+) \(release\), REVISION: (\d+)\.(\d+)", text)
    if match is None:
        return Finding("Jetson Linux (L4T)", "unknown", f"'{text.splitlines()[0]}' is not a known format")
    release, revision, patch = map(int, match.groups())
    recent = (release, revision) >= _FIRST_L4T
    found = f"R{release}.{revision}.{patch}{'' if recent else '; TensorRT 10.3 comes with R36.4'}"
    return rated("Jetson Linux (L4T)", recent, found, "flash JetPack 6.1 or newer")


def _jetpack(system: System) -> Finding:
    """Find the package in dpkg's list, which every user can read."""
    listed = system.read("/var/lib/dpkg/status")
    if listed is None:
        return Finding("JetPack", "unknown", "there is no list of the system's packages")
    for entry in listed.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in entry.splitlines() if re.match(r"(Package|Status|Version): ", line)
        )
        if fields.get("Package") == "nvidia-jetpack" and fields.get("Status", "").endswith(" installed"):
            return Finding("JetPack", "ok", fields.get("Version", "of an unknown version"))
    found = "the package nvidia-jetpack is not installed (TensorRT and CUDA may be, one by one)"
    return Finding("JetPack", "can be better", found, "sudo apt-get install nvidia-jetpack")


def _power_mode(system: System) -> Finding:
    """Check the power mode: the output of `nvpmodel` or, without the rights to run it, its status file."""
    modes = {
        int(number): name
        for number, name in re.findall(
            r"^< POWER_MODEL ID=(\d+) NAME=(\S+) >", system.read("/etc/nvpmodel.conf") or "", re.MULTILINE
        )
    }
    printed = re.search(r"NV Power Mode: (\S+)\s+(\d+)", system.run("nvpmodel", "-q") or "")
    stored = re.match(r"pmode:(\d+)", system.read("/var/lib/nvpmodel/status") or "")
    if printed:
        name, number = printed.group(1), int(printed.group(2))
    elif stored:
        number = int(stored.group(1))
        name = modes.get(number, "a mode without a name")
    else:
        return Finding("power mode", "unknown", "nvpmodel reports no mode", "sudo nvpmodel -q")
    found = f"{name} ({number})"
    fastest = next((each for each, title in modes.items() if title.startswith("MAXN")), None)
    if name.startswith("MAXN") or (fastest is None and modes):
        others = ", ".join(f"{title} ({each})" for each, title in modes.items() if each != number)
        return Finding("power mode", "ok", found + (f"; others: {others}" if others else ""))
    if fastest is None:
        return Finding("power mode", "unknown", f"{found}; the list of modes cannot be read", "nvpmodel -p")
    remedy = f"faster, at more power: sudo nvpmodel -m {fastest}"
    return Finding("power mode", "can be better", f"{found}; the fastest is {modes[fastest]} ({fastest})", remedy)


def cores(system: System) -> Iterator[Finding]:
    """Check how many cores are online, and the governor of their clock."""
    online, present = (_count(system.read(f"/sys/devices/system/cpu/{name}")) for name in ("online", "present"))
    if online is None or present is None:
        yield Finding("cores", "unknown", "the system has no list of them")
    else:
        remedy = "a power mode with more cores: sudo nvpmodel -q --verbose" if is_jetson(system) else "chcpu -e LIST"
        every = online >= present
        yield rated("cores", every, f"{online} online" if every else f"{online} of {present} online", remedy)
    yield _governor(system)


def _governor(system: System) -> Finding:
    policies = system.find("/sys/devices/system/cpu/cpufreq/policy*")
    governors = {text_of(policy / "scaling_governor") for policy in policies} - {""}
    drivers = {text_of(policy / "scaling_driver") for policy in policies}
    if not governors:
        return Finding("CPU governor", "unknown", "the system has none (as in a virtual machine or container)")
    found = ", ".join(sorted(governors))
    slow = "powersave" in governors and not drivers & set(_ADAPTIVE_DRIVERS)
    remedy = "echo schedutil | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
    return rated("CPU governor", not slow, f"{found}: the clock stays at its lowest" if slow else found, remedy)


class Zone(NamedTuple):
    """A thermal zone: its temperature and its lowest passive trip point (85 without one), °C."""

    name: str
    degrees: float
    throttles_at: float

    @property
    def throttled(self) -> bool:
        """Whether it has reached the temperature of throttling."""
        return self.degrees >= self.throttles_at


def zones(system: System) -> list[Zone]:
    """Return the thermal zones that have a temperature."""
    found = []
    for zone in system.find("/sys/class/thermal/thermal_zone*"):
        name, now = text_of(zone / "type"), _degrees(zone / "temp")
        # Zones of switched-off parts give an error instead of a number.
        if now is not None and name not in _NO_SENSORS:
            found.append(Zone(name, now, _throttles_at(zone)))
    return found


def temperature(system: System) -> Iterator[Finding]:
    """Check the thermal zones for throttling."""
    found = zones(system)
    hot = [f"{zone.name} {zone.degrees:.0f} °C" for zone in found if zone.throttled]
    if hot:
        remedy = "cool it, or select a lower power mode"
        yield Finding("temperature", "can be better", f"throttled: {', '.join(hot)}", remedy)
    elif found:
        warmest = max(found, key=lambda zone: zone.degrees)
        yield Finding("temperature", "ok", f"warmest: {warmest.name} {warmest.degrees:.0f} °C")
    else:
        yield Finding("temperature", "unknown", "the system has no thermal zones (as in a virtual machine)")


def _throttles_at(zone: Path) -> float:
    trips = [
        _degrees(path.with_name(path.name.replace("_type", "_temp")))
        for path in zone.glob("trip_point_*_type")
        if text_of(path) == "passive"
    ]
    return min((trip for trip in trips if trip), default=_HOT)


def _degrees(path: Path) -> float | None:
    try:
        return int(text_of(path)) / 1000
    except ValueError:
        return None


def _count(ranges: str | None) -> int | None:
    """Return the number of cores in a list such as ``0-3,6``; None for another text."""
    if not ranges or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", ranges):
        return None
    ends = [part.partition("-")[::2] for part in ranges.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, last in ends)

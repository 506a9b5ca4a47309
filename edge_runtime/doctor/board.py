"""The board: is it a Jetson, what runs on it, and does it run as fast as it could?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.system import System
from edge_runtime.files import text_of

_FIRST_L4T = (36, 4)
"""Jetson Linux of JetPack 6.1, the first with TensorRT 10.3."""
_HOT = 85.0
"""Degrees Celsius from which a zone is called hot that does not tell where its throttling begins."""
_NO_SENSORS = ("PMIC-Die",)
"""Zones that always give the same number."""
_SLOW_DRIVERS_EXEMPT = ("intel_pstate", "amd-pstate-epp")
"""Drivers under which the governor "powersave" still follows the load."""


def is_jetson(system: System) -> bool:
    """Return whether the system is a Jetson's."""
    return system.read("/etc/nv_tegra_release") is not None or "NVIDIA" in _model(system)


def _model(system: System) -> str:
    return system.read("/proc/device-tree/model") or system.read("/sys/firmware/devicetree/base/model") or ""


def board(system: System) -> Iterator[Finding]:
    """Look at the model, Jetson Linux (L4T) and JetPack."""
    model = _model(system)
    if not is_jetson(system):
        yield Finding("board", "ok", model or "not a Jetson")
        return
    yield Finding("board", "ok", model or "a Jetson whose model is not told")
    yield _l4t(system)
    yield _jetpack(system)
    yield _power_mode(system)


def _l4t(system: System) -> Finding:
    text = system.read("/etc/nv_tegra_release")
    if text is None:
        remedy = "in a container mount /etc/nv_tegra_release"
        return Finding("Jetson Linux (L4T)", "unknown", "there is no /etc/nv_tegra_release", remedy)
    told = re.match(r"# R(\d+) \(release\), REVISION: (\d+)\.(\d+)", text)
    if told is None:
        return Finding("Jetson Linux (L4T)", "unknown", f"'{text.splitlines()[0]}' is not understood")
    release, revision, patch = map(int, told.groups())
    version = f"R{release}.{revision}.{patch}"
    if (release, revision) >= _FIRST_L4T:
        return Finding("Jetson Linux (L4T)", "ok", version)
    found = f"{version}; TensorRT 10.3 comes with R36.4"
    return Finding("Jetson Linux (L4T)", "can be better", found, "flash JetPack 6.1 or newer")


def _jetpack(system: System) -> Finding:
    """Find the package in dpkg's own list, which needs no command and no rights."""
    listed = system.read("/var/lib/dpkg/status")
    if listed is None:
        return Finding("JetPack", "unknown", "there is no list of the system's packages")
    for entry in listed.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in entry.splitlines() if re.match(r"(Package|Status|Version): ", line)
        )
        if fields.get("Package") == "nvidia-jetpack" and fields.get("Status", "").endswith(" installed"):
            return Finding("JetPack", "ok", fields.get("Version", "its version is not told"))
    found = "the package nvidia-jetpack is not installed (TensorRT and CUDA may be, one by one)"
    return Finding("JetPack", "can be better", found, "sudo apt-get install nvidia-jetpack")


def _power_mode(system: System) -> Finding:
    """Look at the mode now, as `nvpmodel` says it or, without the rights to run it, as it wrote it down."""
    modes = {
        int(number): name
        for number, name in re.findall(
            r"^< POWER_MODEL ID=(\d+) NAME=(\S+) >", system.read("/etc/nvpmodel.conf") or "", re.MULTILINE
        )
    }
    said = re.search(r"NV Power Mode: (\S+)\s+(\d+)", system.run("nvpmodel", "-q") or "")
    noted = re.match(r"pmode:(\d+)", system.read("/var/lib/nvpmodel/status") or "")
    if said:
        name, number = said.group(1), int(said.group(2))
    elif noted:
        number = int(noted.group(1))
        name = modes.get(number, "a mode without a name")
    else:
        return Finding("power mode", "unknown", "nvpmodel does not tell", "sudo nvpmodel -q")
    found = f"{name} ({number})"
    fastest = next((each for each, title in modes.items() if title.startswith("MAXN")), None)
    if name.startswith("MAXN") or (fastest is None and modes):
        others = ", ".join(f"{title} ({each})" for each, title in modes.items() if each != number)
        return Finding("power mode", "ok", found + (f"; others: {others}" if others else ""))
    if fastest is None:
        return Finding("power mode", "unknown", f"{found}; whether there is a faster one is not told", "nvpmodel -p")
    remedy = f"faster, at more power: sudo nvpmodel -m {fastest}"
    return Finding("power mode", "can be better", f"{found}; the fastest is {modes[fastest]} ({fastest})", remedy)


def cores(system: System) -> Iterator[Finding]:
    """Look at how many cores are online, and how their clock is governed."""
    online, present = (_count(system.read(f"/sys/devices/system/cpu/{name}")) for name in ("online", "present"))
    if online is None or present is None:
        yield Finding("cores", "unknown", "the system does not tell how many are online")
    elif online < present:
        remedy = "a power mode with more cores: sudo nvpmodel -q --verbose" if is_jetson(system) else "chcpu -e LIST"
        yield Finding("cores", "can be better", f"{online} of {present} online", remedy)
    else:
        yield Finding("cores", "ok", f"{online} online")
    yield _governor(system)


def _governor(system: System) -> Finding:
    policies = system.find("/sys/devices/system/cpu/cpufreq/policy*")
    governors = {text_of(policy / "scaling_governor") for policy in policies} - {""}
    drivers = {text_of(policy / "scaling_driver") for policy in policies}
    if not governors:
        return Finding("CPU governor", "unknown", "the system does not tell (a virtual machine or container, say)")
    found = ", ".join(sorted(governors))
    if "powersave" in governors and not drivers & set(_SLOW_DRIVERS_EXEMPT):
        remedy = "echo schedutil | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
        return Finding("CPU governor", "can be better", f"{found}: the clock stays at its lowest", remedy)
    return Finding("CPU governor", "ok", found)


class Zone(NamedTuple):
    """A thermal zone.

    Attributes:
        name: its type, as the system calls it.
        degrees: °C now.
        throttles_at: °C of its lowest passive trip point, or what is called hot where it has none.
    """

    name: str
    degrees: float
    throttles_at: float

    @property
    def throttled(self) -> bool:
        """Whether it is where throttling begins."""
        return self.degrees >= self.throttles_at


def zones(system: System) -> list[Zone]:
    """Return the thermal zones that tell a temperature."""
    found = []
    for zone in system.find("/sys/class/thermal/thermal_zone*"):
        name, now = text_of(zone / "type"), _degrees(zone / "temp")
        # Zones of parts that are switched off give an error instead of a number.
        if now is not None and name not in _NO_SENSORS:
            found.append(Zone(name, now, _throttles_at(zone)))
    return found


def temperature(system: System) -> Iterator[Finding]:
    """Look at the thermal zones: which one is where its throttling begins?"""
    found = zones(system)
    hot = [f"{zone.name} {zone.degrees:.0f} °C" for zone in found if zone.throttled]
    if hot:
        yield Finding(
            "temperature", "can be better", f"throttled: {', '.join(hot)}", "cool it, or take a smaller power mode"
        )
    elif found:
        warmest = max(found, key=lambda zone: zone.degrees)
        yield Finding("temperature", "ok", f"warmest: {warmest.name} {warmest.degrees:.0f} °C")
    else:
        yield Finding("temperature", "unknown", "the system has no thermal zones (a virtual machine, say)")


def _throttles_at(zone: Path) -> float:
    """Return where the zone's lowest passive trip point is, in °C."""
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
    """Return how many a list such as ``0-3,6`` names."""
    if not ranges or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", ranges):
        return None
    ends = [part.partition("-")[::2] for part in ranges.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, last in ends)

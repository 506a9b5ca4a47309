"""PortAudio and the inputs, and where there is none, why."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.system import ProbeError, System, probe, there

PROBE = "edge_runtime.doctor.sound_probe"
_FILE_INSTEAD = "or read a file with --source FILE"


def probe_sound() -> dict[str, Any]:
    """Return what `sound_probe.look` tells; ``failed`` where PortAudio hung or crashed."""
    try:
        return probe(PROBE)
    except ProbeError as error:
        return {"failed": str(error)}


def sound(told: dict[str, Any], system: System) -> Iterator[Finding]:
    """Look at PortAudio and the inputs.

    Args:
        told: what `probe_sound` returned.
        system: where the kernel's and the sound servers' files are.
    """
    if "missing" in told:
        remedy = "brew install portaudio" if sys.platform == "darwin" else "sudo apt-get install libportaudio2"
        yield Finding("PortAudio", "missing", told["missing"], remedy)
        yield from _rights(system)
        return
    if "failed" in told:
        yield Finding("PortAudio", "unknown", told["failed"], "see whether the sound server hangs: pactl info")
        yield from _rights(system)
        return
    yield Finding("PortAudio", "ok", told["version"].partition(",")[0])
    yield from _rights(system)
    if not told["inputs"]:
        yield _no_input(system)
    for entry in told["inputs"]:
        yield _input(entry)


def _input(entry: dict[str, Any]) -> Finding:
    mark = ", default" if entry["default"] else ""
    what = f"input {entry['index']}: {entry['name']}"
    found = f"{entry['host_api']}{mark}, {entry['channels']} channels, {entry['sample_rate']} Hz; "
    if entry["mono_16k"] is None:
        return Finding(what, "ok", f"{found}takes 16 kHz mono")
    if entry["own"] is None:
        return Finding(what, "ok", f"{found}refuses 16 kHz mono: mixed and resampled from its own rate")
    remedy = "end the program that uses it, or choose another input: --source mic://NAME"
    return Finding(what, "can be better", f"{found}cannot be opened now ({entry['own']})", remedy)


def captures(system: System) -> list[Path]:
    """Return the kernel's capture devices."""
    return system.find("/dev/snd/pcm*c")


def _rights(system: System) -> Iterator[Finding]:
    """Tell where this user may not use the sound devices that the kernel has."""
    closed = [path for path in captures(system) if not os.access(path, os.R_OK, effective_ids=True)]
    if closed:
        yield Finding(
            "rights to the sound devices",
            "missing",
            f"{', '.join(path.name for path in closed)} in /dev/snd cannot be read by this user",
            'sudo usermod -aG audio "$USER", then log in again (SupplementaryGroups=audio for a service)',
        )


def _no_input(system: System) -> Finding:
    """Tell why PortAudio may see no input."""
    servers = _servers(system)
    if servers and not system.find("/usr/lib*/**/alsa-lib/libasound_module_pcm_p*.so"):
        plugin = "pipewire-alsa" if "PipeWire" in servers else "libasound2-plugins"
        found = f"none, though {servers} runs: PortAudio speaks ALSA, and its bridge to {servers} is not installed"
        return Finding("microphone", "missing", found, f"sudo apt-get install {plugin}")
    if servers:
        remedy = f"see whether {servers} has a source: pactl list short sources; plug one in, {_FILE_INSTEAD}"
        return Finding("microphone", "missing", f"none, though {servers} runs and ALSA's bridge is there", remedy)
    if captures(system):
        found = "none, though the kernel has capture devices"
        remedy = "see whether another program holds it: fuser -v /dev/snd/*; arecord -l lists them"
        return Finding("microphone", "missing", found, remedy)
    if not there(system.path("/dev/snd")):
        found = "none: there is no /dev/snd, and no PulseAudio or PipeWire of this user runs"
        remedy = f"plug one in; in a container give it the devices: --device /dev/snd; {_FILE_INSTEAD}"
        return Finding("microphone", "missing", found, remedy)
    cards = system.read("/proc/asound/cards") or "no list of cards"
    found = f"none: the kernel has no device that records ({cards.splitlines()[0].strip()})"
    return Finding("microphone", "missing", found, f"plug one in, {_FILE_INSTEAD}")


def _servers(system: System) -> str:
    """Return the sound server of this user, by its socket; "" for none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if there(system.path(f"{runtime}/pipewire-0")):
        return "PipeWire"
    pulse = os.environ.get("PULSE_RUNTIME_PATH") or f"{runtime}/pulse"
    return "PulseAudio" if there(system.path(f"{pulse}/native")) else ""

"""Checks of PortAudio and the inputs, and the reason where there is no input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.system import System, exists
from edge_runtime.sources.deadline import NoAnswerError

_FILE_INSTEAD = "or read a file with --source FILE"


def sound(result: dict[str, Any], system: System, *, needed: bool = False) -> Iterator[Finding]:
    """Check PortAudio and the inputs; ``needed``: listen would read a microphone, and end if the sound server hangs."""
    if "missing" in result:
        remedy = "brew install portaudio" if sys.platform == "darwin" else "sudo apt-get install libportaudio2"
        yield Finding("PortAudio", "missing", result["missing"], remedy)
    elif "hangs" in result:
        found, _, remedy = result["hangs"].partition("; ")
        server = _server(system) or "sound server"
        yield Finding(server, "missing", found, remedy, NoAnswerError.exit_code if needed else 0)
    elif "failed" in result:
        yield Finding("PortAudio", "unknown", result["failed"], "check whether the sound server hangs: pactl info")
    else:
        yield Finding("PortAudio", "ok", result["version"].partition(",")[0])
    yield from _rights(system)
    if result.get("inputs") == []:
        yield _no_input(system)
    yield from map(_input, result.get("inputs", []))


def _input(entry: dict[str, Any]) -> Finding:
    mark = ", default" if entry["default"] else ""
    what = f"input {entry['index']}: {entry['name']}"
    found = f"{entry['host_api']}{mark}, {entry['channels']} channels, {entry['sample_rate']} Hz; "
    if entry["mono_16k"] is None:
        return Finding(what, "ok", f"{found}accepts 16 kHz mono")
    if entry["native"] is None:
        return Finding(what, "ok", f"{found}refuses 16 kHz mono: mixed and resampled from its own rate")
    remedy = "end the program that uses it, or choose another input: --source mic://NAME"
    return Finding(what, "can be better", f"{found}cannot be opened now ({entry['native']})", remedy)


def _captures(system: System) -> list[Path]:
    return system.find("/dev/snd/pcm*c")


def _rights(system: System) -> Iterator[Finding]:
    """Yield a finding where this user may not read the sound devices of the kernel."""
    closed = [path for path in _captures(system) if not os.access(path, os.R_OK, effective_ids=True)]
    if closed:
        yield Finding(
            "rights to the sound devices",
            "missing",
            f"{', '.join(path.name for path in closed)} in /dev/snd cannot be read by this user",
            'sudo usermod -aG audio "$USER", then log in again (SupplementaryGroups=audio for a service)',
        )


def _no_input(system: System) -> Finding:
    """Return why PortAudio may have no input."""
    server = _server(system)
    if server and not system.find("/usr/lib*/**/alsa-lib/libasound_module_pcm_p*.so"):
        plugin = "pipewire-alsa" if server == "PipeWire" else "libasound2-plugins"
        found = f"none, though {server} runs: PortAudio uses ALSA, and its bridge to {server} is not installed"
        remedy = f"sudo apt-get install {plugin}"
    elif server:
        found = f"none, though {server} runs and ALSA's bridge is there"
        remedy = f"check whether {server} has a source: pactl list short sources; plug one in, {_FILE_INSTEAD}"
    elif _captures(system):
        found = "none, though the kernel has capture devices"
        remedy = "check whether another program holds it: fuser -v /dev/snd/*; arecord -l lists them"
    elif not exists(system.path("/dev/snd")):
        found = "none: there is no /dev/snd, and no PulseAudio or PipeWire of this user runs"
        remedy = f"plug one in; in a container give it the devices: --device /dev/snd; {_FILE_INSTEAD}"
    else:
        cards = system.read("/proc/asound/cards") or "no list of cards"
        found = f"none: the kernel has no device that records ({cards.splitlines()[0].strip()})"
        remedy = f"plug one in, {_FILE_INSTEAD}"
    return Finding("microphone", "missing", found, remedy)


def _server(system: System) -> str:
    """Return the sound server of this user, by its socket; "" for none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if exists(system.path(f"{runtime}/pipewire-0")):
        return "PipeWire"
    pulse = os.environ.get("PULSE_RUNTIME_PATH") or f"{runtime}/pulse"
    return "PulseAudio" if exists(system.path(f"{pulse}/native")) else ""

"""The microphones of this machine, through PortAudio."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.channel_setting import Channels, check_channels
from edge_runtime.sources.deadline import with_deadline
from edge_runtime.sources.sound_server import ServerSource, as_default_source, server_sources

_SERVERS = ("pulse", "pipewire", "default")
"""PortAudio's names of the sound server."""
_OF_SERVER = 8
"""Such an input has more channels than this (32 or more), whatever the source has."""
_BY_SYSTEM = "its channels are mixed by the system"
_ALSA = re.compile(r"(?:plug)?hw:(?:CARD=)?([^,()]+)(?:,(?:DEV=)?(\d+))?")
_DEVICE = re.compile(
    r"(plug)?hw:\S+|(sysdefault|front|dsnoop)(:\S+)?|default|pulse|pipewire|(alsa|bluez)_(input|output|source)\.\S+"
)


@dataclass(frozen=True)
class InputDevice:
    """An input of PortAudio.

    Attributes:
        index: its number; changes when devices come and go.
        channels: most channels.
        sample_rate: default rate, Hz.
        default: whether it is the system's default input.
        host_api: the system's interface, such as ALSA.
        server_source: source of PulseAudio or PipeWire that is recorded through this input; empty for the default one.
    """

    index: int
    name: str
    channels: int = 1
    sample_rate: int = SAMPLE_RATE
    default: bool = False
    host_api: str = ""
    server_source: str = ""


class Format(NamedTuple):
    """How an input is opened.

    Attributes:
        rate: samples per second.
        channels: number of channels.
        mixed: why several channels cannot be recorded one by one; empty where they can, or may be one.
    """

    rate: int
    channels: int
    mixed: str


def portaudio() -> Any:
    """Return the module `sounddevice`.

    Raises:
        MissingPartError: the PortAudio library is not installed.
    """
    try:
        import sounddevice
    except OSError as error:
        raise MissingPartError(
            "the PortAudio library is not installed; run: sudo apt-get install libportaudio2"
        ) from error
    return sounddevice


@with_deadline
def input_devices() -> list[InputDevice]:
    """Return the inputs of this machine.

    Raises:
        MissingPartError: the PortAudio library is not installed.
        NoAnswerError: the sound server hangs.
    """
    sounddevice = portaudio()
    default = sounddevice.default.device[0]
    interfaces = [str(each["name"]) for each in sounddevice.query_hostapis()]
    return [
        InputDevice(
            index=int(entry["index"]),
            name=str(entry["name"]),
            channels=int(entry["max_input_channels"]),
            sample_rate=int(entry["default_samplerate"]),
            default=int(entry["index"]) == default,
            host_api=interfaces[entry["hostapi"]],
        )
        for entry in sounddevice.query_devices()
        if entry["max_input_channels"] > 0
    ]


def find_device(wanted: str) -> InputDevice:
    """Return the input with an index or a name; the default input for an empty string.

    A part of a name is enough, in any case, if it fits one input only. ALSA's names are accepted too (``hw:1,0``,
    ``plughw:1,0``, ``hw:CARD=Device``), and the names of the sources of PulseAudio and PipeWire.

    Raises:
        MissingPartError: there is no microphone, or no PortAudio.
        WrongUseError: no input, or more than one, fits.
    """
    devices = input_devices()
    if not devices:
        raise MissingPartError("there is no microphone; plug one in, or read a file with --source FILE")
    if not wanted:
        return next((device for device in devices if device.default), devices[0])
    found = matching(devices, wanted)
    if len(found) == 1:
        return found[0]
    of_server = server_inputs(devices)
    exact = [device for device in of_server if device.name == wanted]
    if exact:
        return exact[0]
    of_server = [device for device in of_server if not device.name.endswith(".monitor")]
    what = "more than one input" if found else "no input"
    names = {name.lower(): name for device in (*devices, *of_server) for name in _names(device)}
    near = [] if found else difflib.get_close_matches(wanted.lower(), names, 1)
    meant = f" (did you mean '{names[near[0]]}'?)" if near else ""
    there = [*(f"{device.index}: {device.name}" for device in devices), *(device.name for device in of_server)]
    raise WrongUseError(f"{what} is called '{wanted}'{meant}; the inputs are {'; '.join(there)}")


def _names(device: InputDevice) -> list[str]:
    """Return the names by which an input is found: its own and ALSA's."""
    return [device.name, *re.findall(r"\((hw:\d+,\d+)\)", device.name)]


def matching(devices: list[InputDevice], wanted: str) -> list[InputDevice]:
    """Return the inputs with an index or a name; if there is none, those whose name contains a text, in any case."""
    text = _portaudio_name(wanted).lower()
    return [device for device in devices if wanted in (str(device.index), device.name)] or [
        device for device in devices if text in device.name.lower()
    ]


def _portaudio_name(wanted: str) -> str:
    """Return how PortAudio's name of an ALSA device ends, as "(hw:1,0)"; other names unchanged."""
    found = _ALSA.fullmatch(wanted)
    if not found:
        return wanted
    card, number = found[1], found[2] or "0"
    if not card.isdigit():
        try:
            cards = Path("/proc/asound/cards").read_text(encoding="utf-8", errors="replace")
        except OSError:
            cards = ""
        card = next(iter(re.findall(rf"^\s*(\d+) \[{re.escape(card)}\s*\]", cards, re.MULTILINE)), card)
    return f"(hw:{card},{number})"


def is_device(text: str) -> bool:
    """Return whether a text is the name of a device of ALSA, PulseAudio or PipeWire by its form."""
    return _DEVICE.fullmatch(text) is not None


def server_inputs(devices: list[InputDevice]) -> list[InputDevice]:
    """Return the sources of the sound server, as inputs by their own names; none if PortAudio has no way to it."""
    way = next((device for name in _SERVERS for device in devices if device.name == name), None)
    if way is None:
        return []
    return [
        replace(
            way,
            name=source.name,
            channels=len(source.channels),
            sample_rate=source.sample_rate,
            default=False,
            server_source=source.name,
        )
        for source in server_sources()
    ]


def what_to_type(device: InputDevice, devices: list[InputDevice]) -> str:
    """Return the value of ``--source`` for an input."""
    if device.server_source:
        return f"mic://{device.name}"
    of_alsa = _names(device)[1:]
    names = [*of_alsa, device.name]
    return f"mic://{next((name for name in names if len(matching(devices, name)) == 1), device.index)}"


def find_again(device: InputDevice, wanted: str) -> InputDevice:
    """Return a lost input that is back, perhaps with another index and as another card.

    Raises:
        MissingPartError: it is not there, or several inputs fit.
    """
    # ALSA appends the card, as in "USB PnP Audio: - (hw:1,0)". An index may now belong to another device.
    if device.server_source:
        if not any(source.name == device.server_source for source in server_sources()):
            raise MissingPartError(f"microphone {device.name} is not there")
        return find_device(device.server_source)
    names = ["" if wanted.isdigit() else wanted, device.name, device.name.partition(" (hw:")[0]]
    if not wanted:
        return find_device("")
    inputs = input_devices()
    found = next((fitting for name in names if name and len(fitting := matching(inputs, name)) == 1), None)
    if found is None:
        raise MissingPartError(f"microphone {device.name} is not there")
    return found[0]


@with_deadline
def accepted_format(device: InputDevice, channels: Channels = "auto") -> Format:
    """Return rate and channels to open an input with.

    It is opened with all of its channels where one of several has to be chosen, else or if it refuses that, mono; at 16
    kHz if it accepts that, else at its own rate.

    Raises:
        WrongUseError: ``channels`` names a channel that it does not have.
        EdgeemoError: it accepts none of these; `NoAnswerError` if the sound server hangs.
    """
    sounddevice = portaudio()
    count, mixed = _channels(device)
    name = f"microphone {device.name}"
    if mixed and isinstance(channels, tuple):
        raise WrongUseError(
            f"{name}: {mixed}, so channels cannot be named; use its ALSA device, as --source mic://hw:1,0"
        )
    check_channels(name, channels, count)
    counts = [count, 1, device.channels] if channels in ("auto", "mix") else [count]
    for tried in dict.fromkeys(counts):
        for rate in (SAMPLE_RATE, device.sample_rate):
            try:
                with as_default_source(device.server_source):
                    sounddevice.check_input_settings(
                        device=device.index, channels=tried, samplerate=rate, dtype="float32"
                    )
            except sounddevice.PortAudioError:
                continue
            return Format(rate, tried, "" if mixed == _BY_SYSTEM else mixed)
    raise EdgeemoError(
        f"microphone {device.name}: refuses both 16 kHz mono and its own rate; is another program using it?"
    )


def _channels(device: InputDevice) -> tuple[int, str]:
    """Return how many channels of an input can be recorded, and a reason where it has more."""
    if not device.server_source and (device.name not in _SERVERS or device.channels <= _OF_SERVER):
        return device.channels, ""
    source = _recorded(device)
    if source is None:
        return 1, _BY_SYSTEM
    if source.separable:
        return len(source.channels), ""
    names = ", ".join(source.channels)
    return 1, f"its {len(source.channels)} channels are mixed by the sound server, which calls them {names}"


def _recorded(device: InputDevice) -> ServerSource | None:
    """Return the source of the server that an input records."""
    for source in server_sources():
        if source.name == device.server_source or (not device.server_source and source.default):
            return source
    return None


def refresh_devices() -> None:
    """Have PortAudio list the devices again, which it does only when it starts. No stream may be open."""
    sounddevice = portaudio()
    sounddevice._terminate()
    sounddevice._initialize()

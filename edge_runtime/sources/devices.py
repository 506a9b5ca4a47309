"""The microphones of this machine, as PortAudio knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE


@dataclass(frozen=True)
class InputDevice:
    """An input that PortAudio knows."""

    index: int
    name: str
    channels: int
    sample_rate: int
    default: bool


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


def input_devices() -> list[InputDevice]:
    """Return the inputs of this machine; empty where there is none.

    Raises:
        MissingPartError: the PortAudio library is not installed.
    """
    sounddevice = portaudio()
    default = sounddevice.default.device[0]
    return [
        InputDevice(
            index=int(entry["index"]),
            name=str(entry["name"]),
            channels=int(entry["max_input_channels"]),
            sample_rate=int(entry["default_samplerate"]),
            default=int(entry["index"]) == default,
        )
        for entry in sounddevice.query_devices()
        if entry["max_input_channels"] > 0
    ]


def find_device(wanted: str) -> InputDevice:
    """Return the input of an index or of a name; the default input for an empty string.

    A name may be a part of the device's name, in any case, if it fits one input only.

    Raises:
        MissingPartError: there is no microphone, or no PortAudio.
        WrongUseError: no input, or more than one, has that name.
    """
    devices = input_devices()
    if not devices:
        raise MissingPartError("there is no microphone; plug one in, or read a file with --source FILE")
    if not wanted:
        return next((device for device in devices if device.default), devices[0])
    fitting = _fitting(devices, wanted)
    if len(fitting) != 1:
        names = "; ".join(f"{device.index}: {device.name}" for device in devices)
        what = "no input" if not fitting else "more than one input"
        raise WrongUseError(f"{what} is called '{wanted}'; the inputs are {names}")
    return fitting[0]


def _fitting(devices: list[InputDevice], wanted: str) -> list[InputDevice]:
    return [device for device in devices if wanted in (str(device.index), device.name)] or [
        device for device in devices if wanted.lower() in device.name.lower()
    ]


def find_again(device: InputDevice, wanted: str) -> InputDevice:
    """Return the input that was lost: it may have come back under another index, and as another card.

    Args:
        device: what it was.
        wanted: how it was asked for, as `find_device` takes it.

    Raises:
        MissingPartError: it is not there, or cannot be told from others.
    """
    # ALSA names the card at the end, as in "USB PnP Audio: - (hw:1,0)". An index may be another device's by now.
    names = ["" if wanted.isdigit() else wanted, device.name, device.name.partition(" (hw:")[0]]
    if not wanted:
        return find_device("")
    inputs = input_devices()
    found = next((fitting for name in names if name and len(fitting := _fitting(inputs, name)) == 1), None)
    if found is None:
        raise MissingPartError(f"microphone {device.name} is not there")
    return found[0]


def accepted_format(device: InputDevice) -> tuple[int, int]:
    """Return the rate and the channels to open an input with: 16 kHz mono where it is accepted, else its own.

    Raises:
        EdgeemoError: it accepts neither.
    """
    sounddevice = portaudio()
    for rate, channels in ((SAMPLE_RATE, 1), (device.sample_rate, 1), (device.sample_rate, device.channels)):
        try:
            sounddevice.check_input_settings(device=device.index, channels=channels, samplerate=rate, dtype="float32")
        except sounddevice.PortAudioError:
            continue
        return rate, channels
    raise EdgeemoError(
        f"microphone {device.name}: refuses both 16 kHz mono and its own rate; is another program using it?"
    )


def look_again() -> None:
    """Let PortAudio look for devices once more: it lists those that were there when it began. No stream may be open."""
    sounddevice = portaudio()
    sounddevice._terminate()
    sounddevice._initialize()

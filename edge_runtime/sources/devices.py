"""The microphones of this machine, through PortAudio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.deadline import with_deadline


@dataclass(frozen=True)
class InputDevice:
    """An input of PortAudio.

    Attributes:
        index: its number; changes when devices come and go.
        channels: most channels.
        sample_rate: default rate, Hz.
        default: whether it is the system's default input.
        host_api: the system's interface, such as ALSA.
    """

    index: int
    name: str
    channels: int = 1
    sample_rate: int = SAMPLE_RATE
    default: bool = False
    host_api: str = ""


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

    A part of a name is enough, in any case, if it fits one input only.

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
    if len(found) != 1:
        names = "; ".join(f"{device.index}: {device.name}" for device in devices)
        what = "more than one input" if found else "no input"
        raise WrongUseError(f"{what} is called '{wanted}'; the inputs are {names}")
    return found[0]


def matching(devices: list[InputDevice], wanted: str) -> list[InputDevice]:
    """Return the inputs with an index or a name; if there is none, those whose name contains a text, in any case."""
    return [device for device in devices if wanted in (str(device.index), device.name)] or [
        device for device in devices if wanted.lower() in device.name.lower()
    ]


def find_again(device: InputDevice, wanted: str) -> InputDevice:
    """Return a lost input that is back, perhaps with another index and as another card.

    Raises:
        MissingPartError: it is not there, or several inputs fit.
    """
    # ALSA appends the card, as in "USB PnP Audio: - (hw:1,0)". An index may now belong to another device.
    names = ["" if wanted.isdigit() else wanted, device.name, device.name.partition(" (hw:")[0]]
    if not wanted:
        return find_device("")
    inputs = input_devices()
    found = next((fitting for name in names if name and len(fitting := matching(inputs, name)) == 1), None)
    if found is None:
        raise MissingPartError(f"microphone {device.name} is not there")
    return found[0]


@with_deadline
def accepted_format(device: InputDevice) -> tuple[int, int]:
    """Return rate and channels to open an input with: 16 kHz mono if it accepts that, else its own format.

    Raises:
        EdgeemoError: it accepts neither; `NoAnswerError` if the sound server hangs.
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


def refresh_devices() -> None:
    """Have PortAudio list the devices again, which it does only when it starts. No stream may be open."""
    sounddevice = portaudio()
    sounddevice._terminate()
    sounddevice._initialize()

"""The microphone through PortAudio: a callback that only copies, a bounded queue, a worker that does the rest."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import SAMPLE_RATE
from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.sources import BLOCK_SECONDS, Block, Converter

_QUEUE_SECONDS = 10.0


@dataclass(frozen=True)
class InputDevice:
    """An input that PortAudio knows."""

    index: int
    name: str
    channels: int
    sample_rate: int
    default: bool


def _portaudio() -> Any:
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
    sounddevice = _portaudio()
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
    fitting = [device for device in devices if wanted in (str(device.index), device.name)] or [
        device for device in devices if wanted.lower() in device.name.lower()
    ]
    if len(fitting) != 1:
        names = "; ".join(f"{device.index}: {device.name}" for device in devices)
        what = "no input" if not fitting else "more than one input"
        raise WrongUseError(f"{what} is called '{wanted}'; the inputs are {names}")
    return fitting[0]


class MicrophoneSource:
    """A microphone, opened at 16 kHz mono or, where that is refused, at its own rate and channels.

    Args:
        device: index, name or part of a name; empty for the default input.

    Raises:
        MissingPartError: there is no microphone, or no PortAudio.
        WrongUseError: no input has that name.
        EdgeemoError: the device cannot be opened.
    """

    def __init__(self, device: str = "") -> None:
        self._device = find_device(device)
        self.name = f"microphone {self._device.name}"
        self._sounddevice = _portaudio()
        self._rate, self._channels = self._format()
        blocks = round(_QUEUE_SECONDS / BLOCK_SECONDS)
        self._queue: queue.Queue[tuple[npt.NDArray[np.float32], int, float]] = queue.Queue(blocks)
        self._lost = 0
        self._closed = False

    def _format(self) -> tuple[int, int]:
        for rate, channels in (
            (SAMPLE_RATE, 1),
            (self._device.sample_rate, 1),
            (self._device.sample_rate, self._device.channels),
        ):
            try:
                self._sounddevice.check_input_settings(
                    device=self._device.index, channels=channels, samplerate=rate, dtype="float32"
                )
            except self._sounddevice.PortAudioError:
                continue
            return rate, channels
        raise EdgeemoError(f"{self.name}: refuses both 16 kHz mono and its own rate; is another program using it?")

    def _take(self, frames: npt.NDArray[np.float32], count: int, _time: Any, status: Any) -> None:
        """Copy a block into the queue; called by PortAudio's thread, so it must never wait."""
        # PortAudio says that it lost samples, not how many: count the least it can have been, one block.
        self._lost += count if status.input_overflow else 0
        try:
            self._queue.put_nowait((frames.copy(), self._lost, time.monotonic()))
            self._lost = 0
        except queue.Full:
            self._lost += count

    def blocks(self) -> Iterator[Block]:
        """Yield blocks until the source is closed.

        Raises:
            EdgeemoError: the device cannot be opened, or stopped giving audio.
        """
        try:
            with self._open() as stream:
                yield from self._queued(stream)
        except self._sounddevice.PortAudioError as error:
            raise EdgeemoError(f"{self.name}: cannot be opened ({error})") from error

    def _open(self) -> Any:
        return self._sounddevice.InputStream(
            device=self._device.index,
            channels=self._channels,
            samplerate=self._rate,
            blocksize=round(BLOCK_SECONDS * self._rate),
            dtype="float32",
            callback=self._take,
        )

    def _queued(self, stream: Any) -> Iterator[Block]:
        converter = Converter(self._rate)
        while not self._closed:
            try:
                frames, lost, arrived = self._queue.get(timeout=0.5)
            except queue.Empty:
                if not stream.active:
                    raise EdgeemoError(f"{self.name}: stopped giving audio; was it unplugged?") from None
                continue
            yield Block(converter.convert(frames), round(lost * SAMPLE_RATE / self._rate), arrived)

    def close(self) -> None:
        """End `blocks` within half a second."""
        self._closed = True

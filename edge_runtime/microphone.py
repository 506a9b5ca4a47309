"""The microphone: a callback that only copies, a bounded queue, a worker that does the rest."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.audio import SAMPLE_RATE
from edge_runtime.devices import InputDevice, accepted_format, find_device, look_again, portaudio
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources import BLOCK_SECONDS, HEARTBEAT, Block, Converter, heartbeat

_QUEUE_SECONDS = 10.0
_STALLED_SECONDS = 3.0
"""A stream that gives no frames for so long is opened anew."""
_BACK_OFF = (0.5, 10.0)
"""Seconds between the first two tries to open it again, and at most."""


class _Capture:
    """An open stream: PortAudio's thread fills a bounded queue, which counts what did not fit.

    Args:
        device: the input.
    """

    def __init__(self, device: InputDevice) -> None:
        self.rate, self.channels = accepted_format(device)
        self._queue: queue.Queue[tuple[npt.NDArray[np.float32], int, float]] = queue.Queue(
            round(_QUEUE_SECONDS / BLOCK_SECONDS)
        )
        self._lost = 0
        self._last = 0.0
        self._stream = portaudio().InputStream(
            device=device.index,
            channels=self.channels,
            samplerate=self.rate,
            blocksize=round(BLOCK_SECONDS * self.rate),
            dtype="float32",
            callback=self.take,
        )
        self._stream.start()

    def take(self, frames: npt.NDArray[np.float32], count: int, _time: Any, status: Any) -> None:
        """Copy a block into the queue; called by PortAudio's thread, so it must never wait."""
        now = time.monotonic()
        if status.input_overflow:
            # PortAudio says that it lost samples, not how many: what the time since the last block would have held.
            passed = round((now - self._last) * self.rate) - count if self._last else 0
            self._lost += max(count, passed)
        self._last = now
        try:
            self._queue.put_nowait((frames.copy(), self._lost, now))
            self._lost = 0
        except queue.Full:
            self._lost += count

    def next(self, timeout: float) -> tuple[npt.NDArray[np.float32], int, float] | None:
        """Return a block ``[frames, channels]``, how many frames were lost before it, and when it came, or None."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    @property
    def active(self) -> bool:
        """Whether PortAudio still runs the stream."""
        return bool(self._stream.active)

    def close(self) -> None:
        """Close the stream; of a device that is gone it may never return, so it is not waited for long."""

        def shut() -> None:
            with contextlib.suppress(Exception):
                self._stream.abort(ignore_errors=True)
                self._stream.close(ignore_errors=True)

        closing = threading.Thread(target=shut, name="close microphone", daemon=True)
        closing.start()
        closing.join(timeout=2.0)


class MicrophoneSource:
    """A microphone, opened at 16 kHz mono or, where that is refused, at its own rate and channels.

    When it goes away (unplugged, or giving no frames), it is looked for by its name until it is back; the sample clock
    moves on by the time that it was away.

    Args:
        device: index, name or part of a name; empty for the default input.
        open_capture: opens an input; for tests.

    Raises:
        MissingPartError: there is no microphone, or no PortAudio.
        WrongUseError: no input has that name.
        EdgeemoError: the device cannot be opened.
    """

    live = True

    def __init__(self, device: str = "", open_capture: Callable[[InputDevice], _Capture] = _Capture) -> None:
        self._device = find_device(device)
        self._default = not device
        self.name = f"microphone {self._device.name}"
        self._open_capture = open_capture
        self._closed = threading.Event()
        accepted_format(self._device)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks until the source is closed; empty ones while nothing comes in.

        Raises:
            EdgeemoError: the device cannot be opened at first.
        """
        try:
            capture = self._open_capture(self._device)
        except portaudio().PortAudioError as error:
            raise EdgeemoError(f"{self.name}: cannot be opened ({error})") from error
        lost_at: float | None = None
        while not self._closed.is_set():
            last = yield from self._while_there(capture, lost_at)
            capture.close()
            if self._closed.is_set():
                return
            lost_at = last
            yield heartbeat()._replace(notice=("device-lost", f"{self.name} gives no audio any more; looking for it"))
            found = yield from self._wait_for_it()
            if found is None:
                return
            capture = found
        capture.close()

    def _while_there(self, capture: _Capture, lost_at: float | None) -> Generator[Block, None, float]:
        """Yield blocks until the device is gone; return when its last frames came.

        Args:
            capture: the stream.
            lost_at: when the last frames came before it was away; None at first.
        """
        converter = Converter(capture.rate)
        last = time.monotonic()
        while not self._closed.is_set():
            taken = capture.next(HEARTBEAT)
            now = time.monotonic()
            if taken is None:
                if not capture.active or now - last > _STALLED_SECONDS:
                    break
                yield heartbeat()
                continue
            frames, lost, last = taken
            block = Block(converter.convert(frames), round(lost * SAMPLE_RATE / capture.rate), last)
            if lost_at is not None:
                away = max(0, round((last - lost_at) * SAMPLE_RATE) - len(frames) * SAMPLE_RATE // capture.rate)
                block = block._replace(lost=block.lost + away, notice=("device-back", f"{self.name} is back"))
                lost_at = None
            yield block
        return last

    def _wait_for_it(self) -> Generator[Block, None, _Capture | None]:
        """Yield empty blocks until the device could be opened again; return its stream, or None when closed."""
        pause, longest = _BACK_OFF
        while not self._closed.is_set():
            try:
                look_again()
                device = find_device("" if self._default else self._device.name)
                capture = self._open_capture(device)
            except Exception:  # whatever PortAudio raises of a device that is half there: the next try may work
                tried = time.monotonic()
            else:
                self._device, self.name = device, f"microphone {device.name}"
                return capture
            while not self._closed.is_set() and time.monotonic() - tried < pause:
                self._closed.wait(min(HEARTBEAT, pause))
                yield heartbeat()
            pause = min(2 * pause, longest)
        return None

    def close(self) -> None:
        """End `blocks` within half a second."""
        self._closed.set()

"""The microphone as an audio source: a callback that only copies into a bounded queue, and reconnection."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import wait
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.deadline import in_background, within_deadline
from edge_runtime.sources.devices import (
    InputDevice,
    accepted_format,
    find_again,
    find_device,
    portaudio,
    refresh_devices,
)
from edge_runtime.sources.interface import BLOCK_SECONDS, HEARTBEAT, Block, Converter, Notice, heartbeat
from edge_runtime.sources.sound_server import as_default_source

_QUEUE_SECONDS = 10.0
_STALLED_SECONDS = 3.0
"""A stream without frames for this time is opened again."""
_BACK_OFF = (0.5, 10.0)
"""First and longest pause between attempts to open the device again, seconds."""
_ANCHOR_SECONDS = 60.0
"""Longest time over which the clocks of the device and of this machine are compared; they drift apart."""

_LOCK = threading.RLock()
"""Held to open and close streams: PortAudio does neither in two threads at a time, and a source of the sound server is
chosen by the environment."""
_captures: set[_Capture] = set()
"""Those that are open."""

Result = TypeVar("Result")


class _Capture:
    """An open stream: PortAudio's thread fills a bounded queue; frames that do not fit are counted."""

    def __init__(self, device: InputDevice, channels: Channels = "auto") -> None:
        with _LOCK:
            self.rate, self.channels, self.mixed = accepted_format(device, channels)
        self._queue: queue.Queue[tuple[npt.NDArray[np.float32], int, float]] = queue.Queue(
            round(_QUEUE_SECONDS / BLOCK_SECONDS)
        )
        self._lost = 0
        self._anchor: float | None = None
        self._since = 0
        with _LOCK, as_default_source(device.server_source):
            self._stream = portaudio().InputStream(
                device=device.index,
                channels=self.channels,
                samplerate=self.rate,
                blocksize=round(BLOCK_SECONDS * self.rate),
                dtype="float32",
                callback=self.take,
            )
            self._stream.start()
            _captures.add(self)

    def take(self, frames: npt.NDArray[np.float32], count: int, _time: Any, status: Any) -> None:
        """Copy a block into the queue; called by PortAudio's thread, which must not wait."""
        now = time.monotonic()
        if status.input_overflow:
            self._lost += self._missing(now, count)
        if self._anchor is None or now - self._anchor > _ANCHOR_SECONDS:
            self._anchor, self._since = now, 0
        else:
            self._since += count
        try:
            self._queue.put_nowait((frames.copy(), self._lost, now))
            self._lost = 0
        except queue.Full:
            self._lost += count

    def _missing(self, now: float, count: int) -> int:
        """Return how many frames an overflow lost, which PortAudio does not report; at least a millisecond.

        It is the difference between the time since the anchor and the frames since then.
        """
        missing = 0 if self._anchor is None else round((now - self._anchor) * self.rate) - self._since - count
        missing = max(self.rate // 1000, missing)
        self._since += missing
        return missing

    def next(self, timeout: float) -> tuple[npt.NDArray[np.float32], int, float] | None:
        """Return a block ``[frames, channels]``, the frames lost before it, and its arrival; None after the timeout."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    @property
    def active(self) -> bool:
        return bool(self._stream.active)

    def close(self) -> None:
        with _LOCK, contextlib.suppress(Exception):
            _captures.discard(self)
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)


class MicrophoneSource:
    """A microphone, opened with all of its channels, at 16 kHz or, if it refuses that, at its own rate.

    When it is unplugged or gives no frames, it is searched for by its name until it is back; the sample clock advances
    by the time of its absence. While another microphone is open, PortAudio cannot list the devices again, so it is then
    found only as the card or source of the sound server that it was. ``device`` is as for `find_device`.

    Attributes:
        device: the input.

    Raises:
        MissingPartError: there is no microphone, or no PortAudio.
        WrongUseError: no input has that name, or it does not have a channel that is chosen.
        EdgeemoError: the device cannot be opened.
    """

    live = True

    def __init__(self, device: str = "", *, channels: Channels = "auto") -> None:
        self._wanted = device
        self._channels = channels
        self.device = find_device(device)
        self.name = f"microphone {self.device.name}"
        self._closed = threading.Event()
        accepted_format(self.device, channels)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks until the source is closed; empty ones while there is no audio.

        Raises:
            EdgeemoError: the device cannot be opened at first; `NoAnswerError` if the sound server hangs.
        """
        capture: _Capture | None
        try:
            capture = within_deadline(lambda: _Capture(self.device, self._channels), late=_Capture.close)
        except portaudio().PortAudioError as error:
            raise EdgeemoError(f"{self.name}: cannot be opened ({error})") from error
        lost_at: float | None = None
        pause = _BACK_OFF[0]
        try:
            while capture is not None and not self._closed.is_set():
                came = yield from self._capture(capture, lost_at)
                if self._closed.is_set():
                    return
                if came is not None:
                    # Once until frames arrive: a device may open repeatedly without giving any.
                    lost_at, pause = came, _BACK_OFF[0]
                    what = f"{self.name} gives no audio any more; it is searched for"
                    yield heartbeat()._replace(notice=("device-lost", what))
                gone, capture = capture, None
                yield from self._with_heartbeats(gone.close)
                capture = yield from self._reopen(pause)
                pause = min(2 * pause, _BACK_OFF[1])
        finally:
            # Also when the generator is closed early, the microphone must not stay open.
            self._closed.set()
            if capture is not None:
                wait([in_background(capture.close)], timeout=2.0)

    def _capture(self, capture: _Capture, lost_at: float | None) -> Generator[Block, None, float | None]:
        """Yield blocks until the device is gone; return the arrival of its last frames, None without any."""
        converter = Converter(capture.rate, self._channels, self.name, look_ahead=False)
        mixed: Notice | None = ("channels", f"{self.name}: {capture.mixed}") if capture.mixed else None
        began = time.monotonic()
        last: float | None = None if lost_at is not None else began
        left: int | None = None
        while left is None or left > 0:
            if left is not None:
                left -= 1
            elif self._closed.is_set():
                # Blocks that are in the queue by now are still processed, later ones are not.
                left = capture.waiting
                continue
            taken = capture.next(HEARTBEAT)
            if taken is None:
                if not capture.active or time.monotonic() - (last or began) > _STALLED_SECONDS:
                    break
                yield heartbeat()
                continue
            frames, lost, last = taken
            block = Block(converter.convert(frames), round(lost * SAMPLE_RATE / capture.rate), last, real_time=True)
            if lost_at is not None:
                away = max(0, round((last - lost_at) * SAMPLE_RATE) - len(frames) * SAMPLE_RATE // capture.rate)
                block = block._replace(lost=block.lost + away, notice=("device-back", f"{self.name} is back"))
                lost_at = None
            else:
                block = block._replace(notice=mixed or converter.notice())
                mixed = None
            yield block
        return last

    def _reopen(self, pause: float) -> Generator[Block, None, _Capture | None]:
        """Yield empty blocks until the device is open again; return its stream, or None when closed."""
        while not self._closed.is_set():
            tried = time.monotonic()
            # PortAudio raises various errors while a device reappears; the next attempt may work.
            with contextlib.suppress(Exception):
                capture = yield from self._with_heartbeats(self._open)
                if capture is not None:
                    return capture
            while not self._closed.is_set() and time.monotonic() - tried < pause:
                self._closed.wait(min(HEARTBEAT, pause))
                yield heartbeat()
            pause = min(2 * pause, _BACK_OFF[1])
        return None

    def _open(self) -> _Capture | None:
        with _LOCK:
            if not _captures:
                refresh_devices()
        device = find_again(self.device, self._wanted)
        capture = _Capture(device, self._channels)
        if self._closed.is_set():
            capture.close()
            return None
        self.device, self.name = device, f"microphone {device.name}"
        return capture

    def _with_heartbeats(self, work: Callable[[], Result]) -> Generator[Block, None, Result | None]:
        """Run a call of PortAudio, which may hang with the sound server, and yield empty blocks; None when closed."""
        call = in_background(work)
        while not wait([call], timeout=HEARTBEAT).done:
            if self._closed.is_set():
                return None
            yield heartbeat()
        return call.result()

    def close(self) -> None:
        """End `blocks` within half a second."""
        self._closed.set()

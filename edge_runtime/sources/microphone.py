"""The microphone: a callback that only copies, a bounded queue, a worker that does the rest."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.devices import (
    InputDevice,
    accepted_format,
    find_again,
    find_device,
    portaudio,
    refresh_devices,
)
from edge_runtime.sources.interface import BLOCK_SECONDS, HEARTBEAT, Block, Converter, heartbeat

_QUEUE_SECONDS = 10.0
_STALLED_SECONDS = 3.0
"""A stream that gives no frames for so long is opened anew."""
_BACK_OFF = (0.5, 10.0)
"""Seconds between the first two tries to open it again, and at most."""
_ANCHOR_SECONDS = 60.0
"""The clocks of a device and of this machine differ: over no longer time are they compared."""

Result = TypeVar("Result")


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
        self._anchor: float | None = None
        self._since = 0
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
        """Return how many frames an overflow cost: PortAudio says that there was one, not how long.

        It is what the time since the anchor would have held and did not come; a millisecond at least, so that it shows.
        """
        missing = 0 if self._anchor is None else round((now - self._anchor) * self.rate) - self._since - count
        missing = max(self.rate // 1000, missing)
        self._since += missing
        return missing

    def next(self, timeout: float) -> tuple[npt.NDArray[np.float32], int, float] | None:
        """Return a block ``[frames, channels]``, how many frames were lost before it, and when it came, or None."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    @property
    def waiting(self) -> int:
        """How many blocks wait to be taken."""
        return self._queue.qsize()

    @property
    def active(self) -> bool:
        """Whether PortAudio still runs the stream."""
        return bool(self._stream.active)

    def close(self) -> None:
        """Close the stream."""
        with contextlib.suppress(Exception):
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)


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
        self._wanted = device
        self._device = find_device(device)
        self.name = f"microphone {self._device.name}"
        self._open_capture = open_capture
        self._closed = threading.Event()
        accepted_format(self._device)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks until the source is closed; empty ones while nothing comes in.

        Raises:
            EdgeemoError: the device cannot be opened at first.
        """
        capture: _Capture | None
        try:
            capture = self._open_capture(self._device)
        except portaudio().PortAudioError as error:
            raise EdgeemoError(f"{self.name}: cannot be opened ({error})") from error
        lost_at: float | None = None
        pause = _BACK_OFF[0]
        try:
            while capture is not None and not self._closed.is_set():
                came = yield from self._while_there(capture, lost_at)
                if self._closed.is_set():
                    return
                if came is not None:
                    # Once until frames come: a device may open again and again and give none.
                    lost_at, pause = came, _BACK_OFF[0]
                    what = f"{self.name} gives no audio any more; looking for it"
                    yield heartbeat()._replace(notice=("device-lost", what))
                gone, capture = capture, None
                yield from self._meanwhile(gone.close)
                capture = yield from self._wait_for_it(pause)
                pause = min(2 * pause, _BACK_OFF[1])
        finally:
            # Whoever leaves must not leave a microphone that records.
            self._closed.set()
            if capture is not None:
                wait([_in_background(capture.close)], timeout=2.0)

    def _while_there(self, capture: _Capture, lost_at: float | None) -> Generator[Block, None, float | None]:
        """Yield blocks until the device is gone; return when its last frames came, or None if none did.

        Args:
            capture: the stream.
            lost_at: when the last frames came before it was away; None at first.
        """
        converter = Converter(capture.rate)
        began = time.monotonic()
        last: float | None = None if lost_at is not None else began
        left: int | None = None
        while left is None or left > 0:
            if left is not None:
                left -= 1
            elif self._closed.is_set():
                # What was captured until then is still heard; what comes from now on is not.
                left = capture.waiting
                continue
            taken = capture.next(HEARTBEAT)
            if taken is None:
                if not capture.active or time.monotonic() - (last or began) > _STALLED_SECONDS:
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

    def _wait_for_it(self, pause: float) -> Generator[Block, None, _Capture | None]:
        """Yield empty blocks until the device could be opened again; return its stream, or None when closed."""
        while not self._closed.is_set():
            tried = time.monotonic()
            # Whatever PortAudio raises of a device that is half there: the next try may work.
            with contextlib.suppress(Exception):
                capture = yield from self._meanwhile(self._try)
                if capture is not None:
                    return capture
            while not self._closed.is_set() and time.monotonic() - tried < pause:
                self._closed.wait(min(HEARTBEAT, pause))
                yield heartbeat()
            pause = min(2 * pause, _BACK_OFF[1])
        return None

    def _try(self) -> _Capture | None:
        refresh_devices()
        device = find_again(self._device, self._wanted)
        capture = self._open_capture(device)
        if self._closed.is_set():
            capture.close()
            return None
        self._device, self.name = device, f"microphone {device.name}"
        return capture

    def _meanwhile(self, work: Callable[[], Result]) -> Generator[Block, None, Result | None]:
        """Do what may hang in PortAudio, as when a sound server does, and yield empty blocks; None when closed."""
        doing = _in_background(work)
        while not wait([doing], timeout=HEARTBEAT).done:
            if self._closed.is_set():
                return None
            yield heartbeat()
        return doing.result()

    def close(self) -> None:
        """End `blocks` within half a second."""
        self._closed.set()


_under_way: set[threading.Thread] = set()


def _in_background(work: Callable[[], Result]) -> Future[Result]:
    """Do something in a thread that nobody waits for at exit."""
    done: Future[Result] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        finally:
            _under_way.discard(threading.current_thread())

    thread = threading.Thread(target=do, name="PortAudio", daemon=True)
    # Registered last, so called before sounddevice's own.
    atexit.unregister(_leave_what_hangs)
    atexit.register(_leave_what_hangs)
    _under_way.add(thread)
    thread.start()
    return done


def _leave_what_hangs() -> None:
    """Keep sounddevice from ending PortAudio at exit while a call of it hangs, which would hang too."""
    if _under_way:
        atexit.unregister(portaudio()._exit_handler)

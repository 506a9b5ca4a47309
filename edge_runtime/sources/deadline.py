"""Calls of PortAudio with a deadline.

They wait without limit while the sound server hangs, and cannot be interrupted. So each runs in a daemon thread, for
which the caller waits no longer than the deadline. No other call begins while one hangs.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import ParamSpec, TypeVar

from edge_runtime.errors import EdgeemoError

SECONDS = 3.5
"""Longest wait for one call. With the start of the process, a hanging sound server is reported within five seconds."""

_MUTED_SECONDS = 1.0
"""Longest time without the error stream; sounddevice points it to the null device while PortAudio starts."""

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

_running: set[threading.Thread] = set()
_abandoned: set[Future[object]] = set()


class NoAnswerError(EdgeemoError):
    """The sound server has not answered within the deadline (exit code 1)."""


def in_background(work: Callable[[], Result]) -> Future[Result]:
    """Run a call of PortAudio in a daemon thread, which does not keep the process from ending."""
    done: Future[Result] = Future()
    errors = _ErrorStream()
    unmute = threading.Timer(_MUTED_SECONDS, errors.restore)
    unmute.daemon = True

    def do() -> None:
        try:
            finish = functools.partial(done.set_result, work())
        except BaseException as error:
            finish = functools.partial(done.set_exception, error)
        # Before the caller goes on.
        unmute.cancel()
        errors.close()
        _running.discard(threading.current_thread())
        finish()

    thread = threading.Thread(target=do, name="PortAudio", daemon=True)
    # Registered last, so called before sounddevice's own handler.
    atexit.unregister(_skip_exit_handler)
    atexit.register(_skip_exit_handler)
    _running.add(thread)
    unmute.start()
    thread.start()
    return done


def within_deadline(
    work: Callable[[], Result], late: Callable[[Result], object] = lambda result: None, seconds: float | None = None
) -> Result:
    """Return the result of a call of PortAudio.

    In a thread of `in_background`, whose caller does not wait for it, the call has no deadline.

    Args:
        work: the call.
        late: receives a result after the deadline, as to close a stream.
        seconds: the deadline; by default `SECONDS`.

    Raises:
        NoAnswerError: it has not returned by then, or an earlier call still hangs.
    """
    if threading.current_thread() in _running:
        return work()
    limit = SECONDS if seconds is None else seconds
    end = time.monotonic() + limit
    if wait(_abandoned, limit).not_done:
        raise _no_answer(limit)
    call = in_background(work)
    if wait([call], max(0.0, end - time.monotonic())).done:
        return call.result()
    _abandoned.add(call)  # type: ignore[arg-type]  # its result is not used
    call.add_done_callback(functools.partial(_returned, late))
    raise _no_answer(limit)


def with_deadline(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a function that calls PortAudio, so that it runs `within_deadline`."""

    @functools.wraps(function)
    def limited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return within_deadline(lambda: function(*args, **kwargs))

    return limited


def leave(code: int) -> None:
    """End the process at once if a call still hangs, which could hang the exit handlers of native libraries too."""
    if not _running:
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


class _ErrorStream:
    """The file behind file descriptor 2, kept to be put there again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        try:
            self._kept: int | None = os.dup(2)
        except OSError:
            # It is closed.
            self._kept = None

    def restore(self) -> None:
        with self._lock:
            if self._kept is not None:
                os.dup2(self._kept, 2)

    def close(self) -> None:
        with self._lock:
            if self._kept is not None:
                os.close(self._kept)
                self._kept = None


def _returned(late: Callable[[Result], object], call: Future[Result]) -> None:
    _abandoned.discard(call)
    if call.exception() is None:
        with contextlib.suppress(Exception):
            late(call.result())


def _no_answer(seconds: float) -> NoAnswerError:
    return NoAnswerError(
        f"the sound server has not answered for {seconds:g} s; restart it (systemctl --user restart pulseaudio, or "
        "pipewire), or read a file with --source FILE"
    )


def _skip_exit_handler() -> None:
    """Keep sounddevice from terminating PortAudio at exit while a call hangs, which would hang too."""
    # Not imported here: the call that hangs may be its import.
    handler = getattr(sys.modules.get("sounddevice"), "_exit_handler", None)
    if _running and handler is not None:
        atexit.unregister(handler)

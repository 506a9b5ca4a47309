"""Errors that a user can cause, each with the exit code of the command.

Every message is one sentence: what is wrong, where, and what to do about it.
Exit codes: 0 done, 1 failed, 2 wrong use or a missing part, 3 refused by a gate.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from edge_runtime.text import harmless


class EdgeemoError(click.ClickException):
    """The work failed (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        # Names of files and messages of libraries may hold characters that control a terminal.
        super().__init__(harmless(message))


class StepError(click.ClickException):
    """A command that was run as part of another one failed; its exit code is passed on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        # click declares it for the class; an instance may differ.
        self.exit_code = exit_code  # type: ignore[misc]


class WrongUseError(EdgeemoError):
    """The call itself was wrong: an unknown name, a setting that does not fit (exit code 2)."""

    exit_code = 2


class MissingPartError(EdgeemoError):
    """Something that the call needs is not on this machine (exit code 2)."""

    exit_code = 2


class GateError(EdgeemoError):
    """A check that protects the user refused the result (exit code 3)."""

    exit_code = 3


class EngineError(EdgeemoError):
    """An engine cannot be built, loaded or run; the next one may work."""


class NotANumberError(EdgeemoError):
    """A graph gives NaN or infinity in ONNX Runtime: so would another engine on the same graph."""


def missing_extra(extra: str, module: str | None = None) -> MissingPartError:
    """Return the error that names the pip command for a missing extra."""
    what = f"'{module}' is not installed" if module else "a package is not installed"
    return MissingPartError(f'{what}; run: pip install "edgeemo[{extra}]"')


_WHAT_TO_DO = {
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "a file stands where a directory is wanted; give another place"),
    errno.EISDIR: "a directory stands where a file is wanted; give a file",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "give a place that you may use, or change what you may do there"
    ),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room, and give the same command again"),
    errno.ENOENT: "check the path",
}
"""Remedies by the number of a system error."""


def next_step(error: OSError) -> str:
    """Return what to do about an error of the system, to end a sentence with; "" where nothing is known.

    >>> next_step(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    '; check the path'
    """
    advice = _WHAT_TO_DO.get(error.errno or 0)
    return f"; {advice}" if advice else ""


@contextmanager
def system_errors_in_words() -> Iterator[None]:
    """Turn errors of the system (a full disk, a directory that is not writable) into one sentence.

    Raises:
        EdgeemoError: for a system error without a message of its own.
    """
    try:
        yield
    except BrokenPipeError:
        # The reader of our output left.
        raise
    except OSError as error:
        if "multiprocessing.synchronize" in _modules(error):  # its text is "Permission denied" only
            where, advice = "no processes can be started, which share locks in /dev/shm: ", ""
        else:
            where, advice = f"{error.filename}: " if error.filename else "", next_step(error)
        raise EdgeemoError(f"{where}{error.strerror or error}{advice}") from error


def _modules(error: BaseException) -> set[str]:
    return {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)}


class Tool(click.Command):
    """A command that stands alone (``python -m benchmarks.lab.NAME``), with the errors of the system in words."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; system errors become one sentence."""
        with system_errors_in_words():
            return super().invoke(ctx)

"""Run `edgeemo` commands in separate processes, several at a time, so that a stopped one can be resumed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_runtime.errors import StepError

Item = TypeVar("Item")


def arguments_of(context: click.Context, **changes: Any) -> list[str]:
    """Return the command line, without the program, that calls a command as it was called but for ``changes``.

    Args:
        context: of the running command.
        changes: values of parameters by name; None leaves an option out.
    """
    words = [str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        value = changes.get(name, context.params.get(name))
        if value is None or value is False or value == ():
            continue
        if isinstance(parameter, click.Option):
            flag = parameter.opts[0]
            values = value if parameter.multiple else (value,)
            words += [flag] if parameter.is_flag else [f"{flag}={each}" for each in values]
        else:
            words += [str(each) for each in value] if parameter.nargs == -1 else [str(value)]
    return words


def run_edgeemo(arguments: Sequence[str], *, lock: Path, threads: int, log: Path | None = None) -> None:
    """Run one command and wait for it.

    Args:
        arguments: behind ``edgeemo``.
        lock: a file that the new process keeps locked while it lives: where an earlier caller was killed and its
            process was not, this waits for that process to end before it starts another one on the same files.
        threads: of the numeric libraries.
        log: where its messages go; this process's error stream if not given.

    Raises:
        StepError: it ended badly; its exit code is passed on.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "edge_runtime", *arguments]
    with lock.open("w") as held, (log or Path(os.devnull)).open("w", encoding="utf-8") as messages:
        fcntl.flock(held, fcntl.LOCK_EX)
        # The lock belongs to the open file, which the child shares: it outlives this process if the child does.
        done = subprocess.run(
            command,
            env=environment,
            stdout=sys.stderr if log is None else messages,
            stderr=None if log is None else messages,
            pass_fds=(held.fileno(),),
            check=False,
        )
    if done.returncode:
        where = f"; see {log}" if log else ""
        # A process that a signal ended has a negative code.
        raise StepError(f"edgeemo {' '.join(arguments)} failed{where}", max(done.returncode, 1))


def in_parallel(work: Callable[[Item], None], items: Iterable[Item], jobs: int) -> None:
    """Do all the work, ``jobs`` pieces at a time; at the first failure start no more, and raise it."""
    stopped = threading.Event()

    def one(item: Item) -> None:
        if stopped.is_set():
            return
        try:
            work(item)
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, item) for item in items]
        try:
            for each in as_completed(waiting):
                each.result()
        finally:
            stopped.set()  # also where this thread was interrupted

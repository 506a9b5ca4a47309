"""Run `edgeemo` in a process of its own, forked from one that did the slow imports once.

A process that trains imports for seconds before it begins, and a test session starts a hundred of them. The process
that is forked holds packages of others only (`slow_imports.py`), and no thread runs in it, so that a command meets what
`python -m edge_runtime` meets: its own arguments, environment, directory and streams, and modules of ours not imported
yet. What a command imports by itself is tested in real processes (`test_light_imports.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from click.testing import CliRunner

TIMEOUT = 580
_STREAMS = ("in", "out", "err")

_ROOT = Path(__file__).parents[1]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.slow_imports"])


def edgeemo(
    *arguments: object,
    stdin: bytes | None = None,
    cwd: Path | None = None,
    limits: Mapping[int, int] | None = None,
    script: Path | None = None,
    code: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would.

    Args:
        arguments: of the command.
        stdin: what it reads from standard input.
        cwd: the directory that it runs in.
        limits: resources (`resource.RLIMIT_...`) of its process.
        script: a script that is run in the command's place, with the same arguments.
        code: the exit code that it must have; any without it.
    """
    words = tuple(map(str, arguments))
    with tempfile.TemporaryDirectory() as name:
        streams = [Path(name) / each for each in _STREAMS]
        streams[0].write_bytes(stdin or b"")
        with _process(words, streams, cwd, limits, script) as process:
            process.join(TIMEOUT)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(words, TIMEOUT)
        out, error = (stream.read_text(encoding="utf-8") for stream in streams[1:])
    return _checked(subprocess.CompletedProcess(words, process.exitcode, out, error), code)


def _checked(done: subprocess.CompletedProcess[str], code: int | None) -> subprocess.CompletedProcess[str]:
    assert code in (None, done.returncode), f"exit code {done.returncode}, not {code}: {done.stderr}"
    return done


def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return what it wrote as text."""
    return subprocess.run(list(map(str, words)), **({"capture_output": True, "text": True, "check": False} | options))


def python(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own."""
    return run(sys.executable, *words, **options)


def invoke(*arguments: object, stdin: bytes | None = None, code: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, without seconds of imports: for what leaves nothing behind in a process.

    An exception that is no exit of the command is raised here. With ``code``, that must be its exit code.
    """
    from edge_runtime.cli import main  # not where commands are forked from

    words = tuple(map(str, arguments))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        done = CliRunner().invoke(main, words, input=stdin, prog_name="edgeemo")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return _checked(subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr), code)


ALONE = ("--without", "linguistic", "--without", "prosodic")
"""Options for a student without teachers of the session's recipe."""


def distil(
    recipe: object, corpus: object, out: object, cache: object, *options: object, code: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run `edgeemo distill`, whose exit code must be ``code``."""
    return edgeemo("distill", recipe, "--corpus", corpus, "--out", out, "--cache", cache, *options, code=code)


@contextlib.contextmanager
def working_edgeemo(*arguments: object) -> Iterator[BaseProcess]:
    """Start the command and go on beside it, to stop it half-way; at the end of the block it is killed."""
    with tempfile.TemporaryDirectory() as name:
        streams = [Path(name) / each for each in _STREAMS]
        streams[0].touch()
        with _process(tuple(map(str, arguments)), streams) as process:
            yield process


@contextlib.contextmanager
def _process(
    words: Sequence[str],
    streams: Sequence[Path],
    cwd: Path | None = None,
    limits: Mapping[int, int] | None = None,
    script: Path | None = None,
) -> Iterator[BaseProcess]:
    given = (words, streams, cwd or Path.cwd(), dict(os.environ), dict(limits or {}), script)
    process = _FORKS.Process(target=_command, args=given)
    # The server of forks imports these tests from the directory that it starts in, and stays there.
    here = Path.cwd()
    os.chdir(_ROOT)
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    process.start()
    try:
        yield process
    finally:
        # With all that it started, or a demo's steps would go on beside the next tests.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()


def _command(
    words: Sequence[str],
    streams: Sequence[Path],
    cwd: Path,
    environment: Mapping[str, str],
    limits: Mapping[int, int],
    script: Path | None,
) -> None:
    import resource

    os.setsid()
    # A shell that starts tests in the background has them ignore SIGINT, and what they start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, (stream, mode) in enumerate(zip(streams, ("r", "w", "w"), strict=True)):
        with stream.open(mode) as file:
            os.dup2(file.fileno(), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False) for number, mode in enumerate(("r", "w", "w"))
    )
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    # The interpreter reads it at its start only, which for this process was another one's.
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    sys.argv[1:] = words
    try:
        if script:
            runpy.run_path(str(script), run_name="__main__")
        else:
            runpy.run_module("edge_runtime", run_name="__main__", alter_sys=True)
    finally:
        # A forked process ends without them.
        atexit._run_exitfuncs()

"""Cost of a command: wall-clock time, processor time, and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_runtime.errors import EdgeemoError

# A small separate process: Linux counts the memory of the parent at the start of a child as the child's peak.
_MEASURE = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6]))
sys.exit(done.returncode)
"""


class Cost(NamedTuple):
    """Cost of a command.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: processor time of the command and its helpers.
        peak_mb: largest resident set of the command or of one of its helpers, in MB of a million bytes (``ru_maxrss``
            of getrusage(2), as Linux counts it).
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def cost_of(command: Sequence[object], cwd: Path | None = None) -> Cost:
    """Run a command, in the present directory by default, and return its cost.

    Raises:
        EdgeemoError: it fails; the message is the last line of its error stream.
    """
    words = [sys.executable, "-c", _MEASURE, *map(str, command)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise EdgeemoError(last.removeprefix("Error: "))
    return Cost(*json.loads(done.stdout))


def edgeemo_cost(*arguments: object) -> Cost:
    """Run `edgeemo` with arguments and return its cost.

    Raises:
        EdgeemoError: it fails.
    """
    try:
        return cost_of([sys.executable, "-m", "edge_runtime", *arguments])
    except EdgeemoError as error:
        raise EdgeemoError(f"edgeemo {arguments[0]} failed: {error.message}") from error


def set_options(settings: Sequence[str]) -> list[str]:
    """Return settings of a recipe as options of `edgeemo distill`.

    >>> set_options(["seed=1"])
    ['--set', 'seed=1']
    """
    return [word for setting in settings for word in ("--set", setting)]

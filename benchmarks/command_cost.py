"""What a command costs: wall-clock time, processor time, and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from edge_runtime.errors import EdgeemoError

# A small process of its own: Linux counts what the parent holds when it starts a child as the child's own peak.
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
    """What a command took.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: processor time of the command and its helpers.
        peak_mb: largest resident set of the command or of one of its helpers, in MB of a million bytes (``ru_maxrss``
            of getrusage(2), as Linux counts it).
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def cost_of(*arguments: object) -> Cost:
    """Run `edgeemo` with arguments and return what it took.

    Raises:
        EdgeemoError: it fails; the sentence is its own.
    """
    words = [str(each) for each in arguments]
    command = [sys.executable, "-c", _MEASURE, sys.executable, "-m", "edge_runtime", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return_code = f"exit code {done.returncode}"
        last = (done.stderr.strip().splitlines() or [return_code])[-1].removeprefix("Error: ")
        raise EdgeemoError(f"edgeemo {words[0] if words else ''} failed: {last}")
    return Cost(*json.loads(done.stdout))


def edgeemo_words(settings: Sequence[str]) -> list[str]:
    """Return settings of a recipe as options of `edgeemo distill`.

    >>> edgeemo_words(["seed=1"])
    ['--set', 'seed=1']
    """
    return [word for setting in settings for word in ("--set", setting)]

"""The files and commands of the system, below a root: the machine's own, or a directory laid out like one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND_SECONDS = 5.0
"""How long a command of the system may take."""
PROBE_SECONDS = 20.0
"""How long a library of the system may take to tell what it knows."""
_PLACES = ("usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin")


class System:
    """Reads files and runs commands.

    Args:
        root: what stands for ``/``.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, absolute: str) -> Path:
        """Return where a path of the system lies."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """Return the text of a file without the zero bytes and white space at its end; None if it cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace").rstrip("\0\n\t ")
        except OSError:
            return None

    def find(self, pattern: str) -> list[Path]:
        """Return the paths that fit a pattern such as ``/dev/snd/pcm*c``, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def run(self, name: str, *arguments: str) -> str | None:
        """Return what a command of the system prints; None if it is not there, fails or takes too long."""
        program = next((path for place in _PLACES if (path := self.root / place / name).is_file()), None)
        if program is None:
            return None
        try:
            done = subprocess.run(
                [str(program), *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"LC_ALL": "C"},
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None


def there(path: Path) -> bool:
    """Return whether a path is there, as far as this user may see."""
    try:
        return path.exists()
    except OSError:
        # Within a folder that may not be looked into.
        return False


class ProbeError(Exception):
    """A probe did not end, or ended badly."""


def probe(module: str, seconds: float = PROBE_SECONDS) -> dict[str, Any]:
    """Return what a module prints as JSON when it is run in a process of its own.

    Native libraries of the system may hang, crash, or write to the error stream: that is kept away from us.

    Args:
        module: full name of the module.
        seconds: how long it may take.

    Raises:
        ProbeError: it hung, crashed, or gave no answer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer within {seconds:g} s") from error
    except OSError as error:
        raise ProbeError(f"cannot be started ({error.strerror})") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProbeError(f"ended with code {done.returncode}: {last}")
    try:
        # A library may have written lines of its own before the answer.
        told: dict[str, Any] = json.loads(done.stdout.rpartition("\n")[2])
    except json.JSONDecodeError as error:
        raise ProbeError(f"gave no answer: {done.stdout[-80:]!r}") from error
    return told

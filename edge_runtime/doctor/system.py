"""The files and commands of a system, below a root: this machine's, or a directory with the same layout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

COMMAND_SECONDS = 5.0
_PLACES = ("usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin")


class System:
    """Reads files and runs commands below a root, a directory in the place of ``/``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, absolute: str) -> Path:
        """Return where a path of the system lies."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """Return the text of a file without zero bytes and white space at its end; None if it cannot be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace").rstrip("\0\n\t ")
        except OSError:
            return None

    def find(self, pattern: str) -> list[Path]:
        """Return the paths that match a pattern such as ``/dev/snd/pcm*c``, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def run(self, name: str, *arguments: str) -> str | None:
        """Return the output of a command of the system; None if there is none, or it fails or takes too long."""
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


def exists(path: Path) -> bool:
    """Return whether a path exists, as far as this user may see."""
    try:
        return path.exists()
    except OSError:
        # Within a directory without the right to search it.
        return False

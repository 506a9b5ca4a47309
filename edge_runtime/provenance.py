"""How a file was made: command line, time and commit."""

from __future__ import annotations

import datetime
import re
import shlex
import subprocess
import sys
from pathlib import Path

_ABSOLUTE = re.compile(r"""(^|[=\["', ]|:(?!//)|file://)/(?:[^/"']+/)*([^/"']+)/?""")
"""An absolute path, alone or after the ``=`` of ``NAME=PATH`` or the ``:`` of ``file:PATH``, and its last name."""


def command_line() -> str:
    """Return the command line of this process, with absolute paths reduced to their last names."""
    arguments = [_ABSOLUTE.sub(r"\1\2", word) for word in sys.argv[1:]]
    return f"{_program()} {shlex.join(arguments)}".strip()


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def commit() -> str:
    """Return the commit of the source tree, with ``-dirty`` if it was changed; empty outside a checkout."""
    try:
        # In a virtual environment within another project's checkout, git does not track this file.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("describe", "--always", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
    )
    return answer.stdout.strip()


def _program() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is None or spec.name in ("edge_runtime.__main__", "__main__"):
        return "edgeemo"
    return f"python -m {spec.name}"

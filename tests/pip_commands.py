"""pip as tests call it: for other environments, with the cache of the user's, again where a network stalls."""

import os
import subprocess
import sys

import pytest

from tests.command import run
from tests.conftest import USERS_CACHE

TRIES = 3
PATIENCE = 120
"""Seconds of a try, for networks that stall; what a try fetched whole is in pip's cache for the next one."""


def pip(python, *arguments):
    """Run pip for an environment, again where it stalls or fails; fail with the error of the last try."""
    # Ours: an environment that gets a pip of its own takes longer than what is tried in it.
    options = ["--python", python, "--no-input", "--disable-pip-version-check", "--timeout", "20"]
    command = [sys.executable, "-m", "pip", *options, *arguments]
    error = ""
    for _ in range(TRIES):
        try:
            # Its cache lies in the user's, where `make` left the wheels that it fetched.
            done = run(*command, env=clean() | {"XDG_CACHE_HOME": str(USERS_CACHE)}, timeout=PATIENCE)
        except subprocess.TimeoutExpired as stalled:
            error = f"nothing came of it in {PATIENCE} s: {stalled.stderr!r}"
            continue
        if done.returncode == 0:
            return done.stdout
        error = done.stderr
    pytest.fail(f"pip {' '.join(map(str, arguments))}, {TRIES} times: {error}")


def clean():
    """Return this process' environment without what would let another one import the source tree."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

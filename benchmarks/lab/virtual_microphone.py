"""A virtual microphone: PulseAudio's null sink as an input of ALSA and PortAudio.

The microphone records the audio played into the sink. Needs PulseAudio and ALSA's plug-ins (Debian:
``pulseaudio pulseaudio-utils libasound2-plugins``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import EdgeemoError, MissingPartError

PROGRAMS = ("pulseaudio", "pactl", "pacat")
_ASOUND = """</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
"""
# The virtual microphone, as the default of clients.
_MODULES = (
    ("load-module", "module-null-sink", "sink_name=speaker", "rate=48000", "channels=2"),
    ("load-module", "module-remap-source", "master=speaker.monitor", "source_name=virtual_mic"),
    ("set-default-source", "virtual_mic"),
    ("set-default-sink", "speaker"),
)
_SECONDS = 20


@contextmanager
def virtual_microphone(folder: Path) -> Iterator[dict[str, str]]:
    """Run a separate sound server.

    Args:
        folder: an empty directory for its files; with a short path, since it contains sockets.

    Yields:
        The environment for programs that use the server, with the microphone as the default input.

    Raises:
        MissingPartError: PulseAudio is not installed.
        EdgeemoError: it does not start.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise MissingPartError(
            f"{', '.join(missing)} not found; run: sudo apt-get install pulseaudio pulseaudio-utils libasound2-plugins"
        )
    folder.chmod(0o700)
    (folder / "asoundrc").write_text(_ASOUND)
    environment = os.environ | {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_RUNTIME_PATH": str(folder / "pulse"),
        "ALSA_CONFIG_PATH": str(folder / "asoundrc"),
    }
    options = ["--daemonize=no", "--exit-idle-time=-1", "--disallow-exit", "-n", "--log-target=stderr"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            ["pulseaudio", *options, "--load=module-native-protocol-unix"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode:
            if server.poll() is not None or time.monotonic() > deadline:
                raise EdgeemoError(f"PulseAudio does not start: {(folder / 'log').read_text().strip()}")
            time.sleep(0.1)
        plug_in(environment)
        yield environment
    finally:
        server.terminate()
        server.wait(timeout=_SECONDS)


def plug_in(environment: Mapping[str, str]) -> None:
    """Add the microphone, as if it were plugged in."""
    for arguments in _MODULES:
        _pactl(environment, *arguments)


def pull_out(environment: Mapping[str, str]) -> None:
    """Remove the microphone, as if it were unplugged."""
    for module in ("module-remap-source", "module-null-sink"):
        _pactl(environment, "unload-module", module)


def _pactl(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(["pactl", *arguments], env=dict(environment), check=True, capture_output=True, timeout=_SECONDS)

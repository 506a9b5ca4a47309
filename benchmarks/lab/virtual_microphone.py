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
NAMES = ("front-left", "front-right", "rear-left", "rear-right", "front-center", "lfe")
"""Of the channels, in ALSA's order: the server mixes those of other names."""


def _modules(channels: int) -> tuple[tuple[str, ...], ...]:
    """Return the commands that add the microphone, the default of clients."""
    names = ",".join(NAMES[:channels])
    shape = (f"channels={channels}", f"channel_map={names}")
    return (
        ("load-module", "module-null-sink", "sink_name=speaker", "rate=48000", *shape),
        (
            "load-module",
            "module-remap-source",
            "master=speaker.monitor",
            "source_name=virtual_mic",
            f"master_channel_map={names}",
            *shape,
            "remix=no",
        ),
        ("set-default-source", "virtual_mic"),
        ("set-default-sink", "speaker"),
    )


_SECONDS = 20


@contextmanager
def virtual_microphone(folder: Path, channels: int = 2) -> Iterator[dict[str, str]]:
    """Run a separate sound server.

    Args:
        folder: an empty directory for its files; with a short path, since it contains sockets.
        channels: of the microphone, at 48 kHz; at most six.

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
        plug_in(environment, channels)
        yield environment
    finally:
        server.terminate()
        server.wait(timeout=_SECONDS)


def plug_in(environment: Mapping[str, str], channels: int = 2) -> None:
    """Add the microphone, as if it were plugged in."""
    for arguments in _modules(channels):
        _pactl(environment, *arguments)


def pull_out(environment: Mapping[str, str]) -> None:
    """Remove the microphone, as if it were unplugged."""
    for module in ("module-remap-source", "module-null-sink"):
        _pactl(environment, "unload-module", module)


def _pactl(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(["pactl", *arguments], env=dict(environment), check=True, capture_output=True, timeout=_SECONDS)

"""The sources of PulseAudio or PipeWire, by `pactl`; to PortAudio the server is one input of many channels."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_SECONDS = 2.0
_ALSA_ORDER = ("front-left", "front-right", "rear-left", "rear-right", "front-center", "lfe", "side-left", "side-right")
"""What ALSA's plug-in for PulseAudio calls channels; the server mixes those of other names, or gives silence."""
_SEPARABLE = (2, 4, 5, 6, 8)
"""Numbers of channels for which the plug-in uses the first of these names."""


@dataclass(frozen=True)
class ServerSource:
    """A source of the sound server.

    Attributes:
        name: as of ``pactl list short sources``.
        channels: names of its channels.
        sample_rate: in Hz.
        default: whether it is the default source.
    """

    name: str
    channels: tuple[str, ...] = ()
    sample_rate: int = 0
    default: bool = False

    @property
    def separable(self) -> bool:
        """Whether PortAudio can record its channels one by one."""
        count = len(self.channels)
        return count == 1 or (count in _SEPARABLE and self.channels == _ALSA_ORDER[:count])

    @property
    def monitor(self) -> bool:
        """Whether it gives what is played to an output."""
        return self.name.endswith(".monitor")


def server_sources() -> list[ServerSource]:
    """Return the sources of the server; none where no server or no `pactl` answers within seconds."""
    if shutil.which("pactl") is None:
        return []
    try:
        listed, default = _pactl("list", "sources"), os.environ.get("PULSE_SOURCE") or _default(_pactl("info"))
    except (OSError, subprocess.SubprocessError):
        return []
    return list(_parsed(listed, default))


def _pactl(*words: str) -> str:
    return subprocess.run(
        ["pactl", *words],
        capture_output=True,
        check=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"LC_ALL": "C"},
    ).stdout


def _default(info: str) -> str:
    return next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("Default Source: ")), "")


def _parsed(listed: str, default: str) -> Iterator[ServerSource]:
    for block in listed.split("Source #")[1:]:
        found = dict(line.strip().partition(": ")[::2] for line in reversed(block.splitlines()) if ": " in line)
        name = found.get("Name", "")
        rates = [word[:-2] for word in found.get("Sample Specification", "").split() if word.endswith("Hz")]
        channels = tuple(part.strip() for part in found.get("Channel Map", "").split(",") if part.strip())
        if name and rates and rates[0].isdigit() and channels:
            yield ServerSource(name, channels, int(rates[0]), name == default)


@contextmanager
def as_default_source(name: str) -> Iterator[None]:
    """Have what is opened inside record from a source of the server; the default one for an empty name."""
    before = os.environ.get("PULSE_SOURCE")
    if name:
        os.environ["PULSE_SOURCE"] = name
    try:
        yield
    finally:
        if name and before is None:
            del os.environ["PULSE_SOURCE"]
        elif before is not None:
            os.environ["PULSE_SOURCE"] = before

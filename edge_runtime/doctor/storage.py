"""Memory, room on the disks, the clock, and the engine cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.system import System, there
from edge_runtime.errors import EngineError
from edge_runtime.files import cache_directory
from edge_runtime.tensorrt.engine_cache import cached_engines, engines_directory
from edge_runtime.trusted_files import only_ours

MEMORY_MB = 300
"""What listening needs with room to spare: it takes up to 150 MB."""
ROOM_MB = 200
"""What engines and temporary files need with room to spare."""


def memory(system: System, least_mb: float = MEMORY_MB) -> Iterator[Finding]:
    """Look at how much memory programs can still have."""
    lines = (line.split() for line in (system.read("/proc/meminfo") or "").splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in lines if words[1:] and words[1].isdigit()}
    if "MemAvailable" not in sizes:
        yield Finding("memory", "unknown", "the system does not tell how much is available")
        return
    found = f"{sizes['MemAvailable']:.0f} of {sizes.get('MemTotal', 0):.0f} MB available"
    if sizes["MemAvailable"] < least_mb:
        remedy = "end what takes most of it: ps -eo rss,args --sort=-rss | head"
        yield Finding("memory", "can be better", found, remedy)
    else:
        yield Finding("memory", "ok", found)


def free_space(bundle: Path | None, least_mb: float = ROOM_MB) -> Iterator[Finding]:
    """Look at the disks of the cache, of temporary files and of the bundle."""
    places = {"cache": cache_directory(), "temporary files": Path(tempfile.gettempdir())}
    if bundle is not None and there(bundle):
        places["bundle"] = bundle
    for name, place in places.items():
        free = shutil.disk_usage(existing(place)).free / 1e6
        found = f"{place}: {free:.0f} MB"
        if free < least_mb:
            remedy = f"make room: du -xh {existing(place)} | sort -h | tail"
            yield Finding(f"free space, {name}", "can be better", found, remedy)
        else:
            yield Finding(f"free space, {name}", "ok", found)


def existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if there(each))


def clock(system: System) -> Iterator[Finding]:
    """Look at whether the clock is set by others: status events and the page show wall time."""
    if system.path("/run/systemd/timesync/synchronized").exists():
        yield Finding("clock", "ok", "synchronised")
        return
    said = system.run("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if said == "yes":
        yield Finding("clock", "ok", "synchronised")
    elif said == "no":
        yield Finding("clock", "can be better", "not synchronised: times may be wrong", "sudo timedatectl set-ntp true")
    else:
        yield Finding("clock", "unknown", "whether it is synchronised is not told (a container, say)", "timedatectl")


def engine_cache() -> Iterator[Finding]:
    """Look at the engine cache without making it."""
    directory = engines_directory()
    place = existing(directory)
    engines = cached_engines() if there(directory) else []
    held = ", ".join(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in engines) or "no engines yet"
    problem = unwritable(place)
    if problem:
        remedy = "export XDG_CACHE_HOME=DIRECTORY, one that you may write to"
        yield Finding("engine cache", "can be better", f"{directory}: cannot be written to ({problem}); {held}", remedy)
        return
    try:
        if place == directory:
            only_ours(directory, directory.stat())
    except EngineError:
        yield Finding("engine cache", "can be better", f"{directory}: others may write to it", f"chmod 700 {directory}")
        return
    yield Finding("engine cache", "ok", f"{directory}: writable; {held}")


def unwritable(folder: Path) -> str:
    """Return why no file can be made in a folder; "" where one can. Nothing is left behind."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)

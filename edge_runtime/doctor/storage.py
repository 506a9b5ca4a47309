"""Checks of memory, free space, the clock and the engine cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.doctor.finding import Finding, rated
from edge_runtime.doctor.system import System, exists
from edge_runtime.errors import EngineError
from edge_runtime.files import cache_directory
from edge_runtime.tensorrt.engine_cache import cached_engines, engines_directory
from edge_runtime.trusted_files import only_ours

MEMORY_MB = 300
"""Twice the memory of a listener."""
ROOM_MB = 200


def memory(system: System, least_mb: float = MEMORY_MB) -> Iterator[Finding]:
    """Check the memory that is available to programs."""
    lines = (line.split() for line in (system.read("/proc/meminfo") or "").splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in lines if words[1:] and words[1].isdigit()}
    if "MemAvailable" not in sizes:
        yield Finding("memory", "unknown", "the system does not report how much is available")
        return
    found = f"{sizes['MemAvailable']:.0f} of {sizes.get('MemTotal', 0):.0f} MB available"
    remedy = "end the largest processes: ps -eo rss,args --sort=-rss | head"
    yield rated("memory", sizes["MemAvailable"] >= least_mb, found, remedy)


def free_space(bundle: Path | None, least_mb: float = ROOM_MB) -> Iterator[Finding]:
    """Check the disks of the cache, of temporary files and of the bundle."""
    places = {"cache": cache_directory(), "temporary files": Path(tempfile.gettempdir())}
    if bundle is not None and exists(bundle):
        places["bundle"] = bundle
    for name, place in places.items():
        there = nearest(place)
        free = shutil.disk_usage(there).free / 1e6
        remedy = f"make room: du -xh {there} | sort -h | tail"
        yield rated(f"free space, {name}", free >= least_mb, f"{place}: {free:.0f} MB", remedy)


def nearest(path: Path) -> Path:
    """Return a path, or the nearest directory above it that exists."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if exists(each))


def clock(system: System) -> Iterator[Finding]:
    """Check whether the clock is synchronised: events carry wall time."""
    if exists(system.path("/run/systemd/timesync/synchronized")):
        answer: str | None = "yes"
    else:
        answer = system.run("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if answer in ("yes", "no"):
        found = "synchronised" if answer == "yes" else "not synchronised: times may be wrong"
        yield rated("clock", answer == "yes", found, "sudo timedatectl set-ntp true")
    else:
        yield Finding("clock", "unknown", "its synchronisation is unknown (as in a container)", "timedatectl")


def engine_cache() -> Iterator[Finding]:
    """Check the engine cache without creating it."""
    directory = engines_directory()
    place = nearest(directory)
    engines = cached_engines() if exists(directory) else []
    content = ", ".join(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in engines) or "no engines yet"
    found, remedy = "", ""
    if problem := unwritable(place):
        found = f"cannot be written to ({problem}); {content}"
        remedy = "export XDG_CACHE_HOME=DIRECTORY, one that you may write to"
    elif place == directory:
        try:
            only_ours(directory, directory.stat())
        except EngineError:
            found, remedy = "other users may write to it", f"chmod 700 {directory}"
    yield rated("engine cache", not found, f"{directory}: {found or f'writable; {content}'}", remedy)


def unwritable(folder: Path) -> str:
    """Return why no file can be created in a directory; "" where one can. No file remains."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)

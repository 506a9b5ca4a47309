"""Profiles on disk: ``$XDG_DATA_HOME/edgeemo/profiles/NAME.json``, readable by their owner only."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_runtime.errors import EdgeemoError, WrongUseError, next_step
from edge_runtime.files import checked_name, data_directory, replacing
from edge_runtime.speakers.profile import NEW_PROFILE, Profile, parse_profile
from edge_runtime.strict_json import shown

LARGEST_FILE = 4 << 20
"""Bytes; ten times the profile of the largest student."""
_SUFFIX = ".json"

Stamp = tuple[int, int, int]
"""Identity of a version of a file: inode, time of the last change, size."""


def profiles_directory() -> Path:
    """Return the directory of the profiles; it may not exist yet."""
    return data_directory() / "profiles"


def profile_path(name: str) -> Path:
    """Return the file of a profile; it may not exist.

    Raises:
        WrongUseError: an invalid name.
    """
    try:
        return profiles_directory() / f"{checked_name(name)}{_SUFFIX}"
    except ValueError as error:
        raise WrongUseError(f"'{shown(name)}': the name of a profile {error}") from None


def profile_names() -> list[str]:
    """Return the names of all profiles, sorted."""
    try:
        found = [path.name.removesuffix(_SUFFIX) for path in profiles_directory().iterdir() if path.suffix == _SUFFIX]
    except FileNotFoundError:
        return []
    # Hidden files are being written.
    return sorted(name for name in found if not name.startswith("."))


def read_profile(path: Path, remedy: str = NEW_PROFILE) -> Profile:
    """Read a profile's file; ``remedy`` ends the sentence about one that is damaged or no profile.

    Raises:
        EdgeemoError: it does not exist, cannot be read, is not a regular file, is too large, or is not a valid profile.
    """
    try:
        # Checked before opening: opening a device can have effects, and opening a pipe can block.
        if not stat.S_ISREG(path.lstat().st_mode):
            raise EdgeemoError(f"{path}: is not a regular file; give the file itself, no link")
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise EdgeemoError(f"{path}: changed while it was opened; try again")
            raw = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise EdgeemoError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror}){next_step(error)}") from error
    if len(raw) > LARGEST_FILE:
        raise EdgeemoError(f"{path}: is larger than {LARGEST_FILE >> 20} MB, so it is not a profile")
    return parse_profile(raw, str(path), remedy)


def load_profile(name: str) -> Profile:
    """Read a saved profile; its name must be that of its file.

    Raises:
        WrongUseError: an invalid name.
        EdgeemoError: as `read_profile`.
    """
    path = profile_path(name)
    if not os.path.lexists(path):
        raise EdgeemoError(f"{path}: there is no such profile; `edgeemo profile list` lists them")
    profile = read_profile(path)
    if profile.name != name:
        raise EdgeemoError(
            f"{path}: holds the profile '{profile.name}'; import it with: edgeemo profile import FILE --name NAME"
        )
    return profile


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile atomically, readable by its owner only.

    Raises:
        EdgeemoError: it cannot be written, as on a full disk.
    """
    with replacing(path, 0o600) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(profile.dump())
        file.flush()
        # A device may lose power at any time; the older file is already replaced.
        os.fsync(file.fileno())


def save_profile(profile: Profile) -> None:
    """Save a profile.

    Raises:
        EdgeemoError: it cannot be written, as on a full disk.
    """
    _make_directory()
    write_profile(profile, profile_path(profile.name))


@contextmanager
def profiles_locked() -> Iterator[None]:
    """Hold a lock on the directory of the profiles, for a change of one; wait for other processes first.

    Raises:
        OSError: the directory cannot be made or opened.
    """
    _make_directory()
    handle = os.open(profiles_directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some file systems have no locks.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make_directory() -> None:
    directory = profiles_directory()
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)


def remove_profile(name: str) -> bool:
    """Delete a profile, whatever its file contains, and leftovers of a crash; return whether it existed."""
    path = profile_path(name)
    # Names have no glob characters. "anna" must not match temporary files of "anna.json".
    for left in path.parent.glob(f".{path.name}.????????{_SUFFIX}"):
        left.unlink(missing_ok=True)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def remove_profiles() -> int:
    """Delete all profiles, whatever their names and content; return their number."""
    try:
        found = [path for path in profiles_directory().iterdir() if path.suffix == _SUFFIX]
    except FileNotFoundError:
        return 0
    for path in found:
        path.unlink(missing_ok=True)
    return sum(not path.name.startswith(".") for path in found)


def stamp(name: str) -> Stamp | None:
    """Return the identity of a profile's file; None if it does not exist.

    Raises:
        EdgeemoError: the file system reports an error.
    """
    path = profile_path(name)
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror}){next_step(error)}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size

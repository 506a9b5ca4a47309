"""Where profiles are kept: ``$XDG_DATA_HOME/edgeemo/profiles/NAME.json``, for their owner alone to read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import checked_name, data_directory, replacing
from edge_runtime.speakers.profile import Profile, parse_profile
from edge_runtime.strict_json import shown

LARGEST_FILE = 4 << 20
"""Bytes; the profile of the largest student that a bundle may hold is a tenth of it."""
_SUFFIX = ".json"

Stamp = tuple[int, int, int]
"""What tells one version of a file from another one: inode, time of the last change, size."""


def profiles_directory() -> Path:
    """Return the directory of the profiles; it may not be there yet."""
    return data_directory() / "profiles"


def profile_path(name: str) -> Path:
    """Return the file of a profile, which may not be there.

    Raises:
        WrongUseError: no profile can have that name.
    """
    try:
        return profiles_directory() / f"{checked_name(name)}{_SUFFIX}"
    except ValueError as error:
        raise WrongUseError(f"'{shown(name)}': the name of a profile {error}") from None


def profile_names() -> list[str]:
    """Return the names of the profiles that are there, in order."""
    try:
        found = [path.name.removesuffix(_SUFFIX) for path in profiles_directory().iterdir() if path.suffix == _SUFFIX]
    except FileNotFoundError:
        return []
    # Hidden ones are being written.
    return sorted(name for name in found if not name.startswith("."))


def read_profile(path: Path) -> Profile:
    """Read a profile's file.

    Raises:
        EdgeemoError: it is not there, cannot be read, is no regular file, is too large, or holds no valid profile.
    """
    try:
        # Asked before it is opened, since that alone can make a device act or a pipe wait.
        if not stat.S_ISREG(path.lstat().st_mode):
            raise EdgeemoError(f"{path}: is no regular file (a link to one is none), and a profile is one")
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise EdgeemoError(f"{path}: was changed while it was opened; try again")
            raw = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise EdgeemoError(f"{path}: there is no such profile; `edgeemo profile list` shows those that are") from error
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > LARGEST_FILE:
        raise EdgeemoError(f"{path}: is larger than {LARGEST_FILE >> 20} MB, so it is no profile")
    return parse_profile(raw, str(path))


def load_profile(name: str) -> Profile:
    """Read a profile that is kept, called as its file is.

    Raises:
        WrongUseError: no profile can have that name.
        EdgeemoError: as `read_profile`.
    """
    path = profile_path(name)
    profile = read_profile(path)
    if profile.name != name:
        raise EdgeemoError(
            f"{path}: holds the profile '{profile.name}'; bring a file in with: edgeemo profile import FILE --name NAME"
        )
    return profile


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile's file as a whole or not at all, for its owner alone.

    Raises:
        EdgeemoError: it cannot be written, as on a full disk.
    """
    with replacing(path, 0o600) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(profile.dump())
        file.flush()
        # A device may lose its power at any time; the older file is gone then.
        os.fsync(file.fileno())


def save_profile(profile: Profile) -> None:
    """Keep a profile.

    Raises:
        EdgeemoError: it cannot be written, as on a full disk.
    """
    path = profile_path(profile.name)
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_profile(profile, path)


def remove_profile(name: str) -> bool:
    """Delete a profile, whatever its file holds, and what a crash left of writing it; return whether it was there."""
    path = profile_path(name)
    for left in _leftovers(path):
        left.unlink(missing_ok=True)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def remove_profiles() -> int:
    """Delete every profile, whatever the files are called and hold; return how many there were."""
    try:
        found = [path for path in profiles_directory().iterdir() if path.suffix == _SUFFIX]
    except FileNotFoundError:
        return 0
    for path in found:
        path.unlink(missing_ok=True)
    return sum(not path.name.startswith(".") for path in found)


def stamp(name: str) -> Stamp | None:
    """Return which version of a profile's file is there; None for none.

    Raises:
        EdgeemoError: the system does not tell.
    """
    path = profile_path(name)
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror})") from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def _leftovers(path: Path) -> Iterator[Path]:
    # No name holds a character that means something to glob. "anna" must not take what is being written of "anna.json".
    yield from path.parent.glob(f".{path.name}.????????{_SUFFIX}")

"""Checks of profiles and bundles on disk that this edgeemo, or the bundle in use, no longer accepts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.bundles.manifest import MANIFEST
from edge_runtime.config import ListenSettings
from edge_runtime.doctor.finding import Finding
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_store import load_profile, profile_names, profile_path, profiles_directory
from edge_runtime.strict_json import shown

_LONGEST_NAME = 16


def bundles_in(folder: Path) -> Iterator[Finding]:
    """Check each bundle in a directory, as in one with a bundle for each update of a device."""
    for root in sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")):
        what = f"bundle {shown(root.name, _LONGEST_NAME)}"
        try:
            loaded = load_bundle(root)
        except EdgeemoError as error:
            # Not the user's own text, as that of other commands is: a stranger's directory may have any name.
            place = str(root.absolute())
            remedy = f"export it again, or remove it{f': rm -r {shlex.quote(place)}' * place.isprintable()}"
            yield Finding(what, "can be better", shown(error.message, 1000), remedy)
        else:
            found = f"{root}: complete, {loaded.hash[:12]}, schema version {loaded.manifest.schema_version}"
            yield Finding(what, "ok", shown(found, 1000))


def profiles(root: Path, settings: ListenSettings) -> Iterator[Finding]:
    """Check whether profiles can be read and are for a bundle; listen refuses one of the settings that is not."""
    try:
        bundle = load_bundle(root)
    except EdgeemoError:
        bundle = None  # reported already
    needed = {each.speaker.profile for each in settings.of_sources().values() if each.speaker.profile is not None}
    saved = profile_names()
    refused = {name: error for name in {*saved, *needed} if (error := _refused(name, bundle, saved, needed))}
    for name, error in sorted(refused.items()):
        what = f"profile {shown(name, _LONGEST_NAME)}"
        if name in needed:
            yield Finding(what, "missing", error.message, _remedy(name), error.exit_code)
        else:
            yield Finding(what, "can be better", error.message, _remedy(name))
    if usable := [name for name in saved if name not in refused]:
        yield Finding("profiles", "ok", f"{profiles_directory()}: {', '.join(usable)}")


def _refused(name: str, bundle: Bundle | None, saved: list[str], needed: set[str]) -> EdgeemoError | None:
    """Return why listen refuses a profile with a bundle; it creates one that is not saved yet."""
    try:
        if name in needed and bundle is not None:
            Profile.new(name, bundle)  # refuses a bundle without a speaker model
        if name in saved:
            profile = load_profile(name)
            if bundle is not None and bundle.speaker_model is not None:
                profile.require(bundle, str(profile_path(name)))
    except EdgeemoError as error:
        return error
    return None


def _remedy(name: str) -> str:
    try:
        profile_path(name)
    except WrongUseError:
        return f"remove its file from {profiles_directory()}"
    return f"edgeemo profile rm {name}, then a new one with: edgeemo teach {name}"

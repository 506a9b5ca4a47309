"""Recorded rooms, noise and music for conditions, without those that the bundle was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.speech.sound_files import sound_files
from edge_runtime.errors import WrongUseError
from edge_runtime.files import sha256

MUSIC = "music"
"""Noise in a directory of this name is music."""
SIMULATED = "rooms and noise only simulated"
"""Note of a report without recordings."""


@dataclass(frozen=True)
class TestRecordings:
    """Recordings that a bundle may be tested with.

    Attributes:
        rooms: files of room impulse responses.
        noises: files of noise other than music.
        music: files of music.
        notes: for the report: what was recorded, what is simulated, what was left out.
    """

    __test__ = False  # pytest collects classes of this name otherwise

    rooms: tuple[Path, ...] = ()
    noises: tuple[Path, ...] = ()
    music: tuple[Path, ...] = ()
    notes: tuple[str, ...] = (SIMULATED,)


def held_out_recordings(rooms: Sequence[Path], noises: Sequence[Path], recipe: Mapping[str, Any]) -> TestRecordings:
    """Return the recordings of some directories, without files with the content of one that was trained with.

    Other files of a room or a place that was trained with are not recognised: give directories of other rooms.

    Args:
        rooms: directories of room impulse responses.
        noises: directories of noise; below a directory called `MUSIC`, of music.
        recipe: of the bundle.

    Raises:
        WrongUseError: a directory is missing, holds no audio, or nothing that the bundle was not trained with.
        EdgeemoError: a file is not readable as audio.
    """
    if not rooms and not noises:
        return TestRecordings()
    trained, notes = _trained_with(recipe)
    files: dict[str, list[Path]] = {"rooms": [], "noise": [], MUSIC: []}
    for option, kind, directories in (("--rooms", "rooms", rooms), ("--noises", "noise", noises)):
        for directory in directories:
            whole, top = sound_files(directory), directory.resolve().name
            own = [path for path in whole if sha256(path) not in trained]
            if not own:
                raise WrongUseError(
                    f"{option} {directory}: the bundle was trained with all of these recordings; give others"
                )
            notes.append(f"recorded {kind} in '{top}' (files: {len(own)})")
            if len(own) < len(whole):
                notes.append(f"left out of '{top}', since used in training (files: {len(whole) - len(own)})")
            for path in own:
                music = kind == "noise" and MUSIC in (top, *path.relative_to(directory).parent.parts)
                files[MUSIC if music else kind].append(path)
        if not directories:
            notes.append(f"{kind} only simulated")
    return TestRecordings(tuple(files["rooms"]), tuple(files["noise"]), tuple(files[MUSIC]), tuple(notes))


def _trained_with(recipe: Mapping[str, Any]) -> tuple[set[str], list[str]]:
    """Return the sha256 of each recording that a recipe's augmentation names, and notes on what was not found."""
    how = recipe.get("student", {}).get("augmentation", {})
    trained: set[str] = set()
    notes = []
    for directory in (Path(each) for key in ("rooms", "noises") for each in how.get(key, ())):
        if directory.is_dir():
            trained |= {sha256(path) for path in sound_files(directory)}
        else:
            notes.append(
                f"the bundle was trained with recordings in '{directory.name}', which is not on this machine: "
                "whether any of them are tested is not known"
            )
    return trained, notes

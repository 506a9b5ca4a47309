"""The map that tells voices apart, as a file of the bundle and what the manifest says of it."""

from __future__ import annotations

from pathlib import Path

from distill.student import Student
from edge_runtime.bundles.manifest import SPEAKER_PROJECTION, SpeakerEntry, SpeakerProjectionEntry


def write_voices(student: Student, folder: Path) -> None:
    """Write the student's map, if it has one, to a staged bundle: little-endian float32 ``[directions, D]``."""
    directions = student.voice_directions()
    if directions is not None:
        (folder / SPEAKER_PROJECTION).write_bytes(directions.detach().cpu().numpy().astype("<f4").tobytes())


def speaker_entry(student: Student) -> SpeakerEntry | None:
    """Return how the student gets to know its speaker; None where it does not."""
    config = student.config
    if not config.speaker_trust:
        return None
    projection = (
        SpeakerProjectionEntry(directions=config.voices, threshold=config.voice_threshold) if config.voices else None
    )
    return SpeakerEntry(trust=config.speaker_trust, projection=projection)

"""The speaker-embedding projection as a file of the bundle, and its entry in the manifest."""

from __future__ import annotations

from pathlib import Path

from distill.student import Student
from edge_runtime.bundles.manifest import SPEAKER_PROJECTION, SpeakerEntry, SpeakerProjectionEntry


def write_speaker_projection(student: Student, folder: Path) -> None:
    """Write the student's projection, if it has one, to a staged bundle: little-endian float32 ``[directions, D]``."""
    projection = student.centred_speaker_projection()
    if projection is not None:
        (folder / SPEAKER_PROJECTION).write_bytes(projection.detach().cpu().numpy().astype("<f4").tobytes())


def speaker_entry(student: Student) -> SpeakerEntry | None:
    """Return the settings of the student's speaker normalisation; None for a student without it."""
    config = student.config
    if not config.speaker_trust:
        return None
    projection = None
    if config.speaker_embedding_size:
        projection = SpeakerProjectionEntry(
            directions=config.speaker_embedding_size, threshold=config.speaker_change_threshold
        )
    return SpeakerEntry(trust=config.speaker_trust, projection=projection)

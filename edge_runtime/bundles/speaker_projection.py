"""Speaker embeddings: a linear projection of the graph's statistics in which speakers lie apart and emotions do not.

It is fitted on the training speakers (`distill/heads/speaker_embedding.py`). The statistics exist anyway, so it costs
the device only its file: little-endian float32 ``[directions, D]``, row by row. The embedding of one utterance is
unreliable; the mean of three to five identifies a speaker.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.manifest import LARGEST_STATISTIC
from edge_runtime.errors import EdgeemoError

Floats = npt.NDArray[np.floating]


class SpeakerProjection:
    """Maps statistics to speaker embeddings.

    Args:
        directions: ``[k, D]`` the projection.
        origin: ``[1, D]`` the training mean, whose embedding is zero.
        threshold: cosine below which two embeddings belong to different speakers.
    """

    def __init__(self, directions: Floats, origin: Floats, threshold: float) -> None:
        self._directions = np.asarray(directions, np.float32)
        self._origin = np.asarray(origin, np.float32).reshape(-1)
        self.threshold = threshold

    def embed(self, statistics: Floats) -> npt.NDArray[np.float64]:
        """Return the embedding ``[k]`` of statistics ``[D]``; it is linear, so means may be taken before or after."""
        return np.asarray(self._directions @ (np.asarray(statistics, np.float32) - self._origin), np.float64)


def cosine(one: Floats, other: Floats) -> float:
    """Return the cosine similarity of two embeddings, -1 to 1; 0 if one of them is zero."""
    size = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0


def read_directions(content: bytes, count: int, where: str) -> npt.NDArray[np.float32]:
    """Return the projection ``[count, D]`` from the content of a bundle's file, which has the right size.

    Raises:
        EdgeemoError: a value is not a number or implausibly large.
    """
    directions = np.frombuffer(content, "<f4").astype(np.float32).reshape(count, -1)
    # NaN fails too.
    if not (np.abs(directions) <= LARGEST_STATISTIC).all():
        raise EdgeemoError(
            f"{where}: holds a value that is not a number or is beyond {LARGEST_STATISTIC:g}; do not trust this bundle"
        )
    return directions

"""Who is it? A space in which people's usual voices lie apart and one person's emotions lie close together.

A linear map of the statistics that the graph gives anyway, learnt from the training speakers (`distill.heads`),
so it costs the device nothing but its file: little-endian float32 ``[directions, D]``, row by row. One utterance says
little in it, the mean of three to five says enough.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.manifest import LARGEST_STATISTIC
from edge_runtime.errors import EdgeemoError

Floats = npt.NDArray[np.floating]


class VoiceSpace:
    """Places of voices, and how alike two of them are.

    Args:
        directions: ``[k, D]`` the map.
        origin: ``[1, D]`` the training mean, which lies at zero.
        threshold: cosine under which two places are of two people.

    Attributes:
        threshold: the same.
    """

    def __init__(self, directions: Floats, origin: Floats, threshold: float) -> None:
        self._directions = np.asarray(directions, np.float32)
        self._origin = np.asarray(origin, np.float32).reshape(-1)
        self.threshold = threshold

    def place(self, statistics: Floats) -> npt.NDArray[np.float32]:
        """Return the place ``[k]`` of statistics ``[D]``; the mean of some places is the place of their mean."""
        return np.asarray(self._directions @ (np.asarray(statistics, np.float32) - self._origin))


def likeness(one: Floats, other: Floats) -> float:
    """Return the cosine of two places, -1 to 1; 0 where one of them is the training mean."""
    size = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0


def read_directions(content: bytes, count: int, where: str) -> npt.NDArray[np.float32]:
    """Return the map ``[k, D]`` that a file of a bundle holds.

    Args:
        content: of the file, of the right size.
        count: k, how many directions there are.
        where: name of the file, for messages.

    Raises:
        EdgeemoError: it holds what is no number of such a map.
    """
    directions = np.frombuffer(content, "<f4").astype(np.float32).reshape(count, -1)
    # NaN fails too.
    if not (np.abs(directions) <= LARGEST_STATISTIC).all():
        raise EdgeemoError(
            f"{where}: holds what is no number or is beyond {LARGEST_STATISTIC:g}; do not trust this bundle"
        )
    return directions

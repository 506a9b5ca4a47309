"""Score whole audio files with the window policy, given a function from windows to logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.decision import Floats, softmax
from edge_runtime.dimensions import on_scale
from edge_runtime.engines.engine import Outputs, Scores
from edge_runtime.sources.audio import Pcm, read_audio
from edge_runtime.windows import WindowPolicy, clip_windows

Score = Callable[[list[Pcm]], Outputs]
"""Maps some windows, of any lengths, to their logits and dimensions, as `Engine.outputs`."""
ScoreOne = Callable[[Pcm], Scores]
"""Maps a window to its outputs, as `Engine.score`."""


class ClipResult(NamedTuple):
    """Outputs for a whole clip.

    Attributes:
        probabilities: ``[C]``, the mean over its windows.
        statistics: ``[W, D]`` of each window.
        dimensions: ``[K]`` from 0 to 1, the mean over its windows; empty for a graph without dimensions.
    """

    probabilities: npt.NDArray[np.float64]
    statistics: npt.NDArray[np.float32]
    dimensions: npt.NDArray[np.float64]


def score_clip(
    score: ScoreOne,
    pcm: Pcm,
    policy: WindowPolicy,
    *,
    temperature: float = 1.0,
) -> ClipResult:
    """Score one clip by the graph's logits."""
    found = [score(pcm[start:end]) for start, end in clip_windows(len(pcm), policy)]
    each = softmax(np.stack([one.logits for one in found]), temperature)
    dimensions = on_scale(np.stack([one.dimensions for one in found]).mean(axis=0))
    return ClipResult(each.mean(axis=0), np.stack([one.statistics for one in found]), dimensions)


@dataclass(frozen=True)
class ClipScores:
    """Outputs for all windows of some clips.

    Attributes:
        logits: ``[W, C]``.
        owner: ``[W]``, the clip that each belongs to.
        dimensions: ``[W, K]``; None for a system without dimensions.
    """

    logits: Floats
    owner: npt.NDArray[np.int64]
    dimensions: Floats | None = None

    def probabilities(self, temperature: float = 1.0) -> npt.NDArray[np.float64]:
        """Return ``[clips, C]``: each clip's mean over its windows of the calibrated probabilities."""
        return self._means(softmax(self.logits, temperature))

    def clip_dimensions(self) -> npt.NDArray[np.float64]:
        """Return ``[clips, K]`` from 0 to 1: each clip's mean over its windows."""
        assert self.dimensions is not None
        return on_scale(self._means(self.dimensions))

    def _means(self, each: Floats) -> npt.NDArray[np.float64]:
        """Return the mean ``[clips, ...]`` of rows of windows over those of each clip."""
        count = int(self.owner.max()) + 1
        total = np.zeros((count, each.shape[1]))
        np.add.at(total, self.owner, each)
        return np.asarray(total / np.bincount(self.owner, minlength=count)[:, None])


def score_clips(score: Score, paths: Iterable[Path], policy: WindowPolicy, *, batch_size: int = 32) -> ClipScores:
    """Score every window of every file; one file and ``batch_size`` windows are in memory at a time.

    Raises:
        EdgeemoError: a file cannot be read.
    """
    found: list[Outputs] = []
    owner: list[int] = []
    pending: list[Pcm] = []
    for number, path in enumerate(paths):
        pcm = read_audio(path)
        for start, end in clip_windows(len(pcm), policy):
            pending.append(pcm[start:end])
            owner.append(number)
        # A long file alone has more windows than a batch.
        while len(pending) >= batch_size:
            found.append(score(pending[:batch_size]))
            pending = pending[batch_size:]
    if pending:
        found.append(score(pending))
    logits, dimensions = (np.concatenate(each) for each in zip(*found, strict=True))
    return ClipScores(logits, np.array(owner), dimensions if dimensions.shape[1] else None)

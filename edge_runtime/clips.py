"""Score whole audio files with the window policy, given a function from windows to logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.decision import Floats, softmax
from edge_runtime.engines.engine import Scores
from edge_runtime.sources.audio import Pcm, read_audio
from edge_runtime.windows import WindowPolicy, clip_windows

Score = Callable[[list[Pcm]], Floats]
"""Maps some windows, of any lengths, to their logits ``[len(windows), classes]``."""
ScoreOne = Callable[[Pcm], Scores]
"""Maps a window to logits and statistics, as `Engine.score`."""


class ClipResult(NamedTuple):
    """Probabilities ``[C]`` of a whole clip, the mean over its windows, and statistics ``[W, D]`` of each window."""

    probabilities: npt.NDArray[np.float64]
    statistics: npt.NDArray[np.float32]


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
    return ClipResult(each.mean(axis=0), np.stack([one.statistics for one in found]))


@dataclass(frozen=True)
class ClipScores:
    """Logits ``[W, C]`` of all windows of some clips, and the clip ``[W]`` that each belongs to."""

    logits: Floats
    owner: npt.NDArray[np.int64]

    def probabilities(self, temperature: float = 1.0) -> npt.NDArray[np.float64]:
        """Return ``[clips, C]``: each clip's mean over its windows of the calibrated probabilities."""
        each = softmax(self.logits, temperature)
        count = int(self.owner.max()) + 1
        total = np.zeros((count, each.shape[1]))
        np.add.at(total, self.owner, each)
        return np.asarray(total / np.bincount(self.owner, minlength=count)[:, None])


def score_clips(score: Score, paths: Iterable[Path], policy: WindowPolicy, *, batch_size: int = 32) -> ClipScores:
    """Score every window of every file; one file and ``batch_size`` windows are in memory at a time.

    Raises:
        EdgeemoError: a file cannot be read.
    """
    logits: list[Floats] = []
    owner: list[int] = []
    pending: list[Pcm] = []
    for number, path in enumerate(paths):
        pcm = read_audio(path)
        for start, end in clip_windows(len(pcm), policy):
            pending.append(pcm[start:end])
            owner.append(number)
        # A long file alone has more windows than a batch.
        while len(pending) >= batch_size:
            logits.append(score(pending[:batch_size]))
            pending = pending[batch_size:]
    if pending:
        logits.append(score(pending))
    return ClipScores(np.concatenate(logits), np.array(owner))

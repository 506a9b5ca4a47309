"""Whether single channels of a source carry speech now, by Silero VAD on their last second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import soxr

from edge_runtime.sources.silero import FRAME, RATE, SileroDetector

_SECONDS = 1.0
_MOST = 4
"""Channels that are examined at once."""
_HOPS_PER_CHANNEL, _HOPS_IF_OFTEN = 8, 3
"""Hops of 100 ms between two examinations, for each channel that is examined: it takes 4 ms of processor time."""
_QUANTILE = 0.75
_KEPT_IN_USE, _KEPT = 0.9, 0.7
"""What remains of a probability at the next examination: a speaker pauses for seconds, music is like speech briefly."""


class SpeechProbe:
    """Probabilities of speech in some channels, examined at intervals.

    Args:
        channels: number of channels.
        rate: samples per second.

    Attributes:
        examined_now: whether the last call of `probabilities` examined channels.
    """

    def __init__(self, channels: int, rate: int) -> None:
        # Means of neighbouring samples: a coarse filter is enough to detect speech, and bounds the memory.
        self._step = max(1, rate // RATE)
        self._rate = rate / self._step
        self._recent = np.zeros((0, channels), np.float32)
        self._probabilities = np.full(channels, np.nan)
        self._detector = SileroDetector()
        self._pause = 0
        self.examined_now = False

    def add(self, frames: npt.NDArray[np.float32]) -> None:
        """Add a hop ``[S, C]``."""
        whole = frames[: len(frames) // self._step * self._step]
        coarse = sum(whole[start :: self._step] for start in range(self._step)) / np.float32(self._step)
        self._recent = np.concatenate([self._recent, coarse])[-round(_SECONDS * self._rate) :]
        self._pause = max(0, self._pause - 1)

    def probabilities(self, groups: Sequence[Sequence[int]], used: Sequence[int]) -> list[float]:
        """Return the probability of speech of each group of channels with the same content.

        It is that of the last second, examined by the first channel of a group, or a part of the one before.

        Args:
            groups: channels, with the same content in each group.
            used: channels in use because of their speech; without any, examinations are more frequent.
        """
        self.examined_now = self._pause == 0 or any(
            np.isnan(self._probabilities[list(group)]).all() for group in groups
        )
        if self.examined_now:
            self._examine(groups[:_MOST], set(used))
            self._pause = (_HOPS_PER_CHANNEL if used else _HOPS_IF_OFTEN) * min(len(groups), _MOST)
        # Those beyond the most that are examined count as unlikely.
        return [float(np.nan_to_num(self._probabilities[list(group)]).max()) for group in groups]

    def _examine(self, groups: Sequence[Sequence[int]], used: set[int]) -> None:
        for group in groups:
            found = self._probability(self._recent[:, group[0]])
            kept = _KEPT_IN_USE if used & set(group) else _KEPT
            before = np.nan_to_num(self._probabilities[list(group)]) * kept
            self._probabilities[list(group)] = np.maximum(before, found)

    def _probability(self, pcm: npt.NDArray[np.float32]) -> float:
        peak = float(np.abs(pcm).max(initial=0.0))
        if not peak:
            return 0.0
        pcm = np.asarray(soxr.resample(pcm, self._rate, RATE, quality="LQ"), np.float32)
        self._detector.reset()
        found = self._detector.probabilities(pcm[: len(pcm) // FRAME * FRAME])
        return float(np.quantile(found, _QUANTILE)) if found else 0.0

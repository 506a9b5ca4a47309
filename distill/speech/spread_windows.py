"""Windows of real speech from a run's own fold, for calibration and parity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from distill.corpus import Utterance
from edge_runtime.sources.audio import Pcm, read_audio
from edge_runtime.windows import WindowPolicy, clip_windows


def spread_windows(utterances: Sequence[Utterance], policy: WindowPolicy, count: int) -> Iterator[Pcm]:
    """Yield the first window of ``count`` utterances, spread evenly over all of them; fewer if there are fewer."""
    chosen = np.linspace(0, len(utterances) - 1, min(count, len(utterances))).astype(int)
    for index in chosen:
        pcm = read_audio(utterances[index].path)
        start, end = clip_windows(len(pcm), policy)[0]
        yield pcm[start:end]

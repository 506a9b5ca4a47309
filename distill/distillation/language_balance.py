"""Making up for languages of which there is little speech. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.metrics import Floats


def language_weights(utterances: Sequence[Utterance], power: float) -> Floats | None:
    """Return ``(1 / utterances of its language)^power`` for each utterance ``[N]``, 1 on average; None for power 0."""
    if not power:
        return None
    counts = Counter(item.language for item in utterances)
    weights = np.array([float(counts[item.language]) ** -power for item in utterances])
    return np.asarray(weights / weights.mean())

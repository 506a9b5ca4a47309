"""Scores of utterances by the cached statistics of a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from distill.corpus import Utterance
from distill.scoring import student_score
from distill.student import Student
from distill.training.frozen_statistics import FrozenStatistics
from edge_runtime.clips import ClipScores, score_clips
from edge_runtime.windows import WindowPolicy


def frozen_scores(
    student: Student, statistics: FrozenStatistics, utterances: Sequence[Utterance], policy: WindowPolicy
) -> ClipScores:
    """Score all windows of some utterances, as the device would.

    Most utterances are a single window, whose statistics are cached; the encoder processes only the windows of longer
    ones, and of those whose length is not in the corpus.
    """
    single = [0 < item.seconds < policy.seconds for item in utterances]
    whole = [number for number, is_single in enumerate(single) if is_single]
    longer = [number for number, is_single in enumerate(single) if not is_single]
    parts = []
    if whole:
        rows = np.stack([statistics.of(utterances[number]) for number in whole])
        with torch.inference_mode():
            logits = student.eval().decide(torch.from_numpy(rows).to(student.reference.device)).logits
        parts.append(ClipScores(logits.cpu().numpy(), np.array(whole)))
    if longer:
        found = score_clips(student_score(student), [utterances[number].path for number in longer], policy)
        parts.append(ClipScores(found.logits, np.array(longer)[found.owner]))
    return ClipScores(np.concatenate([part.logits for part in parts]), np.concatenate([part.owner for part in parts]))

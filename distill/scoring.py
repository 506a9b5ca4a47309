"""A student in PyTorch as a function from windows to logits."""

from __future__ import annotations

import numpy as np
import torch

from distill.audio_data import Item, collate_windows
from distill.student import Student
from edge_runtime.audio import Pcm
from edge_runtime.clips import Score
from edge_runtime.decision import Floats


def student_score(student: Student) -> Score:
    """Return the function that scores windows with ``student``, for `edge_runtime.clips.score_clips`."""
    student.eval()
    device = student.reference.device

    def score(windows: list[Pcm]) -> Floats:
        batch = collate_windows([Item(pcm, label=0, targets={}) for pcm in windows])
        with torch.inference_mode():
            output = student(batch["pcm"].to(device), batch["lengths"].to(device))
        return np.asarray(output.logits.cpu().numpy())

    return score

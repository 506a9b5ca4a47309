"""A student in PyTorch as a function from windows to logits, or to logits and statistics."""

from __future__ import annotations

import numpy as np
import torch

from distill.speech.audio_data import Item, collate_windows
from distill.student import Student
from edge_runtime.clips import Score, ScoreOne
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import Scores
from edge_runtime.sources.audio import Pcm


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


def student_score_one(student: Student) -> ScoreOne:
    """Return the function that scores one window relative to a reference, as an engine's ``score`` does."""
    student.eval()
    device = student.reference.device

    def score(pcm: Pcm, reference: Floats | None = None) -> Scores:
        given = None if reference is None else torch.from_numpy(np.asarray(reference, np.float32)).to(device)
        with torch.inference_mode():
            output = student(torch.from_numpy(pcm)[None].to(device), reference=given)
        return Scores(output.logits[0].cpu().numpy(), output.statistics[0].cpu().numpy())

    return score

"""Run a student in PyTorch on windows: to logits, or to logits and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from distill.speech.audio_data import Item, collate_windows
from distill.student import Student
from edge_runtime.clips import Score, ScoreOne
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import Scores
from edge_runtime.sources.audio import Pcm

_BATCH = 8


def batches(windows: Sequence[Pcm], size: int = _BATCH) -> Iterator[dict[str, Tensor]]:
    """Yield ``pcm`` ``[B, S]`` and ``lengths`` ``[B]`` of windows, batch by batch."""
    for start in range(0, len(windows), size):
        batch = collate_windows([Item(pcm, label=0, targets={}) for pcm in windows[start : start + size]])
        yield {"pcm": batch["pcm"], "lengths": batch["lengths"]}


def outputs_of(student: Student, windows: Sequence[Pcm]) -> tuple[Tensor, Tensor]:
    """Return logits ``[N, C]`` and statistics ``[N, D]`` of windows."""
    student.eval()
    with torch.inference_mode():
        found = [student(**batch) for batch in batches(windows)]
    return torch.cat([each.logits for each in found]), torch.cat([each.statistics for each in found])


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
    """Return the function that scores one window, as an engine's ``score`` does."""
    student.eval()
    device = student.reference.device

    def score(pcm: Pcm) -> Scores:
        with torch.inference_mode():
            output = student(torch.from_numpy(pcm)[None].to(device))
        return Scores(output.logits[0].cpu().numpy(), output.statistics[0].cpu().numpy())

    return score

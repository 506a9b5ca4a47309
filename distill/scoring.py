"""Run a student in PyTorch on windows: to logits, or to logits and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from distill.speech.audio_data import Item, collate_windows
from distill.student import Student, StudentOutput
from edge_runtime.clips import Score, ScoreOne
from edge_runtime.engines.engine import NO_DIMENSIONS, Outputs, Scores
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

    def score(windows: list[Pcm]) -> Outputs:
        batch = collate_windows([Item(pcm, label=0, targets={}) for pcm in windows])
        with torch.inference_mode():
            output = student(batch["pcm"].to(device), batch["lengths"].to(device))
        return outputs_for(output)

    return score


def outputs_for(output: StudentOutput) -> Outputs:
    """Return what a student gives for a batch as an engine does."""
    assert output.logits is not None
    dimensions = output.logits.new_zeros(len(output.logits), 0) if output.dimensions is None else output.dimensions
    return Outputs(output.logits.cpu().numpy(), dimensions.cpu().numpy())


def student_score_one(student: Student) -> ScoreOne:
    """Return the function that scores one window, as an engine's ``score`` does."""
    student.eval()
    device = student.reference.device

    def score(pcm: Pcm) -> Scores:
        with torch.inference_mode():
            output = student(torch.from_numpy(pcm)[None].to(device))
        dimensions = NO_DIMENSIONS if output.dimensions is None else output.dimensions[0].cpu().numpy()
        return Scores(output.logits[0].cpu().numpy(), output.statistics[0].cpu().numpy(), dimensions)

    return score

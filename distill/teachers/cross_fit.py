"""Cross-fitted teachers: K of one kind, none of which labels speech of speakers that it was fitted to.

A teacher that labels its own training speech gives what it remembers of the labels, not what it would give for a new
speaker. So the training speakers are cut into K parts and one teacher is fitted without each of them (Wolpert, "Stacked
generalization", 1992; Chernozhukov et al., "Double/debiased machine learning", 2018). Speech of a training speaker has
the outputs of the teacher that was fitted without that speaker; all other speech (validation, test, unlabelled) has the
mean of the K outputs.

Embeddings of separately fitted networks have axes of their own. Before they are put together, each teacher's are
rotated onto those of the first one (orthogonal Procrustes; Schoenemann 1966), by validated and unlabelled speech, which
none of them was fitted to.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.caching.arrays import Rows, write_rows
from distill.corpus import Utterance
from distill.evaluation.metrics import Floats, Ints
from distill.folds import Fold, cut
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import write_text

PART = "part"
"""Key of a teacher's number in the rows of the history."""
_BLOCK = 1024
_MOST_ANCHORS = 4096


def cut_speakers(fold: Fold, count: int, labels: Sequence[str], name: str) -> dict[str, int]:
    """Return the part ``0..count-1`` of every training speaker.

    Args:
        fold: whose training speakers are cut.
        count: number of parts.
        labels: class names, each of which every teacher must be fitted to.
        name: of the teacher, for errors.

    Raises:
        EdgeemoError: there are too few speakers, or a teacher would not be fitted to a class.
    """
    parts = cut([item.speaker for item in fold.train], count)
    if len(parts) < count:
        raise EdgeemoError(
            f"teachers.{name}.cross_fit: {count} parts cannot be cut of {len(parts)} training speakers; lower it"
        )
    for part in range(count):
        missing = sorted(set(labels) - {item.emotion for item in fold.train if parts[item.speaker] != part})
        if missing:
            raise EdgeemoError(
                f"teachers.{name}.cross_fit: without part {part + 1} of {count} of the training speakers no "
                f"'{missing[0]}' is left; raise it, or set no cross_fit"
            )
    return parts


def without_part(fold: Fold, parts: Mapping[str, int], part: int) -> Fold:
    """Return the fold without the training speakers of one part."""
    return dataclasses.replace(fold, train=tuple(item for item in fold.train if parts[item.speaker] != part))


def combine(
    folders: Sequence[Path], utterances: Sequence[Utterance], parts: Mapping[str, int], fold: Fold, out: Path
) -> None:
    """Write the outputs of cross-fitted teachers as those of one teacher.

    Args:
        folders: of the teachers in the cache, by the number of the part that each was fitted without.
        utterances: those whose outputs they hold, in their order.
        parts: part of each training speaker.
        fold: the speech that they were fitted to and validated on, and unlabelled speech.
        out: folder for ``logits.npy``, ``embedding.npy`` and ``dimensions.npy`` if there are such outputs, and
            ``history.json``.
    """
    owner = np.array([parts.get(item.speaker, -1) for item in utterances])
    known = {item.name for item in (*fold.validation, *fold.unlabelled)}
    anchors = np.array([number for number, item in enumerate(utterances) if item.name in known])
    files = {}
    for name in ("logits", "dimensions"):
        if (folders[0] / f"{name}.npy").is_file():
            files[name] = [_Aligned(Rows(folder / f"{name}.npy")) for folder in folders]
    if (folders[0] / "embedding.npy").is_file():
        files["embedding"] = _aligned([Rows(folder / "embedding.npy") for folder in folders], anchors)
    histories = [json.loads((folder / "history.json").read_text(encoding="utf-8")) for folder in folders]
    write_rows({name: out / f"{name}.npy" for name in files}, _blocks(files, owner), len(utterances))
    rows = [{PART: part, **row} for part, history in enumerate(histories) for row in history]
    # Last, since it marks the outputs as complete.
    write_text(out / "history.json", json.dumps(rows))


class _Aligned:
    """Rows of one teacher, as they are or in the axes of another one.

    Args:
        rows: the rows ``[N, D]``.
        axes: what to take off ``[D]``, the rotation ``[D, D]``, and what to add ``[D]``.
    """

    def __init__(self, rows: Rows, axes: tuple[Floats, Floats, Floats] | None = None) -> None:
        self._rows = rows
        self._axes = axes

    def block(self, start: int, end: int) -> Floats:
        """Return some rows ``[end - start, D]``."""
        rows = self._rows.block(start, end)
        if self._axes is None:
            return rows
        mean, rotation, home = self._axes
        return np.asarray((rows - mean) @ rotation + home)


def _aligned(files: Sequence[Rows], anchors: Ints) -> list[_Aligned]:
    """Return embeddings that are rotated onto those of the first file."""
    spread = anchors[np.linspace(0, len(anchors) - 1, min(len(anchors), _MOST_ANCHORS)).astype(int)]
    first, *others = (np.stack([rows[int(number)] for number in spread]).astype(np.float64) for rows in files)
    home = first.mean(axis=0)
    found = [_Aligned(files[0])]
    for rows, other in zip(files[1:], others, strict=True):
        mean = other.mean(axis=0)
        left, _, right = np.linalg.svd((other - mean).T @ (first - home))
        found.append(_Aligned(rows, (mean, left @ right, home)))
    return found


def _blocks(files: Mapping[str, Sequence[_Aligned]], owner: Ints) -> Iterator[dict[str, Floats]]:
    for start in range(0, len(owner), _BLOCK):
        mine = owner[start : start + _BLOCK]
        block = {}
        for name, each in files.items():
            rows = np.stack([one.block(start, start + len(mine)) for one in each])
            own = rows[np.maximum(mine, 0), np.arange(len(mine))]
            block[name] = np.where((mine >= 0)[:, None], own, rows.mean(axis=0))
        yield block

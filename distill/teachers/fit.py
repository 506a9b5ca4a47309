"""Fit one teacher and write its outputs."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from distill.caching.arrays import write_rows
from distill.folds import Fold
from distill.teachers.interface import Context, Teacher
from distill.teachers.registry import Entry
from distill.training import processes
from edge_runtime.decision import Floats
from edge_runtime.files import write_text

BLOCK = 256
"""Utterances of one call of `Teacher.predict`."""


def fit_and_keep(entry: Entry, context: Context, fold: Fold, folder: Path) -> None:
    """Fit one teacher, and write its outputs and its history into ``folder``.

    Args:
        entry: the teacher.
        context: labels, seed and places; its utterances are those whose outputs are written.
        fold: whose training and validation parts it is fitted to.
        folder: of the teacher in the cache.

    Raises:
        EdgeemoError: it fails, or its outputs have the wrong shape.
    """
    set_seed(context.seed)

    def fitted() -> tuple[Teacher, list[dict[str, float]]]:
        with entry.kind.failing("failed to fit"):
            teacher = entry.kind.teacher(entry.settings, context)
            history = teacher.fit(fold.train, fold.validation)
            return teacher, [{name: float(value) for name, value in row.items()} for row in history]

    early = fitted() if entry.kind.teacher.every_process else None

    def keep() -> None:
        teacher, history = early or fitted()
        outputs = _predictions(entry, teacher, context)
        first = next(outputs)
        names = [name for name, values in first.items() if values is not None]
        write_rows(
            {name: folder / f"{name}.npy" for name in names}, itertools.chain([first], outputs), len(context.utterances)
        )
        # Last, since it marks the outputs as complete.
        write_text(folder / "history.json", json.dumps(history))
        shutil.rmtree(context.folder, ignore_errors=True)

    processes.by_first(keep)


def _predictions(entry: Entry, teacher: Teacher, context: Context) -> Iterator[dict[str, Any]]:
    """Yield ``logits`` and ``embedding`` (which may be None) block by block, of the right shapes."""
    how = context.recipe.student.dimensions
    sizes: dict[str, int | None] = {
        "logits": len(context.labels),
        "embedding": None,
        "dimensions": None if how is None else len(how.names),
    }
    for start in range(0, len(context.utterances), BLOCK):
        block = context.utterances[start : start + BLOCK]
        with entry.kind.failing("failed to predict"):
            logits, embedding = teacher.predict(block)
            dimensions = None if how is None else teacher.predict_dimensions(block)
            found = {"logits": logits, "embedding": embedding, "dimensions": dimensions}
            outputs = {name: None if values is None else np.asarray(values) for name, values in found.items()}
            for name, values in outputs.items():
                if values is not None:
                    _refuse_wrong_shape(name, values, len(block), sizes[name])
            if start and (embedding is None) != (sizes["embedding"] is None):
                raise ValueError("some utterances have an embedding and others none")
        if outputs["embedding"] is not None:
            sizes["embedding"] = outputs["embedding"].shape[1]
        yield outputs


def _refuse_wrong_shape(name: str, values: Floats, count: int, size: int | None) -> None:
    if len(values.shape) != 2 or len(values) != count or (size is not None and values.shape[1] != size):
        columns = "one size" if size is None else size
        raise ValueError(f"{name} of {count} utterances should be [{count}, {columns}], not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")

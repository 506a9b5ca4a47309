"""Digests of the audio of utterances, for the keys of caches."""

from __future__ import annotations

from collections.abc import Iterable

from distill.corpus import Utterance
from edge_runtime.files import sha256


def contents_of(utterances: Iterable[Utterance]) -> list[str]:
    """Return a digest of the audio of each utterance: `Utterance.content`, or of the file where that is not set.

    Raises:
        OSError: a file cannot be read.
    """
    return [item.content or f"file:{sha256(item.path)}" for item in utterances]

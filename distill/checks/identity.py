"""The content of a corpus' audio, which fingerprints, caches and resumed runs depend on. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from distill.checks.corpus_checks import scan_corpus
from distill.corpus import Corpus


def identified(corpus: Corpus, cache: Path) -> Corpus:
    """Return a corpus whose utterances have their `Utterance.content`, the parts of a pooled one included.

    Args:
        corpus: as it was read.
        cache: directory of the cache of `scan`.
    """
    if all(item.content for item in corpus.utterances):
        return corpus
    scans = scan_corpus(corpus, cache)
    parts = tuple(dataclasses.replace(part, corpus=identified(part.corpus, cache)) for part in corpus.parts)
    items = (
        dataclasses.replace(item, content=found.identity) for item, found in zip(corpus.utterances, scans, strict=True)
    )
    return dataclasses.replace(corpus, utterances=tuple(items), parts=parts)

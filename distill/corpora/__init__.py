"""Readers of published corpora and of manifests; none imports torch.

Every published corpus has a module of its own, which knows the corpus' own folders and file names. `read_corpus` finds
the reader that fits.
"""

from distill.corpora.read import READERS, read_corpus

__all__ = ["READERS", "read_corpus"]

"""Readers of published corpora and of manifests; none imports torch.

`read_corpus` finds the reader that fits. A published corpus is a row of `distill.corpora.named_files`, or a module
where more than the names of files must be read.
"""

from distill.corpora.read import READERS, read_corpus, read_unlabelled

__all__ = ["READERS", "read_corpus", "read_unlabelled"]

"""All checks of a corpus before training. Imports no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pydantic import BaseModel

from distill.checks.audio_scan import AudioScan, scan
from distill.checks.finding import Finding, Level
from distill.checks.giveaway import Probe, probe, say_giveaways
from distill.checks.metadata import FoldSummary, check_contents, check_folds, check_speakers
from distill.checks.sound import check_clipping, check_duplicates, check_headers, check_samples
from distill.corpus import Corpus
from edge_runtime.console import advance, progress_bar
from edge_runtime.errors import EdgeemoError


class Checks(BaseModel, extra="forbid", frozen=True):
    """Everything that was looked at.

    Attributes:
        folds: what the recipes' default folds would hold.
        findings: what was found, problems first.
        probes: how well length, level and noise floor predict the labels; empty where that was not measured.
    """

    folds: tuple[FoldSummary, ...]
    findings: tuple[Finding, ...]
    probes: tuple[Probe, ...] = ()


def scan_corpus(corpus: Corpus, cache: Path, *, workers: int | None = None) -> list[AudioScan]:
    """Return what is in every file of a corpus, with progress on the error stream."""
    with progress_bar("audio files", total=len(corpus.utterances)) as bar:
        paths = [item.path for item in corpus.utterances]
        return scan(paths, cache, workers=workers, progress=lambda: advance(bar))


def without_broken(corpus: Corpus, cache: Path, *, shortest: float, skip_broken: bool) -> Corpus:
    """Return the corpus if all of its audio can be used for training.

    Args:
        corpus: the corpus.
        cache: directory of the cache.
        shortest: seconds of the shortest usable file.
        skip_broken: leave out what cannot be used instead of refusing it.

    Raises:
        EdgeemoError: a file cannot be decoded, holds NaN or infinity, or is too short.
    """
    broken = {}
    for item, found in zip(corpus.utterances, scan_corpus(corpus, cache), strict=True):
        problem = found.problem
        if not problem and found.seconds < shortest:
            problem = f"is {found.seconds * 1000:.0f} ms long, too short for training"
        if problem:
            broken[item.name] = f"{item.path}: {problem}"
    if broken and not skip_broken:
        first, *rest = broken.values()
        more = f" (and {len(rest)} more such files)" if rest else ""
        raise EdgeemoError(f"{first}{more}; repair or remove it, or leave such files out with --skip-broken")
    return corpus.without(broken.keys(), broken.values())


def check_corpus(corpus: Corpus, cache: Path | None, *, workers: int | None = None) -> Checks:
    """Look at a corpus.

    Args:
        corpus: the corpus.
        cache: directory of the cache; None looks at headers only.
        workers: processes; the number of cores if not given.
    """
    folds, findings = check_folds(corpus)
    findings += [*check_contents(corpus), *check_speakers(corpus), *check_headers(corpus.utterances)]
    probes: list[Probe] = []
    if cache is not None:
        scans = scan_corpus(corpus, cache, workers=workers)
        findings += [*check_samples(corpus.utterances, scans), *check_clipping(corpus.utterances, scans)]
        good = [(item, each) for item, each in zip(corpus.utterances, scans, strict=True) if not each.problem]
        findings += check_duplicates(good)
        if importlib.util.find_spec("sklearn") is None:
            findings.append(
                Finding(
                    check="giveaway",
                    level="information",
                    message="Whether length, level or noise floor give the label away was not looked at: "
                    'scikit-learn is missing; run: pip install "edgeemo[distill]"',
                )
            )
        else:
            probes = probe([item for item, _ in good], [each for _, each in good])
            findings += say_giveaways(probes)
    order: tuple[Level, ...] = ("problem", "warning", "information")
    findings.sort(key=lambda finding: order.index(finding.level))
    return Checks(folds=tuple(folds), findings=tuple(findings), probes=tuple(probes))

"""All checks of a corpus before training: `edgeemo corpus` reports problems, `edgeemo distill` refuses them.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from distill.checks.acceptance import LEFT_OUT_BY_SKIPPING, refusal
from distill.checks.audio_scan import AudioScan, scan
from distill.checks.finding import Finding, Level
from distill.checks.giveaway import Probe, probe, say_giveaways
from distill.checks.metadata import FoldSummary, check_contents, check_folds, check_speakers
from distill.checks.sentences import check_sentences
from distill.checks.sound import (
    check_clipping,
    check_duplicates,
    check_edges,
    check_headers,
    check_lengths,
    check_samples,
    check_short,
)
from distill.checks.voices import check_voices
from distill.corpus import Corpus, Utterance
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


class UsableCorpus(NamedTuple):
    """A corpus to train on, and the problems and warnings that go into the report."""

    corpus: Corpus
    findings: tuple[Finding, ...]


def usable_corpus(
    corpus: Corpus,
    cache: Path,
    *,
    shortest: float,
    skip_broken: bool = False,
    accept: Collection[str] = (),
    tested: bool = True,
    labelled: bool = True,
    hold_out: str | None = None,
) -> UsableCorpus:
    """Return the corpus if training can use it: the checks of `check_corpus`, whose problems are refused here.

    Args:
        corpus: the corpus, with the labels of the recipe.
        cache: directory of the cache.
        shortest: seconds of the shortest file that the models can take.
        skip_broken: leave out files with a problem of their own (`LEFT_OUT_BY_SKIPPING`) instead of refusing them.
        accept: names of checks whose problems are accepted.
        tested: whether it is cut into folds; speakers of a corpus for training only need not share emotions.
        labelled: whether it has labels; of unlabelled speech the files alone are checked.
        hold_out: column that the folds hold out besides speakers.

    Raises:
        EdgeemoError: a file cannot be decoded, holds NaN or infinity, or is too short, or a check found a problem that
            is not accepted.
    """
    scans = scan_corpus(corpus, cache)
    broken = _broken(corpus, scans, shortest)
    if broken and not skip_broken:
        first, *rest = broken.values()
        more = f" (and {len(rest)} more such files)" if rest else ""
        raise EdgeemoError(f"{first}{more}; repair or remove it, or leave such files out with --skip-broken")
    if skip_broken:
        bad = _bad_files(corpus, scans, accept)
        broken |= {name: why for name, why in bad.items() if name not in broken}
        scans = [each for item, each in zip(corpus.utterances, scans, strict=True) if item.name not in broken]
        corpus = corpus.without(broken.keys(), broken.values())
        if not corpus.utterances:
            raise EdgeemoError(f"{corpus.root}: holds no file that can be used; look at it with: edgeemo corpus")
    voices = cache if tested else None
    findings = _find(corpus, scans, voices, hold_out)[0] if labelled else _find_unlabelled(corpus, scans)
    if not tested:
        findings = [each for each in findings if each.check not in ("labels", "one-emotion", "sentences")]
    why = refusal(corpus.root, findings, accept)
    if why:
        raise EdgeemoError(why)
    return UsableCorpus(corpus, tuple(each for each in findings if each.level != "information"))


def _broken(corpus: Corpus, scans: Sequence[AudioScan], shortest: float) -> dict[str, str]:
    """Return why files cannot be trained on at all, by name."""
    broken = {}
    for item, found in zip(corpus.utterances, scans, strict=True):
        problem = found.problem
        if not problem and found.seconds < shortest:
            problem = f"is {found.seconds * 1000:.0f} ms long, too short for training"
        if problem:
            broken[item.name] = f"{item.path}: {problem}"
    return broken


def _bad_files(corpus: Corpus, scans: Sequence[AudioScan], accept: Collection[str]) -> dict[str, str]:
    """Return which check found a problem in a file, by name, where it is one of a single file and not accepted."""
    return {
        name: f"{corpus.root / name}: is a problem by the check '{finding.check}'"
        for finding in _of_files(corpus.utterances, scans)
        if finding.level == "problem" and finding.check in LEFT_OUT_BY_SKIPPING and finding.check not in accept
        for name in finding.files
    }


def check_corpus(corpus: Corpus, cache: Path | None, *, workers: int | None = None) -> Checks:
    """Look at a corpus.

    Args:
        corpus: the corpus.
        cache: directory of the cache; None looks at headers only.
        workers: processes; the number of cores if not given.
    """
    folds, problems = check_folds(corpus)
    scans = None if cache is None else scan_corpus(corpus, cache, workers=workers)
    findings, probes = _find(corpus, scans, cache)
    return Checks(folds=tuple(folds), findings=tuple(_sorted([*problems, *findings])), probes=tuple(probes))


def _find(
    corpus: Corpus, scans: Sequence[AudioScan] | None, voices: Path | None, hold_out: str | None = None
) -> tuple[list[Finding], list[Probe]]:
    """Return what both commands look for; without scans by metadata and headers only.

    Voices are compared where there is a cache for them, ``voices``; those of rendered speech are settings of a
    synthesiser, of which some are nearly equal.
    """
    findings = [*check_contents(corpus), *check_speakers(corpus), *check_sentences(corpus, hold_out)]
    findings += check_headers(corpus.utterances)
    if scans is None:
        return _sorted([*findings, *check_short(corpus.utterances)]), []
    findings += _of_files(corpus.utterances, scans)
    good = [(item, each) for item, each in zip(corpus.utterances, scans, strict=True) if not each.problem]
    findings += check_duplicates(good)
    if voices is not None and corpus.facts.kind == "recorded":
        findings += check_voices([item for item, _ in good], [each for _, each in good], voices)
    if importlib.util.find_spec("sklearn") is None:
        message = (
            "Whether length, level or noise floor give the label away was not looked at: "
            'scikit-learn is missing; run: pip install "edgeemo[distill]"'
        )
        return _sorted([*findings, Finding(check="giveaway", level="information", message=message)]), []
    probes = probe([item for item, _ in good], [each for _, each in good])
    return _sorted([*findings, *say_giveaways(probes)]), probes


def _find_unlabelled(corpus: Corpus, scans: Sequence[AudioScan]) -> list[Finding]:
    """Return what is wrong with the files of unlabelled speech; who speaks in copies does not matter there."""
    nameless = [dataclasses.replace(item, speaker="") for item in corpus.utterances]
    good = [(item, each) for item, each in zip(nameless, scans, strict=True) if not each.problem]
    return _sorted([*check_headers(nameless), *_of_files(nameless, scans), *check_duplicates(good)])


def _of_files(items: Sequence[Utterance], scans: Sequence[AudioScan]) -> list[Finding]:
    """Return what is wrong with single files."""
    return [
        *check_short(items),
        *check_samples(items, scans),
        *check_lengths(items, scans),
        *check_clipping(items, scans),
        *check_edges(items, scans),
    ]


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    order: tuple[Level, ...] = ("problem", "warning", "information")
    return sorted(findings, key=lambda finding: order.index(finding.level))

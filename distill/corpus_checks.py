"""What looks wrong with a corpus, before hours are spent on it. Imports no torch."""

from __future__ import annotations

import importlib.util
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from distill.audio_scan import AudioScan, scan
from distill.corpus import Corpus, Utterance
from distill.folds import FoldSpec, make_fold
from distill.giveaway import Probe, probe
from edge_runtime.audio import SAMPLE_RATE
from edge_runtime.console import advance, progress_bar
from edge_runtime.errors import EdgeemoError

Level = Literal["problem", "warning", "information"]

SHORTEST_SECONDS = 0.1
"""Less is no utterance."""

QUIET_DB = -70.0
"""A file under this level holds no speech that can be told from noise."""

CLIPPED = 1e-3
"""Share of samples at full scale from which clipping is heard."""

FLAT_TOPS = 0.01
"""Share of loud samples in flat runs from which a file counts as clipped before it was made softer."""

_CUT_SHARE, _CUT_FILES = 0.1, 10
_COMMON_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
_EIGHT_BITS = ("PCM_U8", "PCM_S8", "ULAW", "ALAW", "DPCM_8")
_NAMED = 3


class Finding(BaseModel):
    """One thing that a person should know.

    Attributes:
        check: which check found it.
        level: ``problem`` (training will refuse it or be misled), ``warning`` (look at it), ``information``.
        message: what it is, in a sentence.
        files: the files that it is about.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    level: Level
    message: str
    files: tuple[str, ...] = ()


class FoldSummary(BaseModel):
    """What one fold would hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    speakers: tuple[str, ...]
    train: int
    validation: int
    test: int
    test_labels: dict[str, int]


class Checks(BaseModel):
    """Everything that was looked at.

    Attributes:
        folds: what the recipes' default folds would hold.
        findings: what was found, problems first.
        probes: what length, level and noise floor tell of the labels; empty where that was not looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: tuple[FoldSummary, ...]
    findings: tuple[Finding, ...]
    probes: tuple[Probe, ...] = ()


def scan_corpus(corpus: Corpus, cache: Path, *, workers: int | None = None) -> list[AudioScan]:
    """Return what is in every file of a corpus, with progress on the error stream."""
    with progress_bar("audio files", total=len(corpus.utterances)) as bar:
        paths = [item.path for item in corpus.utterances]
        return scan(paths, cache, workers=workers, progress=lambda: advance(bar))


def without_broken(corpus: Corpus, cache: Path, *, shortest: float, skip_broken: bool) -> Corpus:
    """Return the corpus if all of its audio can be learnt from.

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
            problem = f"is {found.seconds * 1000:.0f} ms long, too short to learn from"
        if problem:
            broken[item.name] = f"{item.path}: {problem}"
    if broken and not skip_broken:
        first, *rest = broken.values()
        more = f" (and {len(rest)} more such files)" if rest else ""
        raise EdgeemoError(f"{first}{more}; mend or remove it, or leave such files out with --skip-broken")
    return corpus.without(broken.keys(), broken.values())


def check_corpus(corpus: Corpus, cache: Path | None, *, workers: int | None = None) -> Checks:
    """Look at a corpus.

    Args:
        corpus: the corpus.
        cache: directory of the cache; None looks at headers only.
        workers: processes; the number of cores if not given.
    """
    folds, findings = _folds(corpus)
    findings += [*_contents(corpus), *_speakers(corpus), *_headers(corpus.utterances)]
    probes: list[Probe] = []
    if cache is not None:
        scans = scan_corpus(corpus, cache, workers=workers)
        findings += [*_samples(corpus.utterances, scans), *_clipping(corpus.utterances, scans)]
        good = [(item, each) for item, each in zip(corpus.utterances, scans, strict=True) if not each.problem]
        findings += _duplicates(good)
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
            findings += _giveaways(probes)
    order: tuple[Level, ...] = ("problem", "warning", "information")
    findings.sort(key=lambda finding: order.index(finding.level))
    return Checks(folds=tuple(folds), findings=tuple(findings), probes=tuple(probes))


def _folds(corpus: Corpus) -> tuple[list[FoldSummary], list[Finding]]:
    """Cut the folds that a recipe cuts by default, fewer where there are too few speakers."""
    default = FoldSpec()
    assert isinstance(default.count, int)
    count = min(default.count, len(corpus.speakers))
    if count < 3:
        message = f"Only {count} speaker(s): folds need three, to learn from, to validate on and to test on."
        return [], [Finding(check="folds", level="problem", message=message)]
    spec, summaries = FoldSpec(count=count), []
    # Many folds may share one trouble: say it once, with the folds.
    troubles: defaultdict[tuple[Level, str], list[int]] = defaultdict(list)
    for index in range(count):
        try:
            fold = make_fold(corpus, spec, index)
        except EdgeemoError as error:
            troubles["problem", error.message].append(index)
            continue
        for note in fold.notes:
            troubles["information", note].append(index)
        summaries.append(
            FoldSummary(
                index=index,
                speakers=tuple(sorted({item.speaker for item in fold.test})),
                train=len(fold.train),
                validation=len(fold.validation),
                test=len(fold.test),
                test_labels=dict(sorted(Counter(item.emotion for item in fold.test).items())),
            )
        )
    findings = [
        Finding(check="folds", level=level, message=f"Fold {', '.join(map(str, found))} of {count}: {message}")
        for (level, message), found in troubles.items()
    ]
    return summaries, findings


def _contents(corpus: Corpus) -> Iterator[Finding]:
    """Look at what the metadata says."""
    items = corpus.utterances
    found = len(items) + len(corpus.skipped)
    if corpus.published and found != corpus.published:
        message = f"Holds {found} of the {corpus.published} utterances that are published."
        yield Finding(check="complete", level="information" if found < corpus.published else "warning", message=message)
    silent = [item.name for item in items if not item.transcript]
    if silent:
        some = "No utterance has" if len(silent) == len(items) else f"{len(silent)} of {len(items)} utterances lack"
        message = f"{some} a transcript: a linguistic teacher needs them (edgeemo corpus PATH --transcribe MODEL)."
        yield Finding(check="transcripts", level="information", message=message, files=tuple(silent))
    if len(corpus.labels) == 1:
        message = f"Every utterance has the emotion '{corpus.labels[0]}': there is nothing to tell apart."
        yield Finding(check="labels", level="problem", message=message)
    for names in _alike(corpus.labels):
        message = f"The emotions {names} differ in spelling only, and are learnt as two; give them one name."
        yield Finding(check="labels", level="warning", message=message)
    pairs = {(item.emotion, item.speaker) for item in items}
    for emotion, count in sorted(Counter(emotion for emotion, _ in pairs).items()):
        if count == 1:
            (only,) = (speaker for label, speaker in pairs if label == emotion)
            message = (
                f"Only the speaker '{only}' shows the emotion '{emotion}', so it cannot be learnt from one speaker and "
                "tested on another; add speakers, or leave the label out by the recipe's 'labels'."
            )
            yield Finding(check="labels", level="problem", message=message)


def _alike(names: Sequence[str]) -> Iterator[str]:
    """Yield the names that differ in case and spaces only, those that belong together in one text."""
    alike: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        alike["".join(name.casefold().split())].add(name)
    yield from (", ".join(map(repr, sorted(group))) for group in alike.values() if len(group) > 1)


def _speakers(corpus: Corpus) -> Iterator[Finding]:
    """Look for people who end up on both sides of a division."""
    for names in _alike(corpus.speakers):
        message = f"The speakers {names} differ in spelling only: one person under two names ends up in two folds."
        yield Finding(check="speakers", level="warning", message=message)
    for column in ("split", "fold", "partition"):
        values: defaultdict[str, set[str]] = defaultdict(set)
        for item in corpus.utterances:
            if item.extra.get(column):
                values[item.speaker].add(item.extra[column])
        shared = sorted(speaker for speaker, each in values.items() if len(each) > 1)
        if shared:
            message = (
                f"{len(shared)} of {len(values)} speakers are in more than one '{column}': figures on that division "
                "are not speaker-independent."
            )
            yield Finding(check="speakers", level="warning", message=message)


def _headers(items: Sequence[Utterance]) -> Iterator[Finding]:
    """Look at what the files' headers say."""
    short = [item.name for item in items if item.seconds < SHORTEST_SECONDS]
    if short:
        yield _about(short, "short", "problem", f"shorter than {SHORTEST_SECONDS} s")
    eight = [item.name for item in items if item.encoding in _EIGHT_BITS]
    if eight:
        yield _about(eight, "format", "information", "coded with 8 bits a sample")
    rates = Counter(item.sample_rate for item in items)
    narrow = [item.name for item in items if item.sample_rate < SAMPLE_RATE]
    if narrow:
        yield _about(
            narrow, "format", "information", f"sampled at less than {SAMPLE_RATE} Hz: the upper band is missing"
        )
    odd = sorted(rate for rate in rates if rate not in _COMMON_RATES)
    if odd:
        message = f"Unusual sample rate: {', '.join(f'{rate} Hz ({rates[rate]} files)' for rate in odd)}."
        yield Finding(check="format", level="information", message=message)
    if len(rates) > 1:
        message = f"Several sample rates: {', '.join(f'{rate} Hz ({count})' for rate, count in sorted(rates.items()))}."
        yield Finding(check="format", level="information", message=message)
    longest = max(item.seconds for item in items)
    cut = [item.name for item in items if longest - item.seconds < 5e-4]
    if len(cut) >= max(_CUT_FILES, _CUT_SHARE * len(items)):
        message = (
            f"{len(cut)} of {len(items)} files are exactly {longest:.3f} s long and none is longer: this copy looks "
            "cut, so figures on it do not compare with those on the whole corpus."
        )
        yield Finding(check="cut", level="warning", message=message, files=tuple(cut))


def _samples(items: Sequence[Utterance], scans: Sequence[AudioScan]) -> Iterator[Finding]:
    """Look at what was decoded."""
    broken: defaultdict[str, list[str]] = defaultdict(list)
    silent, quiet = [], []
    for item, found in zip(items, scans, strict=True):
        if found.problem:
            broken[found.problem].append(item.name)
        elif found.peak == 0:
            silent.append(item.name)
        elif found.level_db < QUIET_DB:
            quiet.append(item.name)
    for problem, names in broken.items():
        message = f"{_some(names)} {problem}: training refuses it, or leaves it out with --skip-broken."
        yield Finding(check="broken", level="problem", message=message, files=tuple(names))
    if silent:
        yield _about(silent, "silence", "problem", "digital silence")
    if quiet:
        yield _about(quiet, "silence", "warning", f"under {QUIET_DB:.0f} dB of full scale, as good as silent")


def _clipping(items: Sequence[Utterance], scans: Sequence[AudioScan]) -> Iterator[Finding]:
    """Look for peaks that were cut off."""
    clipped, flat = [], []
    for item, found in zip(items, scans, strict=True):
        if found.full_scale >= CLIPPED:
            clipped.append((found.full_scale, item.name))
        elif found.flat_tops >= FLAT_TOPS:
            flat.append((found.flat_tops, item.name))
    if clipped:
        clipped.sort(reverse=True)
        what = f"clipped (at least {CLIPPED:.1%} of samples at full scale; {clipped[0][0]:.1%} at worst)"
        yield _about([name for _, name in clipped], "clipping", "warning", what)
    if flat:
        flat.sort(reverse=True)
        what = f"flat at their peaks ({flat[0][0]:.1%} of loud samples at worst): clipped before they were made softer"
        yield _about([name for _, name in flat], "clipping", "warning", what)


def _duplicates(good: Sequence[tuple[Utterance, AudioScan]]) -> Iterator[Finding]:
    """Look for the same sound under two names."""
    groups: defaultdict[str, list[Utterance]] = defaultdict(list)
    for item, found in good:
        if found.peak > 0:
            groups[found.content].append(item)
    same: list[tuple[str, ...]] = []
    different: list[tuple[str, ...]] = []
    for group in groups.values():
        if len(group) > 1:
            unlike = len({(item.speaker, item.emotion) for item in group}) > 1
            (different if unlike else same).append(tuple(item.name for item in group))
    if different:
        pairs = "; ".join(" = ".join(names) for names in different[:_NAMED])
        message = (
            f"{len(different)} recording(s) stand there several times with different speakers or emotions ({pairs}): "
            "at most one of them can be right."
        )
        files = tuple(name for names in different for name in names)
        yield Finding(check="duplicates", level="problem", message=message, files=files)
    if same:
        pairs = "; ".join(" = ".join(names) for names in same[:_NAMED])
        message = f"{len(same)} recording(s) stand there several times ({pairs}): they count double."
        files = tuple(name for names in same for name in names)
        yield Finding(check="duplicates", level="warning", message=message, files=files)


def _giveaways(probes: Sequence[Probe]) -> Iterator[Finding]:
    """Say the strongest of the suspicious probes, or else the strongest that is beyond chance."""
    telling = sorted((each for each in probes if each.ua > each.bound), key=lambda each: -each.ua)
    if not telling:
        return
    # Of two that tell as much, the one with fewer features says it more clearly.
    best = min(
        (each for each in telling if each.ua >= telling[0].ua - 0.01), key=lambda each: (len(each.features), -each.ua)
    )
    what = " and ".join(best.features) if len(best.features) < 3 else ", ".join(best.features)
    figures = f"UA {best.ua:.2f} on unseen speakers (chance {best.chance:.2f}, permuted labels up to {best.bound:.2f})"
    if best.suspicious:
        message = (
            f"SUSPICIOUS: {what} alone reach {figures}, with no word or voice heard: a model may learn how each "
            "emotion was recorded instead of how it sounds; test on another corpus before trusting figures on this one"
            + (
                " (the student's level normalisation takes the level away, not the rest)."
                if "level" in best.features
                else "."
            )
        )
        yield Finding(check="giveaway", level="warning", message=message)
    else:
        message = (
            f"The label shows a little in {what}: {figures}. Loud anger and slow sadness do that in honest corpora."
        )
        yield Finding(check="giveaway", level="information", message=message)


def _about(names: Sequence[str], check: str, level: Level, what: str) -> Finding:
    return Finding(check=check, level=level, message=f"{_some(names)}: {what}.", files=tuple(names))


def _some(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    rest = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} files ({', '.join(names[:_NAMED])}{rest})"

"""Checks of the files of a corpus: formats, silence, clipping, cuts, and the same sound twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from distill.checks.audio_scan import AudioScan
from distill.checks.finding import NAMED, Finding, about, some
from distill.corpus import Utterance
from edge_runtime.sources.audio import SAMPLE_RATE

SHORTEST_SECONDS = 0.1
"""Less is no utterance."""

LONGEST_SECONDS = 60.0
"""More is a conversation, whose emotion is not one."""

QUIET_DB = -70.0
"""A file under this level holds no speech above the noise."""

CLIPPED = 1e-3
"""Share of samples at full scale from which clipping is reported."""

FLAT_TOPS = 0.01
"""Share of loud samples in flat runs from which a file counts as clipped before it was made softer."""

SPEECH_DB, ABOVE_FLOOR_DB = -12.0, 10.0
"""A file begins or ends within speech if its first or last 20 ms are louder than its own level plus the one and its
noise floor plus the other. The second keeps steady noise and tones out."""

CUT_WORDS = 0.1
"""Share of files from which words count as cut. Measured on six corpora: of a copy of EMO-DB cut after two seconds 47 %
end within speech (two thirds of the files that are cut); of whole EMO-DB, EMOVO, RAVDESS, Korean EmotionTTS and ASED
1.1 % at most end so, and 1.5 % at most begin so."""

_LEAST_CUT_WORDS = 3

# Headers of lossy formats count padding, and may be estimates.
_HEADER_SECONDS, _HEADER_SHARE = 0.35, 0.02
_CUT_SHARE, _CUT_FILES = 0.1, 10
_COMMON_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
_EIGHT_BITS = ("PCM_U8", "PCM_S8", "ULAW", "ALAW", "DPCM_8")


def check_short(items: Sequence[Utterance]) -> Iterator[Finding]:
    """Look for files too short for an utterance, by their headers."""
    short = [item.name for item in items if item.seconds < SHORTEST_SECONDS]
    if short:
        yield about(short, "short", "problem", f"shorter than {SHORTEST_SECONDS} s")


def check_headers(items: Sequence[Utterance]) -> Iterator[Finding]:
    """Check the formats in the files' headers, and whether many are cut to one length."""
    eight = [item.name for item in items if item.encoding in _EIGHT_BITS]
    if eight:
        yield about(eight, "format", "information", "coded with 8 bits a sample")
    rates = Counter(item.sample_rate for item in items)
    narrow = [item.name for item in items if item.sample_rate < SAMPLE_RATE]
    if narrow:
        yield about(
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


def check_lengths(items: Sequence[Utterance], scans: Sequence[AudioScan]) -> Iterator[Finding]:
    """Look for files of another length than their header says, and for those too long for an utterance."""
    pairs = [(item, found) for item, found in zip(items, scans, strict=True) if not found.problem]
    other = [
        item.name
        for item, found in pairs
        if abs(item.seconds - found.seconds) > max(_HEADER_SECONDS, _HEADER_SHARE * found.seconds)
    ]
    if other:
        yield about(other, "length", "problem", "another length than the header says: damaged, or cut off")
    long = [item.name for item, found in pairs if found.seconds > LONGEST_SECONDS]
    if long:
        yield about(long, "length", "warning", f"longer than {LONGEST_SECONDS:.0f} s: more than one utterance")


def check_samples(items: Sequence[Utterance], scans: Sequence[AudioScan]) -> Iterator[Finding]:
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
        message = f"{some(names)} {problem}: training refuses it, or leaves it out with --skip-broken."
        yield Finding(check="broken", level="problem", message=message, files=tuple(names))
    if silent:
        yield about(silent, "silence", "problem", "digital silence")
    if quiet:
        yield about(quiet, "silence", "warning", f"under {QUIET_DB:.0f} dB of full scale, as good as silent")


def check_edges(items: Sequence[Utterance], scans: Sequence[AudioScan]) -> Iterator[Finding]:
    """Look for many files that begin or end within speech."""
    pairs = [(item.name, found) for item, found in zip(items, scans, strict=True) if not found.problem]
    for place, levels in (
        ("end", [found.last_db for _, found in pairs]),
        ("begin", [found.first_db for _, found in pairs]),
    ):
        cut = [
            name
            for (name, found), level in zip(pairs, levels, strict=True)
            if level > max(found.level_db + SPEECH_DB, found.floor_db + ABOVE_FLOOR_DB)
        ]
        if len(cut) >= max(_LEAST_CUT_WORDS, CUT_WORDS * len(pairs)):
            message = (
                f"{len(cut)} of {len(pairs)} files ({len(cut) / len(pairs):.0%}) {place} within speech: words look "
                "cut; take the whole recordings, or cut them in the pauses."
            )
            yield Finding(check="cut", level="warning", message=message, files=tuple(cut))


def check_clipping(items: Sequence[Utterance], scans: Sequence[AudioScan]) -> Iterator[Finding]:
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
        yield about([name for _, name in clipped], "clipping", "warning", what)
    if flat:
        flat.sort(reverse=True)
        what = f"flat at their peaks ({flat[0][0]:.1%} of loud samples at worst): clipped before they were made softer"
        yield about([name for _, name in flat], "clipping", "warning", what)


def check_duplicates(good: Sequence[tuple[Utterance, AudioScan]]) -> Iterator[Finding]:
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
        pairs = "; ".join(" = ".join(names) for names in different[:NAMED])
        message = (
            f"{len(different)} recording(s) stand there several times with different speakers or emotions ({pairs}): "
            "at most one of them can be right."
        )
        files = tuple(name for names in different for name in names)
        yield Finding(check="duplicates", level="problem", message=message, files=files)
    if same:
        pairs = "; ".join(" = ".join(names) for names in same[:NAMED])
        message = f"{len(same)} recording(s) stand there several times ({pairs}): they count double."
        files = tuple(name for names in same for name in names)
        yield Finding(check="duplicates", level="warning", message=message, files=files)

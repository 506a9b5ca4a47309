"""Copies of one recording in two parts of a fold: what is tested was trained on. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from distill.checks.audio_scan import scan
from distill.checks.finding import NAMED
from distill.checks.fingerprint import Fingerprint
from distill.checks.same_recording import Recording, copies
from distill.corpus import Utterance
from distill.folds import Fold
from edge_runtime.errors import EdgeemoError

Part = Literal["train", "validation", "test", "unlabelled"]


class Leak(BaseModel, extra="forbid", frozen=True):
    """An utterance that is a copy of one that a later part of the fold holds.

    Attributes:
        name: of the utterance that must not be used.
        part: that holds it.
        copy_of: name of the utterance that stays.
        copy_part: that holds it.
    """

    name: str
    part: Part
    copy_of: str
    copy_part: Part


def find_leaks(fold: Fold, cache: Path) -> list[Leak]:
    """Return the utterances to train on that are copies of tested or validated ones, and validated copies.

    Copies are found by their sound (`distill.checks.same_recording`): in another format, at another rate or level, or
    with cut ends, whatever their names, speakers and corpora.

    Args:
        fold: in all languages, auxiliary corpora and unlabelled speech included.
        cache: directory of the cache of `scan`.
    """
    parts: list[tuple[Part, Sequence[Utterance]]] = [
        ("test", fold.test),
        ("validation", fold.validation),
        ("train", fold.train),
        ("unlabelled", fold.unlabelled),
    ]
    members: list[tuple[Part, Utterance]] = [(part, item) for part, items in parts for item in items]
    scans = scan([item.path for _, item in members], cache)
    recordings = [
        # Silence is no recording that could be repeated.
        Recording(item.path, Fingerprint.decode(found.fingerprint), found.content if found.peak else "", part)
        for (part, item), found in zip(members, scans, strict=True)
    ]
    leaks = []
    for group in copies(recordings):
        # Numbers follow the order of the parts, so the first one is in the part that must stay as it is.
        kept_part, kept = members[group[0]]
        leaks += [
            Leak(name=item.name, part=part, copy_of=kept.name, copy_part=kept_part)
            for part, item in (members[number] for number in group[1:])
            if part != kept_part and kept_part in ("test", "validation")
        ]
    return leaks


def without_leaks(fold: Fold, cache: Path, *, exclude: bool) -> tuple[Fold, tuple[Leak, ...]]:
    """Return the fold without copies of tested recordings, and what was left out.

    Args:
        fold: in all languages, auxiliary corpora and unlabelled speech included.
        cache: directory of the cache.
        exclude: leave copies out instead of refusing them.

    Raises:
        EdgeemoError: there are copies and ``exclude`` is not set, or nothing is left of a part or a label.
    """
    leaks = find_leaks(fold, cache)
    if not leaks:
        return fold, ()
    if not exclude:
        pairs = "; ".join(f"{each.name} = {each.copy_of}, {each.copy_part}" for each in leaks[:NAMED])
        more = f"; and {len(leaks) - NAMED} more" if leaks[NAMED:] else ""
        raise EdgeemoError(
            f"{count_of(leaks)} of tested or validated recordings ({pairs}{more}), so figures would be too high; "
            "remove them, or leave them out with --exclude-leaks"
        )
    left = fold.without([each.name for each in leaks])
    for name, before, after in (("train", fold.train, left.train), ("validation", fold.validation, left.validation)):
        missing = {item.emotion for item in before} - {item.emotion for item in after} if name == "train" else set()
        if not after or missing:
            raise EdgeemoError(
                f"--exclude-leaks: without copies of tested recordings the {name} part holds no "
                f"{min(missing) if missing else 'utterance'}; give a corpus that does not repeat them"
            )
    if fold.unlabelled and not left.unlabelled:
        raise EdgeemoError(
            "--exclude-leaks: the unlabelled speech holds nothing but copies of tested recordings; leave it out"
        )
    return left, tuple(leaks)


def count_of(leaks: Sequence[Leak]) -> str:
    """Return in words how many utterances of which parts are copies."""
    names = {"train": "train part", "validation": "validation part", "unlabelled": "unlabelled speech"}
    counts = {name: sum(each.part == part for each in leaks) for part, name in names.items()}
    found = " and ".join(f"{count} of the {name}" for name, count in counts.items() if count)
    return f"{found} {'is a copy' if len(leaks) == 1 else 'are copies'}"

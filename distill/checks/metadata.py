"""Checks of a corpus' metadata: labels, speakers, words, and the folds."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from distill.checks.finding import Finding, Level, about
from distill.corpus import Corpus
from distill.folds import FoldSpec, make_fold
from edge_runtime.errors import EdgeemoError


class FoldSummary(BaseModel, extra="forbid", frozen=True):
    """What one fold would hold."""

    index: int
    speakers: tuple[str, ...]
    train: int
    validation: int
    test: int
    test_labels: dict[str, int]


def check_folds(corpus: Corpus) -> tuple[list[FoldSummary], list[Finding]]:
    """Cut the folds that a recipe cuts by default, fewer where there are too few speakers."""
    default = FoldSpec()
    assert isinstance(default.count, int)
    count = min(default.count, len(corpus.speakers))
    if count < 3:
        message = f"Only {count} speaker(s): folds need three, for training, validation and test."
        return [], [Finding(check="folds", level="problem", message=message)]
    spec, summaries = FoldSpec(count=count), []
    # Many folds may share one problem: report it once, with the folds.
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


def check_contents(corpus: Corpus) -> Iterator[Finding]:
    """Check labels, transcripts and the number of utterances."""
    items = corpus.utterances
    found = len(items) + len(corpus.skipped)
    if corpus.published and found != corpus.published:
        message = f"Holds {found} of the {corpus.published} utterances that are published."
        yield Finding(check="complete", level="information" if found < corpus.published else "warning", message=message)
    if corpus.unread:
        what = f"not read, since not named as files of {corpus.reader}"
        yield about(corpus.unread, "complete", "information", what)
    silent = [item.name for item in items if not item.transcript]
    if silent:
        some = "No utterance has" if len(silent) == len(items) else f"{len(silent)} of {len(items)} utterances lack"
        message = f"{some} a transcript: a linguistic teacher needs them (edgeemo corpus PATH --transcribe MODEL)."
        yield Finding(check="transcripts", level="information", message=message, files=tuple(silent))
    if len(corpus.labels) == 1:
        message = f"Every utterance has the emotion '{corpus.labels[0]}': there is nothing to classify."
        yield Finding(check="labels", level="problem", message=message)
    for names in _alike(corpus.labels):
        message = f"The emotions {names} differ in spelling only, and are two classes; give them one name."
        yield Finding(check="labels", level="problem", message=message)
    pairs = {(item.emotion, item.speaker) for item in items}
    for emotion, count in sorted(Counter(emotion for emotion, _ in pairs).items()):
        if count == 1:
            (only,) = (speaker for label, speaker in pairs if label == emotion)
            message = (
                f"Only the speaker '{only}' shows the emotion '{emotion}', so it cannot be trained on one speaker and "
                "tested on another; add speakers, or leave the label out by the recipe's 'labels'."
            )
            yield Finding(check="labels", level="problem", message=message)


def _alike(names: Sequence[str]) -> Iterator[str]:
    """Yield the names that `_spelling` makes equal, those that belong together in one text."""
    alike: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        alike[_spelling(name)].add(name)
    yield from (", ".join(map(repr, sorted(group))) for group in alike.values() if len(group) > 1)


def _spelling(name: str) -> str:
    """Return a name without what tables and spreadsheets change: case, blanks, hyphens, zeros around numbers.

    >>> _spelling("Actor_01 ") == _spelling("actor 1"), _spelling("1") == _spelling("1.0"), _spelling("1-1")
    (True, True, '1-1')
    """
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    text = re.sub(r"[\s_-]+", "-", text)
    text = re.sub(r"(?<!\d)-|-(?!\d)", "", text)  # between two digits it separates numbers
    return re.sub(r"(?<![\d.])0+(?=\d)", "", text)


def check_speakers(corpus: Corpus) -> Iterator[Finding]:
    """Check for speakers in more than one part of a division."""
    for names in _alike(corpus.speakers):
        message = f"The speakers {names} differ in spelling only: one person under two names ends up in two folds."
        yield Finding(check="speakers", level="problem", message=message)
    yield from _one_emotion(corpus)
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


def _one_emotion(corpus: Corpus) -> Iterator[Finding]:
    """Look for speakers with one emotion each: who speaks then gives the emotion, and speaker adaptation removes it."""
    emotions: defaultdict[str, set[str]] = defaultdict(set)
    for item in corpus.utterances:
        emotions[item.speaker].add(item.emotion)
    single = [speaker for speaker, shown in sorted(emotions.items()) if len(shown) == 1]
    if len(corpus.labels) < 2 or 2 * len(single) < len(emotions):
        return
    everyone = len(single) == len(emotions)
    # Where each speaker has one utterance, it cannot be otherwise.
    level: Level = "problem" if everyone and len(corpus.utterances) >= 2 * len(emotions) else "warning"
    message = (
        f"{'Every one' if everyone else len(single)} of {len(emotions)} speakers shows one emotion only: a model may "
        "recognise the speaker instead of the emotion; add other emotions of the same speakers."
    )
    yield Finding(check="one-emotion", level=level, message=message)

"""`edgeemo teach`: labelled clips of one speaker, which adapt the classifier to this speaker."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
from pydantic import TypeAdapter, ValidationError

from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.bundles.manifest import Label
from edge_runtime.console import console, progress_bar
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import Engine
from edge_runtime.errors import EdgeemoError, GateError, MissingPartError, WrongUseError
from edge_runtime.loop.monitor import SILENT_DB, level_db
from edge_runtime.loop.segments import SegmentEnd
from edge_runtime.parameters import count_option, given
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio
from edge_runtime.sources.interface import Source
from edge_runtime.sources.source_uri import open_source
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_store import load_profile, profile_path, profiles_locked, save_profile
from edge_runtime.strict_json import shown
from edge_runtime.teaching import (
    DOUBTFUL,
    Benefit,
    Clip,
    benefit,
    clip_of,
    clip_of_segments,
    other_speakers,
    segmenter_for,
)

_SPAN = re.compile(r"(?P<file>.+)@(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)", re.DOTALL)


class LabelledFile(NamedTuple):
    """A label and an audio file, or a stretch of it in seconds."""

    label: str
    path: Path
    start: float = 0.0
    end: float | None = None


class LabelledFileType(click.ParamType[LabelledFile]):
    """Takes ``LABEL=FILE`` or ``LABEL=FILE@START-END``."""

    name = "LABEL=FILE[@START-END]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> LabelledFile:
        """Split what was typed."""
        if isinstance(value, LabelledFile):
            return value
        label, equals, place = str(value).partition("=")
        if not equals or not label or not place:
            self.fail(f"'{shown(str(value))}' is not LABEL=FILE, as happy=clip.wav", param, ctx)
        try:
            TypeAdapter(Label).validate_python(label)
        except ValidationError:
            self.fail(f"'{shown(label)}' cannot be a label: use printable characters, 64 at most", param, ctx)
        span = None if Path(place).exists() else _SPAN.fullmatch(place)
        file, at, _ = place.rpartition("@")
        if span is None and at and not Path(place).exists() and Path(file).is_file():
            self.fail(f"'{shown(place)}': a stretch is FILE@START-END in seconds, as clip.wav@2.5-4", param, ctx)
        if span is None:
            return LabelledFile(label, Path(place).expanduser())
        start, end = float(span["start"]), float(span["end"])
        if end <= start:
            self.fail(f"'{shown(place)}': the stretch ends before it starts", param, ctx)
        return LabelledFile(label, Path(span["file"]).expanduser(), start, end)


_FILE = LabelledFileType()


@click.command("teach")
@click.argument("name")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--clip", "clips", type=_FILE, multiple=True, help="A clip of an emotion of the bundle; repeatable.")
@click.option("--label", "added", type=_FILE, multiple=True, help="A clip of a new emotion; repeatable.")
@click.option(
    "--emotion", "emotions", multiple=True, metavar="LABEL", help="Record this emotion; repeatable.  [default: all]"
)
@count_option("--count", "Clips to record of each emotion.", default=2, most=5)
@click.option("--source", default="mic://", metavar="SOURCE", help="Microphone to record from.  [default: mic://]")
@click.option("--keep", is_flag=True, help="Keep clips that do not help, or that seem to be of another speaker.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
@click.pass_context
def teach_command(
    context: click.Context,
    name: str,
    bundle: Path | None,
    clips: tuple[LabelledFile, ...],
    added: tuple[LabelledFile, ...],
    emotions: tuple[str, ...],
    count: int,
    source: str,
    keep: bool,
    as_json: bool,
) -> None:
    """Adapt the classifier to one speaker with labelled clips, and keep the result in the profile NAME.

    One to five clips of each emotion are enough. They come from files (--clip, --label), or are recorded from the
    microphone with a prompt for each. A stretch of a longer recording, such as a wrong event of `listen --record`, is
    named by its seconds: sad=FILE@12.5-15. The profile holds numbers only, no audio.

    Each clip is classified by the others before the profile is saved, which `edgeemo listen --profile NAME` then uses.
    Where the clips do not help, the profile stays as it was, and the exit code is 3.

    \b
    Examples:
      edgeemo teach anna
      edgeemo teach anna --clip happy=one.wav --clip sad=two.wav --clip angry=three.wav
      edgeemo teach anna --label tired=a.wav --label tired=b.wav
    """
    loaded = load_bundle(bundle or DEFAULT_BUNDLE)
    profile = _profile(name, loaded)
    files = _checked(profile, clips, added)
    wanted = _emotions(profile, emotions, files)
    options = given(context)
    if misplaced := [options[option] for option in ("count", "source") if option in options and not wanted]:
        raise WrongUseError(f"{misplaced[0]}: is for recording, and only files are given; give --emotion too")
    engine = open_engine(loaded, "auto", None, threads=1, say=console.print)
    lost: EdgeemoError | None = None
    found = [_from_file(loaded, engine, each) for each in files]
    try:
        # One by one: those until the microphone is lost are kept.
        for clip in _recorded(loaded, engine, source, wanted, count) if wanted else ():
            found += [clip]
    except EdgeemoError as error:
        if not found or len(_labels(profile, found)) < 2:
            raise
        lost = error
    found = _new(profile, found)
    _require_two_emotions(profile, found)
    _check_speakers(loaded, profile, found, keep)
    worth = benefit(loaded, profile, found)
    _report(found, worth)
    if not worth.helps and not keep:
        raise GateError(
            f"the clips do not help: {_percent(worth.after)} of them are right with the others, "
            f"{_percent(worth.before)} without. The profile '{name}' stays as it was: check the labels, or give --keep"
        )
    with profiles_locked():
        # Another process may have added clips since it was read.
        profile = _profile(name, loaded)
        found = _new(profile, found)
        _require_two_emotions(profile, found)
        taught = profile.taught(tuple(each.utterance.reduced for each in found), tuple(each.label for each in found))
        save_profile(taught)
    counts = Counter(taught.clip_labels)
    held = ", ".join(f"{label} {count}" for label, count in counts.items())
    console.print(f"'{name}' has clips of: {held}; next: edgeemo listen --profile {name}")
    if as_json:
        content = {"profile": name, "clips": dict(counts), "before": worth.before, "after": worth.after}
        click.echo(json.dumps(content, ensure_ascii=False))
    if lost is not None:
        raise EdgeemoError(f"{lost.message}; the {len(found)} clips until then are kept")


def _profile(name: str, bundle: Bundle) -> Profile:
    new = Profile.new(name, bundle)
    if not profile_path(name).exists():
        return new
    profile = load_profile(name)
    profile.require(bundle, str(profile_path(name)))
    return profile


def _checked(profile: Profile, clips: Sequence[LabelledFile], added: Sequence[LabelledFile]) -> list[LabelledFile]:
    for each in clips:
        if each.label not in profile.all_labels:
            raise WrongUseError(
                f"--clip {shown(each.label)}: the bundle has the labels {', '.join(profile.all_labels)}; a new one is "
                f"given as --label {shown(each.label)}=FILE"
            )
    for each in added:
        if each.label in profile.labels:
            raise WrongUseError(
                f"--label {shown(each.label)}: the bundle has this label already; give --clip {shown(each.label)}=FILE"
            )
    return [*clips, *added]


def _emotions(profile: Profile, emotions: Sequence[str], files: Sequence[LabelledFile]) -> list[str]:
    """Return the emotions to record: those named, or all where no file is given."""
    for label in emotions:
        if label not in profile.all_labels:
            raise WrongUseError(f"--emotion {shown(label)}: use one of {', '.join(profile.all_labels)}")
    return list(emotions) if emotions or files else list(profile.all_labels)


def _from_file(bundle: Bundle, engine: Engine, file: LabelledFile) -> Clip:
    pcm = read_audio(file.path)
    name = str(file.path)
    if file.end is not None:
        name = f"{file.path}@{file.start:g}-{file.end:g}"
        if file.start * SAMPLE_RATE >= len(pcm):
            raise WrongUseError(f"{name}: the recording has {len(pcm) / SAMPLE_RATE:.1f} s; correct the seconds")
        pcm = pcm[round(file.start * SAMPLE_RATE) : round(file.end * SAMPLE_RATE)]
    return clip_of(bundle, engine, pcm, file.label, name)


def _recorded(bundle: Bundle, engine: Engine, uri: str, emotions: Sequence[str], count: int) -> Iterator[Clip]:
    """Yield clips from the microphone, each after a prompt."""
    try:
        source = open_source(uri)
    except MissingPartError as error:
        clips = f"give clips with --clip {emotions[0]}=FILE"
        raise MissingPartError(error.message.replace("read a file with --source FILE", clips)) from None
    try:
        for label in emotions:
            for number in range(1, count + 1):
                console.print(f"{label}, {number} of {count}: say a sentence as if you were {label}, then pause")
                yield _one(bundle, engine, source, label, f"{label} {number}")
    finally:
        source.close()


def _one(bundle: Bundle, engine: Engine, source: Source, label: str, name: str) -> Clip:
    """Record until a stretch of speech is long enough for a clip."""
    segmenter = segmenter_for(bundle)
    with progress_bar("level", total=round(-SILENT_DB)) as bar:
        for block in source.blocks():
            if block.notice is not None and block.notice[0] == "device-lost":
                raise EdgeemoError(block.notice[1])
            bar.update(bar.task_ids[0], completed=level_db(block.pcm) - SILENT_DB)
            for output in segmenter.feed(block.pcm):
                if not isinstance(output, SegmentEnd):
                    continue
                try:
                    return clip_of_segments(bundle, engine, [output], label, name)
                except EdgeemoError as error:
                    console.print(error.message)
    raise EdgeemoError(f"{source.name}: ended before the clip '{name}' was complete")


def _new(profile: Profile, clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips without those that are given twice, or are in the profile already.

    Raises:
        WrongUseError: all are, or one of them has another label there.
    """
    taught = {_key(row): label for row, label in zip(profile.clips, profile.clip_labels, strict=True)}
    seen: dict[bytes, str] = {}
    found = []
    for clip in clips:
        key = _key(clip.utterance.reduced)
        if taught.get(key, clip.label) != clip.label:
            raise WrongUseError(
                f"{clip.name}: is '{clip.label}' here and '{taught[key]}' in the profile '{profile.name}'; to change "
                f"it, run: edgeemo profile reset {profile.name}, and give all clips again"
            )
        if seen.get(key, clip.label) != clip.label:
            raise WrongUseError(f"{clip.name}: is given as '{seen[key]}' and as '{clip.label}'; leave one out")
        if key in taught or key in seen:
            console.print(f"{clip.name}: is given already, and is left out", style="yellow")
            continue
        seen[key] = clip.label
        found.append(clip)
    if not found:
        raise WrongUseError(f"all clips are in the profile '{profile.name}' already; give others")
    return found


def _key(reduced: Floats) -> bytes:
    return reduced.astype("<f4").tobytes()


def _labels(profile: Profile, clips: Sequence[Clip]) -> set[str]:
    return {*profile.clip_labels, *(each.label for each in clips)}


def _require_two_emotions(profile: Profile, clips: Sequence[Clip]) -> None:
    labels = _labels(profile, clips)
    if len(labels) < 2:
        raise WrongUseError(
            f"all clips are labelled '{labels.pop()}', which does not show how this speaker's emotions differ; add "
            "clips of another emotion"
        )


def _check_speakers(bundle: Bundle, profile: Profile, clips: Sequence[Clip], keep: bool) -> None:
    for clip in other_speakers(bundle, profile, clips):
        what = f"{clip.name}: seems to be of another speaker than the other clips"
        if not keep:
            raise EdgeemoError(f"{what}; leave it out, or give --keep")
        console.print(what, style="yellow")


def _report(clips: Sequence[Clip], worth: Benefit) -> None:
    for clip, probability, other in zip(clips, worth.probabilities, worth.other_labels, strict=True):
        if probability < DOUBTFUL and other != clip.label:
            console.print(
                f"{clip.name}: is labelled '{clip.label}', but the other clips suggest '{other}'; check the label",
                style="yellow",
            )
    if worth.after is None:
        console.print("give two clips of an emotion or more, and their benefit can be estimated", style="yellow")
    else:
        before = "" if worth.before is None else f", {_percent(worth.before)} without clips"
        console.print(f"each clip classified by the others: {_percent(worth.after)} right{before}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"

"""A speaker's profile: reduced statistics of recent utterances and of labelled clips, as one small file without audio.

The file is JSON. Numbers are base64 of little-endian float32; the rest is readable text. The file is untrusted until it
is checked; every fault gives an error of one sentence.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import LARGEST_STATISTIC, MAX_DIRECTIONS, Label
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import checked_name
from edge_runtime.provenance import now
from edge_runtime.speakers.speaker_adaptation import MEMORY, SpeakerAdaptation, Utterance
from edge_runtime.strict_json import first_problem, parse_versioned, shown

SCHEMA_VERSION = "3.0"
"""Major and minor version; a reader refuses another major version and accepts any minor one."""

MAX_CLIPS = 200
"""Labelled clips in a profile."""
MAX_ADDED = 20
"""Labels that a profile adds to those of the bundle."""

Exact = npt.NDArray[np.float64]


def _a_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date and time") from None
    return text


Time = Annotated[str, Field(max_length=40), AfterValidator(_a_time)]
_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[Label, ...])
Numbers = Annotated[str, Field(max_length=4 * MAX_CLIPS * MAX_DIRECTIONS * 2)]


class _Content(BaseModel):
    # A newer minor version may have more fields. Strict: "5" and true are not numbers.
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    schema_version: str
    name: Annotated[str, AfterValidator(checked_name)]
    bundle: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created: Time
    updated: Time
    labels: Annotated[list[Label], Field(min_length=2, max_length=100)]
    added: Annotated[list[Label], Field(max_length=MAX_ADDED)]
    directions: Annotated[int, Field(ge=1, le=MAX_DIRECTIONS)]
    embedding_size: Annotated[int, Field(ge=0, le=512)]
    utterances: Numbers
    embeddings: Numbers
    clips: Numbers
    clip_labels: Annotated[list[Label], Field(max_length=MAX_CLIPS)]


@dataclass(frozen=True)
class Profile:
    """What is known of one speaker, for one bundle.

    Attributes:
        name: of the profile.
        bundle: sha256 of the bundle's manifest: statistics of different students are not comparable.
        created: date and time, ISO 8601.
        updated: time of the last change.
        labels: the bundle's, in its order.
        directions: size k of reduced statistics.
        embedding_size: size of speaker embeddings; 0 without.
        utterances: the most recent ones, `MEMORY` at most.
        clips: reduced statistics ``[k]`` of labelled clips.
        clip_labels: their labels, of the bundle or added.
        added: labels that the bundle does not have.
    """

    name: str
    bundle: str
    created: str
    updated: str
    labels: tuple[str, ...]
    directions: int
    embedding_size: int = 0
    utterances: tuple[Utterance, ...] = ()
    clips: tuple[Exact, ...] = ()
    clip_labels: tuple[str, ...] = ()
    added: tuple[str, ...] = field(default=())

    @classmethod
    def new(cls, name: str, bundle: Bundle) -> Profile:
        """Return the profile of a speaker without utterances.

        Raises:
            WrongUseError: the bundle has no speaker model.
        """
        if bundle.speaker_model is None:
            raise WrongUseError(
                f"{bundle.root}: has no speaker model (bundle.json has no 'speaker'), so a profile has no effect; "
                "leave it out, or export a student that was trained with [student.speaker]"
            )
        projection = bundle.manifest.speaker and bundle.manifest.speaker.projection
        return cls(
            name=name,
            bundle=bundle.hash,
            created=now(),
            updated=now(),
            labels=bundle.manifest.labels,
            directions=len(bundle.speaker_model.projection),
            embedding_size=projection.directions if projection else 0,
        )

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The labels of the bundle, then the added ones."""
        return (*self.labels, *self.added)

    def adaptation(self, model: SpeakerModel) -> SpeakerAdaptation:
        """Return what is known of the speaker, for the speaker model of the bundle."""
        classes = [self.all_labels.index(label) for label in self.clip_labels]
        return SpeakerAdaptation(model.with_classes(len(self.added)), self.utterances, self.clips, classes)

    def updated_with(self, speaker: SpeakerAdaptation) -> Profile:
        """Return the profile with other utterances."""
        return replace(self, utterances=tuple(speaker.utterances), updated=now())

    def taught(self, clips: tuple[Exact, ...], labels: tuple[str, ...]) -> Profile:
        """Return the profile with more labelled clips; labels that the bundle does not have are added.

        Raises:
            WrongUseError: there would be more than `MAX_CLIPS` clips or `MAX_ADDED` added labels, or a label is not
                valid.
        """
        if len(self.clips) + len(clips) > MAX_CLIPS:
            raise WrongUseError(f"the profile '{self.name}' would have more than {MAX_CLIPS} clips; make another one")
        new = tuple(dict.fromkeys(label for label in labels if label not in self.all_labels))
        if len(self.added) + len(new) > MAX_ADDED:
            raise WrongUseError(f"the profile '{self.name}' would have more than {MAX_ADDED} labels of its own")
        try:
            _LABELS.validate_python(new)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            label = new[int(problem["loc"][0])]
            raise WrongUseError(f"'{shown(label)}': {problem['msg'].removeprefix('Value error, ')}") from error
        return replace(
            self,
            clips=(*self.clips, *clips),
            clip_labels=(*self.clip_labels, *labels),
            added=(*self.added, *new),
            updated=now(),
        )

    def cleared(self) -> Profile:
        """Return the profile without utterances and clips."""
        return replace(self, utterances=(), clips=(), clip_labels=(), added=(), created=now(), updated=now())

    def merged(self, other: Profile, name: str) -> Profile:
        """Return both profiles together: the most recent utterances of each in turn, and all clips, each once.

        Raises:
            WrongUseError: they are not for the same bundle, or have too many clips or added labels together.
        """
        if self._statistics() != other._statistics():
            raise WrongUseError(
                f"'{self.name}' and '{other.name}' are for different bundles ({self.bundle[:12]} and "
                f"{other.bundle[:12]}), whose statistics are not comparable"
            )
        older, newer = sorted((self, other), key=lambda each: each.updated)
        half = MEMORY // 2
        kept = max(half, MEMORY - len(newer.utterances))
        both = (*older.utterances[-kept:], *newer.utterances[-max(half, MEMORY - len(older.utterances)) :])
        merged = replace(older, name=name, utterances=both, created=min(self.created, other.created))
        held = {(row.tobytes(), label) for row, label in zip(older.clips, older.clip_labels, strict=True)}
        new = [
            (row, label)
            for row, label in zip(newer.clips, newer.clip_labels, strict=True)
            if (row.tobytes(), label) not in held
        ]
        return merged.taught(tuple(row for row, _ in new), tuple(label for _, label in new))

    def _statistics(self) -> tuple[object, ...]:
        """Return what two profiles with comparable numbers have in common; the hash in the file is not proof."""
        return self.bundle, self.labels, self.directions, self.embedding_size

    def require(self, bundle: Bundle, where: str) -> None:
        """Check that the profile is for a bundle.

        Raises:
            EdgeemoError: it is for another bundle, or its labels or sizes are not the bundle's.
        """
        if self.bundle != bundle.hash:
            raise EdgeemoError(
                f"{where}: is for the bundle {self.bundle[:12]}, not for {bundle.hash[:12]}; use another name, or "
                f"remove it with: edgeemo profile rm {self.name}"
            )
        # The hash in the file is not proof.
        wanted = Profile.new(self.name, bundle)
        if self.labels != wanted.labels:
            raise EdgeemoError(f"{where}: its labels are not those of the bundle; do not trust this profile")
        if (self.directions, self.embedding_size) != (wanted.directions, wanted.embedding_size):
            raise EdgeemoError(
                f"{where}: its utterances have {self.directions} and {self.embedding_size} numbers, not "
                f"{wanted.directions} and {wanted.embedding_size} as the bundle's; do not trust this profile"
            )

    def dump(self) -> str:
        """Return the content of the file."""
        content = _Content(
            schema_version=SCHEMA_VERSION,
            name=self.name,
            bundle=self.bundle,
            created=self.created,
            updated=self.updated,
            labels=list(self.labels),
            added=list(self.added),
            directions=self.directions,
            embedding_size=self.embedding_size,
            utterances=_encoded([each.reduced for each in self.utterances]),
            embeddings=_encoded([each.embedding for each in self.utterances]),
            clips=_encoded(self.clips),
            clip_labels=list(self.clip_labels),
        )
        return json.dumps(content.model_dump(), indent=1, ensure_ascii=False) + "\n"


NEW_PROFILE = "begin a new one: edgeemo profile rm NAME, then edgeemo teach NAME"
"""What to do about a profile that cannot be used."""


def parse_profile(raw: bytes, where: str, remedy: str = NEW_PROFILE) -> Profile:
    """Return the profile in a file; ``remedy`` ends the sentence of an error.

    Raises:
        EdgeemoError: not a profile, another schema version, or invalid numbers.
    """
    content = parse_versioned(raw, where, SCHEMA_VERSION, remedy)
    try:
        held = _Content.model_validate(content)
    except ValidationError as error:
        raise first_problem(error, where, remedy) from error
    names = [*held.labels, *held.added]
    if len(set(names)) < len(names):
        raise EdgeemoError(f"{where}: 'labels': names a label twice; do not trust this profile")
    if not set(held.clip_labels) <= set(names) or not set(held.added) <= set(held.clip_labels):
        raise EdgeemoError(f"{where}: 'clip_labels': are not its labels; do not trust this profile")
    rows = _rows(held.utterances, held.directions, where, "utterances")
    clips = _rows(held.clips, held.directions, where, "clips")
    embeddings = _rows(held.embeddings, held.embedding_size, where, "embeddings", len(rows))
    if len(clips) != len(held.clip_labels):
        raise EdgeemoError(f"{where}: 'clips': are {len(clips)}, and its labels are {len(held.clip_labels)}")
    if len(rows) > MEMORY or len(embeddings) != len(rows):
        raise EdgeemoError(
            f"{where}: 'utterances': are {len(rows)} with {len(embeddings)} embeddings, and at most {MEMORY} with as "
            "many are allowed; do not trust this profile"
        )
    return Profile(
        **held.model_dump(include={"name", "bundle", "created", "updated", "directions", "embedding_size"}),
        labels=tuple(held.labels),
        added=tuple(held.added),
        utterances=tuple(Utterance(*pair) for pair in zip(rows, embeddings, strict=True)),
        clips=tuple(clips),
        clip_labels=tuple(held.clip_labels),
    )


def _encoded(rows: list[Exact] | tuple[Exact, ...]) -> str:
    return base64.b64encode(np.asarray(rows, "<f4").tobytes()).decode()


def _rows(text: str, size: int, where: str, name: str, count: int = 0) -> Exact:
    """Return the rows ``[N, size]`` of a base64 text; ``count`` rows where they have no numbers."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EdgeemoError(f"{where}: '{name}': is not base64 ({error})") from error
    if not size and not raw:
        return np.zeros((count, 0))
    if not size or len(raw) % (4 * size):
        raise EdgeemoError(f"{where}: '{name}': is {len(raw)} bytes, which are not rows of {size} float32")
    rows = np.frombuffer(raw, "<f4").astype(np.float64).reshape(-1, size)
    # NaN fails too.
    if not (np.abs(rows) <= LARGEST_STATISTIC).all():
        raise EdgeemoError(
            f"{where}: '{name}': has a value that is not a number or is beyond {LARGEST_STATISTIC:g}; "
            "do not trust this profile"
        )
    return rows

"""A speaker's profile: the speaker mean as one small file without audio.

The file is JSON. The mean of the statistics is base64 of little-endian float32; the rest is readable text. The file is
untrusted until it is checked; every fault gives an error of one sentence.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import LARGEST_STATISTIC, Label
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import checked_name
from edge_runtime.provenance import now
from edge_runtime.speakers.speaker_mean import MEMORY, SpeakerMean
from edge_runtime.strict_json import first_problem, parse_versioned

SCHEMA_VERSION = "2.0"
"""Major and minor version; a reader refuses another major version and accepts any minor one."""

_LARGEST_SIZE = 65_536
_TOLERANCE = 1e-3
"""Largest distance of the sum of rounded probabilities from 1."""


def _a_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date and time") from None
    return text


Time = Annotated[str, Field(max_length=40), AfterValidator(_a_time)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Content(BaseModel):
    # A newer minor version may have more fields. Strict: "5" and true are not numbers.
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    schema_version: str
    name: Annotated[str, AfterValidator(checked_name)]
    bundle: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created: Time
    updated: Time
    trust: Annotated[float, Field(ge=0.1, le=1000)]
    count: Annotated[float, Field(ge=0, le=MEMORY)]
    emotion_shares: Annotated[dict[Label, Share], Field(min_length=2, max_length=100)]
    mean: str


@dataclass(frozen=True)
class Profile:
    """The speaker mean of one speaker for one bundle.

    Attributes:
        name: of the profile.
        bundle: sha256 of the bundle's manifest: statistics of different students are not comparable.
        created: date and time, ISO 8601.
        updated: time of the last change.
        trust: number of utterances that the training mean is worth, from the bundle.
        labels: the bundle's, in its order.
        count: number of utterances, `MEMORY` at most.
        emotion_shares: ``[classes]`` float64, mean of their probabilities; zeros without utterances.
        mean: ``[D]`` float32, mean of their statistics.
    """

    name: str
    bundle: str
    created: str
    updated: str
    trust: float
    labels: tuple[str, ...]
    count: float
    emotion_shares: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float32]

    @classmethod
    def new(cls, name: str, bundle: Bundle) -> Profile:
        """Return the profile of a speaker without utterances.

        Raises:
            WrongUseError: the bundle's student has no speaker normalisation.
        """
        manifest = bundle.manifest
        if manifest.speaker is None:
            raise WrongUseError(
                f"{bundle.root}: its student has no speaker normalisation (bundle.json has no 'speaker'), so a profile "
                "has no effect; leave it out, or export a student that was trained with [student.speaker]"
            )
        return cls(
            name=name,
            bundle=bundle.hash,
            created=now(),
            updated=now(),
            trust=manifest.speaker.trust,
            labels=manifest.labels,
            count=0.0,
            emotion_shares=np.zeros(len(manifest.labels)),
            mean=np.zeros(manifest.statistics_size, np.float32),
        )

    @property
    def variety(self) -> float:
        """How evenly the utterances cover the emotions, 0 to 1."""
        return self.speaker_mean(np.zeros((1, len(self.mean)), np.float32)).variety

    @property
    def weight(self) -> float:
        """Weight of the speaker's mean against the training mean, 0 to below 1."""
        return self.speaker_mean(np.zeros((1, len(self.mean)), np.float32)).weight

    def speaker_mean(self, default: npt.NDArray[np.float32]) -> SpeakerMean:
        """Return the speaker mean to continue from, with the training mean ``[1, D]`` as prior."""
        return SpeakerMean(default, self.trust, mean=self.mean, emotion_shares=self.emotion_shares, count=self.count)

    def updated_with(self, mean: SpeakerMean) -> Profile:
        """Return the profile with another speaker mean."""
        return replace(
            self,
            count=mean.count,
            # Rounding must not make an invalid file.
            emotion_shares=np.clip(mean.emotion_shares, 0.0, 1.0),
            mean=np.asarray(mean.mean, np.float32),
            updated=now(),
        )

    def cleared(self) -> Profile:
        """Return the profile without utterances."""
        return replace(
            self,
            count=0.0,
            emotion_shares=np.zeros_like(self.emotion_shares),
            mean=np.zeros_like(self.mean),
            created=now(),
            updated=now(),
        )

    def merged(self, other: Profile, name: str) -> Profile:
        """Return the mean of two profiles, weighted by their numbers of utterances.

        Raises:
            WrongUseError: they are not for the same bundle.
        """
        if (self.bundle, self.labels, len(self.mean)) != (other.bundle, other.labels, len(other.mean)):
            raise WrongUseError(
                f"'{self.name}' and '{other.name}' are for different bundles ({self.bundle[:12]} and "
                f"{other.bundle[:12]}), whose statistics are not comparable"
            )
        both = self.count + other.count
        share = other.count / both if both else 0.0
        return replace(
            self,
            name=name,
            count=min(both, MEMORY),
            emotion_shares=np.clip((1.0 - share) * self.emotion_shares + share * other.emotion_shares, 0.0, 1.0),
            mean=np.asarray((1.0 - share) * self.mean.astype(np.float64) + share * other.mean, np.float32),
            created=min(self.created, other.created),
            updated=now(),
        )

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
        if self.labels != bundle.manifest.labels:
            raise EdgeemoError(f"{where}: its labels are not those of the bundle; do not trust this profile")
        if len(self.mean) != bundle.manifest.statistics_size:
            raise EdgeemoError(
                f"{where}: its mean has {len(self.mean)} numbers, not {bundle.manifest.statistics_size} as the "
                "bundle's reference; do not trust this profile"
            )

    def dump(self) -> str:
        """Return the content of the file."""
        content = _Content(
            schema_version=SCHEMA_VERSION,
            name=self.name,
            bundle=self.bundle,
            created=self.created,
            updated=self.updated,
            trust=self.trust,
            count=self.count,
            emotion_shares=dict(zip(self.labels, map(float, self.emotion_shares), strict=True)),
            mean=base64.b64encode(self.mean.astype("<f4").tobytes()).decode(),
        )
        return json.dumps(content.model_dump(), indent=1, ensure_ascii=False) + "\n"


def parse_profile(raw: bytes, where: str) -> Profile:
    """Return the profile in a file.

    Raises:
        EdgeemoError: not a profile, another schema version, or invalid numbers.
    """
    content = parse_versioned(raw, where, SCHEMA_VERSION, "use the edgeemo that made this profile")
    try:
        held = _Content.model_validate(content)
    except ValidationError as error:
        raise first_problem(error, where) from error
    total = sum(held.emotion_shares.values())
    if abs(total - (1.0 if held.count else 0.0)) > _TOLERANCE:
        raise EdgeemoError(f"{where}: 'emotion_shares': the probabilities add up to {total:.4g}, not to 1")
    return Profile(
        **held.model_dump(include={"name", "bundle", "created", "updated", "trust", "count"}),
        labels=tuple(held.emotion_shares),
        emotion_shares=np.asarray(list(held.emotion_shares.values()), np.float64),
        mean=_numbers(held.mean, where),
    )


def _numbers(text: str, where: str) -> npt.NDArray[np.float32]:
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EdgeemoError(f"{where}: 'mean': is not base64 ({error})") from error
    if not raw or len(raw) % 4 or len(raw) > 4 * _LARGEST_SIZE:
        raise EdgeemoError(f"{where}: 'mean': is {len(raw)} bytes, which is not a vector of float32")
    mean = np.frombuffer(raw, "<f4").astype(np.float32)
    # NaN fails too.
    if not (np.abs(mean) <= LARGEST_STATISTIC).all():
        raise EdgeemoError(
            f"{where}: 'mean': has a value that is not a number or is beyond {LARGEST_STATISTIC:g}; "
            "do not trust this profile"
        )
    return mean

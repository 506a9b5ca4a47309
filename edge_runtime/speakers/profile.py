"""A speaker's profile: what was learnt of a voice, as one small file that holds no audio.

The file is JSON. The mean of the statistics is base64 of little-endian float32, everything else is for people to read.
It is data of a stranger's until it is checked: whatever is wrong with it is one sentence.
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
from edge_runtime.reference import MEMORY, SpeakerReference
from edge_runtime.strict_json import parse_json, shown

SCHEMA_VERSION = "1.0"
"""Major and minor version; a reader refuses another major one and takes any minor one."""

_LARGEST_SIZE = 65_536
_TOLERANCE = 1e-3
"""How far from 1 the sum of probabilities may be that were rounded on the way."""


def _a_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is no date and time") from None
    return text


Time = Annotated[str, Field(max_length=40), AfterValidator(_a_time)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Content(BaseModel):
    # A newer minor version may say more. Strict: "5" and true are no numbers.
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    schema_version: str
    name: Annotated[str, AfterValidator(checked_name)]
    bundle: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created: Time
    updated: Time
    trust: Annotated[float, Field(ge=0.1, le=1000)]
    count: Annotated[float, Field(ge=0, le=MEMORY)]
    shown: Annotated[dict[Label, Share], Field(min_length=2, max_length=100)]
    mean: str


@dataclass(frozen=True)
class Profile:
    """What was learnt of one speaker with one bundle.

    Attributes:
        name: of the profile.
        bundle: sha256 of the bundle's manifest: statistics of another student mean something else.
        created: date and time, ISO 8601.
        updated: when it was last written.
        trust: utterances that the training mean is worth, as the bundle says.
        labels: the bundle's, in its order.
        count: utterances that it stands for, `MEMORY` at most.
        shown: ``[classes]`` float64, mean of their probabilities; zeros without any.
        mean: ``[D]`` float32, mean of their statistics.
    """

    name: str
    bundle: str
    created: str
    updated: str
    trust: float
    labels: tuple[str, ...]
    count: float
    shown: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float32]

    @classmethod
    def begun(cls, name: str, bundle: Bundle) -> Profile:
        """Return the profile of a speaker of whom nothing is known.

        Raises:
            WrongUseError: the bundle's student can know no speaker.
        """
        manifest = bundle.manifest
        if manifest.speaker is None:
            raise WrongUseError(
                f"{bundle.root}: its student cannot get to know a speaker (bundle.json has no 'speaker'), so there is "
                "no profile to keep; leave it out, or export a student that was trained for it"
            )
        return cls(
            name=name,
            bundle=bundle.hash,
            created=now(),
            updated=now(),
            trust=manifest.speaker.trust,
            labels=manifest.labels,
            count=0.0,
            shown=np.zeros(len(manifest.labels)),
            mean=np.zeros(manifest.statistics_size, np.float32),
        )

    @property
    def variety(self) -> float:
        """How evenly the utterances show the emotions, 0 to 1."""
        return self.known(np.zeros((1, len(self.mean)), np.float32)).variety

    @property
    def weight(self) -> float:
        """How far the speaker's usual voice is trusted, 0 to below 1."""
        return self.known(np.zeros((1, len(self.mean)), np.float32)).weight

    def known(self, default: npt.NDArray[np.float32]) -> SpeakerReference:
        """Return the reference that goes on from here, with the training mean ``[1, D]`` for what is not known."""
        return SpeakerReference(default, self.trust, mean=self.mean, shown=self.shown, count=self.count)

    def taught(self, known: SpeakerReference) -> Profile:
        """Return the profile with what is known by now."""
        return replace(
            self,
            count=known.count,
            # Rounding must not make a file that is refused.
            shown=np.clip(known.shown, 0.0, 1.0),
            mean=np.asarray(known.mean, np.float32),
            updated=now(),
        )

    def emptied(self) -> Profile:
        """Return the profile without what was learnt."""
        return replace(
            self,
            count=0.0,
            shown=np.zeros_like(self.shown),
            mean=np.zeros_like(self.mean),
            created=now(),
            updated=now(),
        )

    def merged(self, other: Profile, name: str) -> Profile:
        """Return one profile of what two have learnt, each weighing as much as the utterances that it stands for.

        Raises:
            WrongUseError: they were not learnt with the same bundle.
        """
        if (self.bundle, self.labels, len(self.mean)) != (other.bundle, other.labels, len(other.mean)):
            raise WrongUseError(
                f"'{self.name}' and '{other.name}' were learnt with different bundles ({self.bundle[:12]} and "
                f"{other.bundle[:12]}), whose numbers cannot be put together"
            )
        both = self.count + other.count
        share = other.count / both if both else 0.0
        return replace(
            self,
            name=name,
            count=min(both, MEMORY),
            shown=np.clip((1.0 - share) * self.shown + share * other.shown, 0.0, 1.0),
            mean=np.asarray((1.0 - share) * self.mean.astype(np.float64) + share * other.mean, np.float32),
            created=min(self.created, other.created),
            updated=now(),
        )

    def require(self, bundle: Bundle, where: str) -> None:
        """Check that the profile is for a bundle.

        Args:
            bundle: a verified bundle.
            where: the profile's file, for messages.

        Raises:
            EdgeemoError: it was learnt with another bundle, or its labels or sizes are not the bundle's.
        """
        if self.bundle != bundle.hash:
            raise EdgeemoError(
                f"{where}: was learnt with the bundle {self.bundle[:12]}, not with {bundle.hash[:12]}, and means "
                f"nothing to another one; take another name, or forget it with: edgeemo profile rm {self.name}"
            )
        # The hash is a claim of whoever wrote the file.
        if self.labels != bundle.manifest.labels:
            raise EdgeemoError(f"{where}: its labels are not those of the bundle; do not trust this profile")
        if len(self.mean) != bundle.manifest.statistics_size:
            raise EdgeemoError(
                f"{where}: its mean has {len(self.mean)} numbers, not {bundle.manifest.statistics_size} as the "
                "bundle's reference; do not trust this profile"
            )

    def dump(self) -> str:
        """Return the file's content."""
        content = _Content(
            schema_version=SCHEMA_VERSION,
            name=self.name,
            bundle=self.bundle,
            created=self.created,
            updated=self.updated,
            trust=self.trust,
            count=self.count,
            shown=dict(zip(self.labels, map(float, self.shown), strict=True)),
            mean=base64.b64encode(self.mean.astype("<f4").tobytes()).decode(),
        )
        return json.dumps(content.model_dump(), indent=1, ensure_ascii=False) + "\n"


def parse_profile(raw: bytes, where: str) -> Profile:
    """Return the profile that a file holds.

    Args:
        raw: content of the file.
        where: its name, for messages.

    Raises:
        EdgeemoError: it is no profile, of another schema, or its numbers make no sense.
    """
    content = parse_json(raw, where)
    version = content.get("schema_version", "") if isinstance(content, dict) else ""
    if not isinstance(version, str) or version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise EdgeemoError(
            f"{where}: has schema version '{shown(version, 20)}', and this edgeemo reads "
            f"{SCHEMA_VERSION.partition('.')[0]}.x of profiles; use the edgeemo that made it"
        )
    try:
        held = _Content.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = shown(".".join(str(part) for part in problem["loc"]))
        raise EdgeemoError(f"{where}: '{place}': {problem['msg'].removeprefix('Value error, ')}") from error
    total = sum(held.shown.values())
    if abs(total - (1.0 if held.count else 0.0)) > _TOLERANCE:
        raise EdgeemoError(f"{where}: 'shown': the probabilities add up to {total:.4g}, so they are none")
    return Profile(
        name=held.name,
        bundle=held.bundle,
        created=held.created,
        updated=held.updated,
        trust=held.trust,
        labels=tuple(held.shown),
        count=held.count,
        shown=np.asarray(list(held.shown.values()), np.float64),
        mean=_numbers(held.mean, where),
    )


def _numbers(text: str, where: str) -> npt.NDArray[np.float32]:
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EdgeemoError(f"{where}: 'mean': is not base64 ({error})") from error
    if not raw or len(raw) % 4 or len(raw) > 4 * _LARGEST_SIZE:
        raise EdgeemoError(f"{where}: 'mean': is {len(raw)} bytes, which are no float32 numbers of a student")
    mean = np.frombuffer(raw, "<f4").astype(np.float32)
    # NaN fails too.
    if not (np.abs(mean) <= LARGEST_STATISTIC).all():
        raise EdgeemoError(
            f"{where}: 'mean': holds what is no number or is beyond {LARGEST_STATISTIC:g}; do not trust this profile"
        )
    return mean

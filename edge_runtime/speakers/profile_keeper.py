"""Keeps a speaker's profile on disk up to date while listening, despite full disks and changes by other programs."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.errors import EdgeemoError
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_store import Stamp, load_profile, profile_path, profiles_locked, save_profile, stamp
from edge_runtime.speakers.speaker_adaptation import SpeakerAdaptation

SAVE_UTTERANCES = 5
"""New utterances before the profile is saved again: what a loss of power can cost."""
SAVE_SECONDS = 30.0
"""Shortest time between two saves: flash memory wears out."""


class ProfileKeeper:
    """One profile: loaded or created at the start, saved from time to time and at the end.

    Raises:
        WrongUseError: an invalid name, or the bundle has no speaker model.
        EdgeemoError: the profile on disk cannot be used.
    """

    def __init__(self, bundle: Bundle, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._bundle = bundle
        self._clock = clock
        new = Profile.new(name, bundle)
        self._stamp = stamp(name)
        self._profile = new if self._stamp is None else self._load()
        self._unsaved = 0
        self._last_try = clock()
        self._failing = False
        self.lost: str | None = None
        """After `close`: why the last changes of the profile could not be saved."""
        self._notices: list[str] = []

    @property
    def added(self) -> tuple[str, ...]:
        """Labels that the profile adds to those of the bundle."""
        return self._profile.added

    def adaptation(self) -> SpeakerAdaptation:
        """Return what is known of the speaker, as it was loaded or saved last."""
        assert self._bundle.speaker_model is not None
        return self._profile.adaptation(self._bundle.speaker_model)

    def updated(self, speaker: SpeakerAdaptation, utterances: int = 1) -> SpeakerAdaptation | None:
        """Save the profile if it is time, after so many new utterances; return what to continue from.

        That is another one where another program changed the profile, and None where it was removed.
        """
        self._unsaved += utterances
        if self._unsaved < SAVE_UTTERANCES or self._clock() - self._last_try < SAVE_SECONDS:
            return speaker
        return self._save(speaker)

    def close(self, speaker: SpeakerAdaptation) -> SpeakerAdaptation | None:
        """Save what is not saved yet, for the last time."""
        return self._save(speaker, last=True) if self._unsaved else speaker

    def notices(self) -> list[str]:
        """Return a sentence for each thing that happened to the profile since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def _load(self) -> Profile:
        profile = load_profile(self.name)
        profile.require(self._bundle, str(profile_path(self.name)))
        return profile

    def _save(self, speaker: SpeakerAdaptation, *, last: bool = False) -> SpeakerAdaptation | None:
        self._last_try = self._clock()
        try:
            with profiles_locked():
                if (found := stamp(self.name)) != self._stamp:
                    return self._changed(found)
                save_profile(self._profile.updated_with(speaker))
                self._stamp = stamp(self.name)
        except (EdgeemoError, OSError) as error:
            # One report when it begins and one when it ends: a disk may be full for weeks.
            if last:
                self.lost = (
                    f"the profile '{self.name}' could not be saved ({_reason(error)}): changes since the last save are "
                    "lost"
                )
                self._notices.append(self.lost)
                self._unsaved = 0
            elif not self._failing:
                self._notices.append(f"the profile '{self.name}' could not be saved ({_reason(error)}); trying again")
            self._failing = True
            return speaker
        if self._failing:
            self._notices.append(f"the profile '{self.name}' is saved again")
        self._failing, self._unsaved = False, 0
        return speaker

    def _changed(self, found: Stamp | None) -> SpeakerAdaptation | None:
        """Accept the change or removal of the file: a deleted profile must not reappear."""
        self._unsaved = 0
        if found is None:
            self._notices.append(
                f"the profile '{self.name}' was removed: it is not used or updated until listening is restarted"
            )
            return None
        try:
            self._stamp, self._profile = found, self._load()
        except EdgeemoError as error:
            self._notices.append(f"{error.message}; the profile is not updated until listening is restarted")
            return None
        self._notices.append(f"the profile '{self.name}' was changed by another program: its new content is used")
        return self.adaptation()


def _reason(error: EdgeemoError | OSError) -> str:
    system = error if isinstance(error, OSError) else error.__cause__
    if isinstance(system, OSError) and system.strerror:
        return system.strerror
    return str(error)

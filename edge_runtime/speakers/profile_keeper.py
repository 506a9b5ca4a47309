"""Keeps a speaker's profile up to date while it is listened to, whatever the disk and other programs do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.errors import EdgeemoError
from edge_runtime.reference import SpeakerReference
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_store import Stamp, load_profile, profile_path, save_profile, stamp

EVERY = 5
"""Utterances that are learnt before it is saved again: what a loss of power can cost."""
SECONDS = 30.0
"""From one time that it is saved to the next: flash memory wears out."""


class ProfileKeeper:
    """One profile that is kept: loaded at the start, or begun, and saved from time to time and at the end.

    Args:
        bundle: a verified bundle.
        name: of the profile.
        clock: gives seconds that never go back.

    Attributes:
        name: of the profile.

    Raises:
        WrongUseError: no profile can have that name, or the bundle's student can know no speaker.
        EdgeemoError: the profile that is there cannot be used.
    """

    def __init__(self, bundle: Bundle, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._bundle = bundle
        self._clock = clock
        self._trust = (begun := Profile.begun(name, bundle)).trust
        self._stamp = stamp(name)
        self._profile = begun if self._stamp is None else self._loaded()
        self._unsaved = 0
        self._tried = clock()
        self._failing = False
        self._told: list[str] = []

    def known(self) -> SpeakerReference:
        """Return what was known at the start."""
        return self._profile.known(self._bundle.reference())

    def learnt(self, known: SpeakerReference, utterances: int = 1) -> SpeakerReference | None:
        """Take in that so many utterances more are known, and save it if it is time; return what is known then.

        That is another thing where another program changed the profile in between, and nothing where it was removed.
        """
        self._unsaved += utterances
        if self._unsaved < EVERY or self._clock() - self._tried < SECONDS:
            return known
        return self._save(known)

    def close(self, known: SpeakerReference) -> SpeakerReference | None:
        """Save what is not saved yet, for the last time."""
        return self._save(known, last=True) if self._unsaved else known

    def news(self) -> list[str]:
        """Return what happened to the profile since it was last asked, a sentence each."""
        told, self._told = self._told, []
        return told

    def _loaded(self) -> Profile:
        profile = load_profile(self.name)
        profile.require(self._bundle, str(profile_path(self.name)))
        # How far a voice is trusted is the bundle's to say.
        return replace(profile, trust=self._trust)

    def _save(self, known: SpeakerReference, *, last: bool = False) -> SpeakerReference | None:
        self._tried = self._clock()
        try:
            if (found := stamp(self.name)) != self._stamp:
                return self._changed(found)
            save_profile(self._profile.taught(known))
            self._stamp = stamp(self.name)
        except (EdgeemoError, OSError) as error:
            # Once when it begins and once when it ends: a disk may be full for weeks.
            if last:
                self._told.append(
                    f"the profile '{self.name}' could not be saved ({_reason(error)}): what was learnt since it was "
                    "saved last is lost"
                )
            elif not self._failing:
                self._told.append(f"the profile '{self.name}' could not be saved ({_reason(error)}); trying on")
            self._failing = True
            return known
        if self._failing:
            self._told.append(f"the profile '{self.name}' is saved again")
        self._failing, self._unsaved = False, 0
        return known

    def _changed(self, found: Stamp | None) -> SpeakerReference | None:
        """Give way to whoever changed or removed the file: a person who deletes a voice must not see it come back."""
        self._unsaved = 0
        if found is None:
            self._told.append(
                f"the profile '{self.name}' was removed: it is forgotten, and nothing is learnt until listening is "
                "started anew"
            )
            return None
        try:
            self._stamp, self._profile = found, self._loaded()
        except EdgeemoError as error:
            self._told.append(f"{error.message}; nothing is learnt until listening is started anew")
            return None
        self._told.append(f"the profile '{self.name}' was changed by another program: going on from what it holds now")
        return self.known()


def _reason(error: EdgeemoError | OSError) -> str:
    system = error if isinstance(error, OSError) else error.__cause__
    if isinstance(system, OSError) and system.strerror:
        return system.strerror
    return str(error)

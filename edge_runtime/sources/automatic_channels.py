"""The automatic choice of channels: those that carry speech.

The choice is made from the first second of a file or pipe, which is held back until then, and revised every 100 ms:

* Silent channels and those with nothing but mains hum or steady noise are left out.
* Where channels differ, those that Silero VAD finds no speech in are left out, such as music.
* Of three or more channels, the largest group whose band levels vary together is used. Others, such as the playback
  channel of a microphone array, differ. Two channels with different speech are both used, as in a telephone call.
* A channel in opposite phase is inverted. Where a mean would still cancel, a clear channel alone is used; so is one of
  three or more whose delays would take high frequencies from a mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_runtime.sources.channel_choice import Choice, Frames, Hops, called, finite_frames, ranges
from edge_runtime.sources.channel_evidence import Evidence, Verdict
from edge_runtime.sources.speech_probe import SpeechProbe

Group = tuple[int, ...]
"""Channels, in order."""

HELD_HOPS = 10
_URGENT_HOPS, _PATIENT_HOPS, _LATE_HOPS, _RARE_HOPS = 2, 10, 30, 50
"""Consecutive hops that ask for a change before it is made (`AutomaticChoice._patience`)."""
_FADE_SECONDS = 0.02
_SPOKEN, _SPOKEN_SHARE = 0.4, 0.5
"""Least probability of speech of the likeliest group of channels, and share of it that another group needs."""
_MUSIC_HOPS = 5
_SIGN_HOPS = 5
_CLEAR_SHARE = 0.4
"""Least modulation within a group, relative to its clearest channel: a noisy channel spoils a mean."""
_AS_CLEAR = 0.8
"""The same for a channel that is used alone, of which the loudest is taken."""


class _Wanted(NamedTuple):
    """A choice that the evidence asks for.

    Attributes:
        choice: the channels.
        reasons: by channel, for those that are not simply used.
        spoken: whether it follows from speech.
        alone: whether one channel stands for several whose mean would cancel, or lose high frequencies.
    """

    choice: Choice
    reasons: dict[int, str]
    spoken: bool
    alone: bool


class AutomaticChoice:
    """The automatic choice.

    Attributes:
        choice: the channels in use.
        report: a sentence on the choice, until it is fetched.
    """

    def __init__(self, channels: int, rate: int, held_hops: int) -> None:
        self.choice = Choice(tuple(range(channels)), (1,) * channels)
        self.report: str | None = None
        self._channels = channels
        self._evidence = Evidence(channels, rate)
        self._probe = SpeechProbe(channels, rate)
        self._hops = Hops(channels, self._evidence.hop)
        self._fade = round(_FADE_SECONDS * rate)
        self._held: list[Frames] | None = []
        self._held_hops = held_hops
        self._speech_found = self._alone = False
        self._home: set[int] = set()
        self._asked: tuple[Choice, int] | None = None
        self._varying = np.zeros(channels, np.int64)
        self._music = np.zeros(channels, bool)
        self._signed: tuple[Group, int, Frames] = ((), 0, np.zeros(0, np.float32))
        self._dull = False

    def select(self, frames: Frames, *, last: bool) -> Frames:
        """Return the samples ``[S]`` that can be given by now, as `ChannelSelector.select`."""
        ready = [part for hop in self._hops.add(frames) if (part := self._hop(hop)) is not None]
        if last:
            rest = self._hops.rest()
            if self._held:
                rest = np.concatenate([*self._held, rest])
                self._begin()
            if len(rest):
                ready.append(self.choice.mean(rest))
        return np.concatenate(ready) if ready else np.zeros(0, np.float32)

    def _hop(self, frames: Frames) -> Frames | None:
        """Return the samples of a hop, or of all that were held back; None while they are."""
        finite = finite_frames(frames)
        self._evidence.add(finite)
        if len(self.choice.used) > 1:
            self._evidence.forget_phases(self.choice.used, np.array(self.choice.signs, np.float32))
        self._probe.add(finite)
        if self._held is not None:
            self._held.append(frames.copy())
            if len(self._held) < self._held_hops:
                self._verdict()
                return None
            held = np.concatenate(self._held)
            self._begin()
            return self.choice.mean(held)
        before = self.choice
        self._revise()
        old = before.mean(frames)
        if before == self.choice:
            return old
        ramp = np.minimum(np.arange(1, len(frames) + 1, dtype=np.float32) / np.float32(self._fade), np.float32(1))
        return np.asarray(old + ramp * (self.choice.mean(frames) - old), np.float32)

    def _begin(self) -> None:
        """Choose for the first time."""
        self._held = None
        self._adopt(self._wanted(self._verdict()))

    def _verdict(self) -> Verdict:
        verdict = self._evidence.verdict(self.choice.used if self._held is None else ())
        varying = np.array([content == "speech" for content in verdict.content])
        self._varying = np.where(varying, self._varying + 1, 0)
        self._music &= varying
        return verdict

    def _revise(self) -> None:
        verdict = self._verdict()
        wanted = self._wanted(verdict)
        asked, count = self._asked or (wanted.choice, 0)
        if wanted.choice == self.choice:
            self._remember(wanted)
        if wanted.choice == self.choice or (asked != wanted.choice and count > _PATIENT_HOPS):
            # Where another choice was asked for often, a pause in the speech does not forget it.
            self._asked = (asked, count - 1) if count > 1 else None
            return
        count = count + 1 if asked == wanted.choice else 1
        self._asked = wanted.choice, count
        if count >= self._patience(wanted, verdict):
            self._adopt(wanted)

    def _patience(self, wanted: _Wanted, verdict: Verdict) -> int:
        """Return how many consecutive hops have to ask for a change.

        One where the channels in use cancel, and for the other speaker of a call. Few where all channels in use have
        died, before any speech, and for the return to channels that were used before. A second where some have died:
        where speech fades out, weak channels fall silent first, and a silent one only lowers the mean; the same for one
        that stands for several, since the others fade out with it. Many where other
        channels have speech while those in use have it too, or for a smaller group than before: it may be playback.
        """
        now, then = set(self.choice.used), set(wanted.choice.used)
        dead = any(verdict.content[number] == "silent" for number in now)
        if dead and not wanted.spoken:
            return 1
        if len(now) > 1 and self._evidence.cancels(self.choice.used, np.array(self.choice.signs, np.float32)):
            return 1
        if dead and (then < now or (self._alone and len(then) == 1)):
            return _PATIENT_HOPS
        if dead or not self._speech_found:
            return _URGENT_HOPS
        if self._alone and not wanted.alone:
            return _PATIENT_HOPS
        if self._channels == 2:
            return 1 if now < then else _PATIENT_HOPS if then & now else _URGENT_HOPS
        if then & now:
            return _PATIENT_HOPS
        if then & self._home:
            return _URGENT_HOPS
        if now & set(verdict.speech):
            return _RARE_HOPS
        return _LATE_HOPS if len(then) < len(self._home) else _PATIENT_HOPS

    def _adopt(self, wanted: _Wanted) -> None:
        self.choice, self._asked, self._alone = wanted.choice, None, wanted.alone
        self._remember(wanted)
        used = wanted.choice.used
        why = _grouped(wanted.reasons) or ("they carry speech" if self._speech_found else "no speech yet")
        verb = "are" if len(used) > 1 else "is"
        self.report = f"{called(used)} of {self._channels} {verb} used: {why}"

    def _remember(self, wanted: _Wanted) -> None:
        self._speech_found = self._speech_found or wanted.spoken
        used = set(wanted.choice.used)
        if wanted.spoken and (len(used) >= len(self._home) or used < self._home):
            self._home = used

    def _wanted(self, verdict: Verdict) -> _Wanted:
        """Return the choice that the evidence asks for."""
        groups = _groups(verdict)
        spoken = self._spoken(groups)
        reasons = {number: _REASONS[content] for number, content in enumerate(verdict.content) if content in _REASONS}
        for group in groups:
            reasons |= dict.fromkeys(group, "differs" if group in spoken else "carries no speech")
        if spoken:
            used, best = self._with_speech(spoken, verdict)
            reasons |= dict.fromkeys(best, "is noisier")
        else:
            used = self._without_speech(verdict)
        reasons = {number: reason for number, reason in reasons.items() if number not in used}
        found = bool(spoken)
        if len(used) == 1:
            return _Wanted(Choice(used, (1,)), reasons, found, alone=False)
        reference = max(used, key=lambda number: (verdict.modulation[number], -number))
        signs = self._signs(used, reference)
        cancels = self._evidence.cancels(used, signs)
        if cancels or self._dull:
            one = self._alone_of(used, verdict)
            others = [number for number in used if number != one]
            reasons |= dict.fromkeys(others, "would cancel in the mean" if cancels else "differs in delay")
            return _Wanted(Choice((one,), (1,)), reasons, found, alone=True)
        # By the first channel, so that another reference does not invert all of them.
        signs = signs * signs[0]
        for number, sign in zip(used, signs, strict=True):
            if sign < 0:
                reasons[number] = "is in opposite phase and is inverted"
        return _Wanted(Choice(used, tuple(int(sign) for sign in signs)), reasons, found, alone=False)

    def _signs(self, used: Group, reference: int) -> Frames:
        """Return the sign of each channel; compared again twice a second, and where the mean cancels."""
        same, age, signs = self._signed
        if same != used or age >= _SIGN_HOPS or self._evidence.cancels(used, signs):
            before = dict(zip(*self.choice, strict=True))
            known = np.array([before.get(number, 1) for number in used], np.float32)
            age, signs = 0, self._evidence.signs(used, reference, known)
            # Two microphones leave half of each frequency on average.
            self._dull = len(used) > 2 and self._evidence.dulls(used, reference, signs, before=self._alone)
        self._signed = used, age + 1, signs
        return signs

    def _alone_of(self, used: Group, verdict: Verdict) -> int:
        """Return the channel that stands for some: that in use while it is clear, else the loudest clear one."""
        least = _AS_CLEAR * max(verdict.modulation[list(used)])
        clear = [number for number in used if verdict.modulation[number] >= least]
        if self._alone and self.choice.used[0] in clear:
            return self.choice.used[0]
        return max(clear, key=lambda number: (round(float(verdict.level[number])), -number))

    def _spoken(self, groups: list[Group]) -> list[Group]:
        """Return the groups with speech, and not music or other sounds that vary as speech does."""
        if not groups or (len(groups) == 1 and len(groups[0]) == self._channels):
            return groups
        now, first = set(self.choice.used), set(groups[0])
        if len(groups) == 1 and self._speech_found and (now == first or (self._alone and now < first)):
            return groups
        probabilities = self._probe.probabilities(groups, self.choice.used if self._speech_found else ())
        if self._probe.examined_now:
            for group, found in zip(groups, probabilities, strict=True):
                # What has only just begun may be speech.
                self._music[list(group)] = (found < _SPOKEN) & (self._varying[list(group)] >= _MUSIC_HOPS)
        least = max(_SPOKEN, _SPOKEN_SHARE * max(probabilities))
        spoken = [group for group, found in zip(groups, probabilities, strict=True) if found >= least]
        if spoken and self._channels == 2:
            return [group for group in groups if group in spoken or not self._music[list(group)].any()]
        return spoken

    def _with_speech(self, spoken: list[Group], verdict: Verdict) -> tuple[Group, Group]:
        """Return the channels to use where some carry speech, and the group that they are of."""
        if self._channels == 2:
            # A silent moment of the second speaker of a call is no reason to leave the speaker out.
            quiet = {number for number in (0, 1) if verdict.content[number] != "silent" and verdict.quiet(number)}
            both = tuple(sorted(quiet.union(*spoken)))
            return both, both
        # Of equal groups that in use, else that of the lowest channel: arrays give playback last.
        best = max(
            sorted(spoken),
            key=lambda group: (
                round(float(verdict.modulation[list(group)].sum()), 1),
                len(set(group) & set(self.choice.used)),
            ),
        )
        if not self._speech_found:
            # At the onset of speech all channels vary, those with other speech too.
            return best, best
        clearest = float(verdict.modulation[list(best)].max())
        return tuple(number for number in best if verdict.modulation[number] >= _CLEAR_SHARE * clearest), best

    def _without_speech(self, verdict: Verdict) -> Group:
        """Return the channels in use; before any speech, and where they are silent, those without hum and music.

        In the pauses of a device with a noise gate, hum and music on others do not take the place of its silence.
        """
        alive = [number for number, content in enumerate(verdict.content) if content != "silent"]
        fair = [number for number in alive if verdict.content[number] != "hum" and not self._music[number]]
        if not self._speech_found:
            return tuple(fair or alive or range(self._channels))
        kept = set(self.choice.used)
        if not kept & set(alive):
            return tuple(fair) or self.choice.used
        return tuple(sorted(kept | set(fair))) if self._channels == 2 else self.choice.used


_REASONS = {"silent": "is silent", "hum": "hums", "noise": "is only noise"}
_PLURAL = {"is": "are", "hums": "hum", "differs": "differ", "carries": "carry"}


def _groups(verdict: Verdict) -> list[Group]:
    """Return the channels that vary as speech does, in groups that carry the same, the largest group first."""
    left, groups = set(verdict.speech), []
    while left:
        around = {
            one: tuple(sorted(other for other in left if one == other or verdict.agree(one, other))) for one in left
        }
        group = max(sorted(around.values()), key=len)
        groups.append(group)
        left -= set(group)
    return groups


def _grouped(reasons: dict[int, str]) -> str:
    """Return reasons by channels, as "4 is silent, 5-6 hum"."""
    texts = []
    for reason in dict.fromkeys(reasons[number] for number in sorted(reasons)):
        numbers = [number for number in sorted(reasons) if reasons[number] == reason]
        if len(numbers) > 1:
            reason = " ".join(_PLURAL.get(word, word) for word in reason.split(" "))
        texts.append(f"{ranges(numbers)} {reason}")
    return ", ".join(texts)

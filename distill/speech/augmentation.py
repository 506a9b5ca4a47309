"""Augmentation of training speech by sessions: voice, room, noise, microphone, channel.

The words and the emotion stay. A *session* is what one recording session of one speaker keeps constant; only the level
of the noise and the position in it differ from utterance to utterance. The level of the speech hardly changes: every
student normalises it first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from pydantic import BaseModel, Field, model_validator

from distill.speech.channels import mp3, opus, telephone
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, read_audio

# Recipes name augmentation, and help about recipes is given without scipy, which `distill.speech.acoustics` and
# `distill.speech.sound_files` need: they are imported in functions.

_BANDS = 6
_RATIOS_DB = 25.0
"""Range of signal-to-noise ratios above the lowest one."""
_WITHIN_DB = 3.0
"""Utterances of a session differ from its signal-to-noise ratio by up to this."""
_SHORTEST = 0.15
"""Seconds of reverberation in a small furnished room."""
_DIRECT_DB = (-6.0, 15.0)
"""Direct-to-reverberant ratios, from across the room to close to the microphone."""
_NOISE_SECONDS = 20
_MOST_SECONDS = 60
_TALKERS = (3, 8)
_OPUS_KBIT = (8.0, 24.0)
_MP3_COMPRESSION = (0.5, 0.95)
_CLIPPED = (0.001, 0.1)


class Augmentation(BaseModel, extra="forbid", frozen=True):
    """How strongly training speech is changed; 0 or an empty list switches a part off.

    What is drawn is drawn once for all utterances of a speaker in one copy or epoch (`Session`). Directories are
    searched at any depth; of several, each is drawn as often as the others.

    Attributes:
        speed: faster or slower by up to this share, pitch and formants with it: another speaker (Ko et al. 2015).
        equaliser_db: gains of six bands from 0 to 8 kHz are drawn within plus and minus this: another microphone.
        room_seconds: longest reverberation time (60 dB) of simulated rooms.
        rooms: directories of recorded room impulse responses; with ``room_seconds`` too, every other room is simulated.
        noise_db: lowest signal-to-noise ratio in dB; drawn up to 25 dB above it. Noise is between white and pink,
            or of the following directories, each kind as often as the others.
        noises: directories of recorded noise.
        babble: directories of speech, of which several files at once make babble. None of it may be tested.
        talkers: babble of other speakers of the same corpus, among the processed utterances, as well.
        chance: of each of equaliser, room and noise; speed is always drawn.
        telephone: chance of a telephone line: 300 to 3400 Hz, coded as G.711 or GSM.
        codec: chance of Opus or MP3 at a low rate, where there is no telephone.
        clipping: chance that the loudest 0.1 to 10 % of the samples are clipped.
    """

    speed: float = Field(default=0.0, ge=0, lt=0.5)
    equaliser_db: float = Field(default=0.0, ge=0, le=20)
    room_seconds: float = Field(default=0.0, ge=0, le=2)
    rooms: tuple[str, ...] = ()
    noise_db: float | None = Field(default=None, ge=-10, le=40)
    noises: tuple[str, ...] = ()
    babble: tuple[str, ...] = ()
    talkers: bool = False
    chance: float = Field(default=0.5, ge=0, le=1)
    telephone: float = Field(default=0.0, ge=0, le=1)
    codec: float = Field(default=0.0, ge=0, le=1)
    clipping: float = Field(default=0.0, ge=0, le=1)

    def of_voice(self) -> Augmentation:
        """Return the part that changes the voice: another speaker in the same room."""
        return Augmentation(speed=self.speed)

    @model_validator(mode="after")
    def _noise_has_a_level(self) -> Augmentation:
        for name, used in (("noises", self.noises), ("babble", self.babble), ("talkers", self.talkers)):
            if used and self.noise_db is None:
                raise ValueError(f"'{name}' needs 'noise_db', the lowest signal-to-noise ratio in dB")
        return self


@dataclass(frozen=True)
class Recordings:
    """The audio files of each directory that a recipe names, by key."""

    rooms: tuple[tuple[Path, ...], ...] = ()
    noises: tuple[tuple[Path, ...], ...] = ()
    babble: tuple[tuple[Path, ...], ...] = ()

    @classmethod
    def of(cls, how: Augmentation) -> Recordings:
        """List the files.

        Raises:
            WrongUseError: a directory is missing, or holds no audio.
            EdgeemoError: a file is not readable as audio.
        """
        from distill.speech.sound_files import sound_files

        return cls(*(tuple(sound_files(Path(each)) for each in group) for group in (how.rooms, how.noises, how.babble)))

    def with_babble(self, talkers: Sequence[Path]) -> Recordings:
        """Return these with the speech of some talkers for babble as well."""
        return replace(self, babble=(*self.babble, tuple(talkers)))


@dataclass(frozen=True)
class Session:
    """What is the same for all utterances of a speaker in one copy; the defaults change nothing.

    Attributes:
        rate: speed of the voice.
        response: room impulse response ``[taps]``.
        noise: a recording ``[samples]`` of the noise.
        ratio_db: signal-to-noise ratio, around which that of each utterance is drawn.
        gains_db: of the equaliser's bands.
        clipped: share of samples that are clipped.
        channel: a function of a waveform, from `distill.speech.channels`.
    """

    rate: float = 1.0
    response: npt.NDArray[np.floating] | None = None
    noise: npt.NDArray[np.floating] | None = None
    ratio_db: float = 0.0
    gains_db: npt.NDArray[np.floating] | None = None
    clipped: float = 0.0
    channel: Callable[[Pcm], Pcm] | None = None


def draw_session(how: Augmentation, recordings: Recordings, random: np.random.Generator) -> Session:
    """Draw a session.

    Args:
        how: what to change.
        recordings: the files of its directories.
        random: of all draws.

    Raises:
        EdgeemoError: a recording cannot be used.
    """

    def takes_place(wanted: object, chance: float) -> bool:
        return bool(wanted) and random.random() < chance

    rate = math.exp(random.uniform(-1.0, 1.0) * math.log1p(how.speed))
    response = noise = gains = channel = None
    ratio, share = 0.0, 0.0
    if takes_place(how.room_seconds or how.rooms, how.chance):
        response = _room(how, recordings, random)
    if takes_place(how.noise_db is not None, how.chance):
        noise = _noise(recordings, random)
        ratio = (how.noise_db or 0.0) + random.uniform(_WITHIN_DB, _RATIOS_DB - _WITHIN_DB)
    if takes_place(how.equaliser_db, how.chance):
        gains = random.uniform(-how.equaliser_db, how.equaliser_db, _BANDS)
    if takes_place(True, how.clipping):
        share = math.exp(random.uniform(*np.log(_CLIPPED)))
    if takes_place(True, how.telephone):
        channel = partial(telephone, coding="g711" if random.random() < 0.5 else "gsm")
    elif takes_place(True, how.codec):
        channel = (
            partial(opus, kbit=random.uniform(*_OPUS_KBIT))
            if random.random() < 0.5
            else partial(mp3, compression=random.uniform(*_MP3_COMPRESSION))
        )
    return Session(rate, response, noise, ratio, gains, share, channel)


def augment(pcm: Pcm, session: Session, random: np.random.Generator) -> Pcm:
    """Return an utterance as the session gives it; only speed changes its length.

    Args:
        pcm: float32 ``[S]`` at 16 kHz.
        session: what all utterances of the speaker have in common.
        random: of what is the utterance's own.
    """
    from distill.speech import acoustics

    if session.rate != 1.0:
        pcm = soxr.resample(pcm, SAMPLE_RATE * session.rate, SAMPLE_RATE)
    if session.response is not None:
        pcm = acoustics.in_room(pcm, session.response)
    if session.noise is not None:
        ratio = session.ratio_db + random.uniform(-_WITHIN_DB, _WITHIN_DB)
        pcm = acoustics.add_noise(pcm, acoustics.excerpt(session.noise, len(pcm), random), ratio)
    if session.gains_db is not None:
        pcm = _equalise(pcm, session.gains_db)
    if session.clipped:
        pcm = acoustics.clipped(pcm, session.clipped)
    if session.channel is not None:
        pcm = session.channel(pcm)
    return np.asarray(pcm, np.float32)


def _room(how: Augmentation, recordings: Recordings, random: np.random.Generator) -> npt.NDArray[np.floating]:
    from distill.speech.acoustics import room_response
    from distill.speech.sound_files import read_response

    if recordings.rooms and not (how.room_seconds and random.random() < 0.5):
        return read_response(_any_of(recordings.rooms, random))
    seconds = random.uniform(min(_SHORTEST, how.room_seconds), how.room_seconds)
    return room_response(seconds, random.uniform(*_DIRECT_DB), random)


def _noise(recordings: Recordings, random: np.random.Generator) -> npt.NDArray[np.floating]:
    from distill.speech import acoustics

    kinds = ["coloured", *(["recorded"] if recordings.noises else []), *(["babble"] if recordings.babble else [])]
    kind = kinds[int(random.integers(len(kinds)))]
    if kind == "recorded":
        recorded = read_audio(_any_of(recordings.noises, random))
        start = int(random.integers(max(1, len(recorded) - _MOST_SECONDS * SAMPLE_RATE + 1)))
        return recorded[start : start + _MOST_SECONDS * SAMPLE_RATE].copy()
    samples = _NOISE_SECONDS * SAMPLE_RATE
    if kind == "coloured":
        noise = acoustics.coloured_noise(samples, random.uniform(0.0, 1.0), random)
    else:
        paths = [_any_of(recordings.babble, random) for _ in range(int(random.integers(*_TALKERS, endpoint=True)))]
        try:
            noise = acoustics.babble(samples, [read_audio(path) for path in paths], random)
        except ValueError as error:
            raise EdgeemoError(f"{paths[0]}: {error}; take silent files out of the directory") from error
    return noise.astype(np.float32)


def _any_of(directories: tuple[tuple[Path, ...], ...], random: np.random.Generator) -> Path:
    files = directories[int(random.integers(len(directories)))]
    return files[int(random.integers(len(files)))]


def _equalise(pcm: Pcm, gains_db: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    spectrum = np.fft.rfft(pcm)
    places = np.linspace(0, _BANDS - 1, len(spectrum))
    gain = np.interp(places, np.arange(_BANDS), gains_db)
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(pcm))

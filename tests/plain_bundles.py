"""A bundle in milliseconds: a graph of a few nodes, and a manifest that fits it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundles.manifest import SCHEMA_VERSION, SPEAKER_MODEL
from edge_runtime.bundles.speaker_model import SpeakerModel

LABELS = ("angry", "happy", "sad")
SIZE = 4
GRAPH = "model.fp32.onnx"
REFERENCE = 0.5
"""Each number of the training mean."""


def _model(name: str, nodes: list[onnx.NodeProto], weights: dict[str, Any], classes: int, size: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [value("pcm", TensorProto.FLOAT, [1, "samples"]), value("reference", TensorProto.FLOAT, [1, size])],
        [value("logits", TensorProto.FLOAT, [1, classes]), value("statistics", TensorProto.FLOAT, [1, size])],
        [numpy_helper.from_array(np.asarray(each, np.float32), key) for key, each in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def plain_graph(classes: int = len(LABELS), size: int = SIZE) -> onnx.ModelProto:
    """Return a graph whose logits are the mean of the samples times some weights."""
    nodes = [
        helper.make_node("ReduceMean", ["pcm"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Add", ["mean", "reference"], ["statistics"]),
    ]
    return _model("plain", nodes, {"weights": np.linspace(0.5, 1.5, classes)[None]}, classes, size)


def plain_speaker_model() -> SpeakerModel:
    """Return a model of three classes along the loudness, which speakers differ in as well."""
    return SpeakerModel(
        projection=np.array([[5.0, 5.0, 0.0, 0.0], [0.0, 0.0, 4.0, -4.0]], np.float32),
        origin=np.full(SIZE, REFERENCE),
        class_means=np.array([[-2.0, 1.0], [0.0, -1.0], [2.0, 0.0]]),
        between=np.array([[4.0, 0.5], [0.5, 1.0]]),
        interaction=np.repeat([[0.5, 0.25]], len(LABELS), axis=0),
        softness=8.0,
    )


def hearing_graph(classes: int = len(LABELS), size: int = SIZE) -> onnx.ModelProto:
    """Return a graph as students are: statistics of the audio alone, logits of how far they are from the reference."""
    weights = np.cos(np.arange(size * classes, dtype=np.float32)).reshape(size, classes)
    return _hearing(weights, np.zeros(classes))


def speaker_graph(model: SpeakerModel) -> onnx.ModelProto:
    """Return a `hearing_graph` whose logits are those of a speaker model for an unknown speaker."""
    covariance = np.eye(len(model.between)) + model.between + np.diag(model.interaction[0])
    solved = np.linalg.solve(covariance, model.class_means.T)
    return _hearing(model.projection.T @ solved, -0.5 * (model.class_means.T * solved).sum(axis=0))


def _hearing(weights: Any, bias: Any) -> onnx.ModelProto:
    size, classes = weights.shape
    nodes = [
        helper.make_node("Abs", ["pcm"], ["loudness"]),
        helper.make_node("ReduceMean", ["loudness"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "spread"], ["statistics"]),
        helper.make_node("Sub", ["statistics", "reference"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], ["linear"]),
        helper.make_node("Add", ["linear", "bias"], ["logits"]),
    ]
    values = {"weights": weights, "bias": bias[None], "spread": np.linspace(1.0, 2.0, size)[None]}
    return _model("hearing", nodes, values, classes, size)


DIMENSIONS = ("arousal", "valence")


def save_dimension_bundle(folder: Path) -> Path:
    """Save a bundle whose arousal is ten times the mean absolute sample, and whose valence is off the scale."""
    model = hearing_graph()
    graph = model.graph
    graph.node.append(helper.make_node("MatMul", ["mean", "rise"], ["dimensions"]))
    graph.output.append(helper.make_tensor_value_info("dimensions", TensorProto.FLOAT, [1, 2]))
    graph.initializer.append(numpy_helper.from_array(np.array([[10.0, -1.0]], np.float32), "rise"))
    save_plain_bundle(folder, model)
    entry = {"names": list(DIMENSIONS), "metrics": {}, "known_answers": {}, "tolerance": 0.01}
    change(folder, lambda manifest: manifest.update(dimensions=entry))
    return folder


def first_label_graph(classes: int = len(LABELS), size: int = SIZE) -> onnx.ModelProto:
    """Return a graph that gives the first class for any sound."""
    nodes = [
        helper.make_node("ReduceMean", ["pcm"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "first"], ["logits"]),
        helper.make_node("Add", ["zero", "reference"], ["statistics"]),
    ]
    return _model("first", nodes, {"nothing": [[0.0]], "first": [[3.0] + [0.0] * (classes - 1)]}, classes, size)


def save_speaker_bundle(folder: Path, content: bytes | None = None, **speaker: Any) -> Path:
    """Save a bundle with a speaker model; segments of two seconds, so that there are some soon.

    Args:
        folder: where; it must not exist.
        content: of the model's file; by default `plain_speaker_model`.
        speaker: other values of the manifest's ``speaker``.
    """
    model = plain_speaker_model()
    save_plain_bundle(folder, speaker_graph(model))
    window = {"seconds": 1.0, "hop_seconds": 0.5, "minimum_seconds": 0.5, "segment_seconds": 2.0}
    speaker = {"directions": len(model.between), "softness": model.softness} | speaker
    change(folder, lambda manifest: manifest.update(speaker=speaker, window=window))
    add_file(folder, SPEAKER_MODEL, model.dump() if content is None else content)
    return folder


def add_file(folder: Path, name: str, content: bytes) -> None:
    """Add a file to a bundle, and to its manifest."""
    (folder / name).write_bytes(content)
    change(folder, lambda manifest: manifest["files"].append(entry(folder, name)))


def plain_manifest() -> dict[str, Any]:
    """Return a manifest without its files."""
    return {
        "schema_version": SCHEMA_VERSION,
        "created": "2026-01-01T00:00:00+00:00",
        "labels": list(LABELS),
        "sample_rate": 16_000,
        "window": {"seconds": 2.0, "hop_seconds": 0.5, "minimum_seconds": 0.5, "segment_seconds": 6.0},
        "level_db": -26.0,
        "statistics_size": SIZE,
        "reference": [REFERENCE] * SIZE,
        "encoder": {
            "family": "whisper", "layers": 1, "pooled_layers": [-1], "d_model": 2, "heads": 1, "feed_forward": 4,
            "mel_bins": 8, "parameters": 3,
        },
        "recipe": {"name": "plain", "seed": 3},
        "teachers": [{"name": "linguistic", "ua": 0.5}],
        "corpora": [
            {
                "name": "c", "kind": "folder", "licence": "CC0", "note": "", "fingerprint": "0", "utterances": 3,
                "speakers": 2, "hours": 0.1, "folds": {"count": 3, "index": 0},
            }
        ],
        "metrics": {
            "fp32": {"ua": 0.5, "ua_low": 0.4, "ua_high": 0.6, "wa": 0.5, "utterances": 3, "speakers": 2},
        },
        "temperature": 1.5,
        "threshold": 0.4,
        "quantisation": {},
        "pruning": {},
        "macs": {"encoder": 12},
        "gate": {},
        "parity": [{"of": "fp32", "cosine": 1.0}],
        "provenance": {"command": "none"},
    }  # fmt: skip


def save_plain_bundle(folder: Path, graph: onnx.ModelProto | bytes | None = None) -> Path:
    """Save a bundle with one graph and a model card."""
    folder.mkdir(parents=True)
    model = plain_graph() if graph is None else graph
    (folder / GRAPH).write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    (folder / "README.md").write_text("A bundle without a student, for tests.\n")
    manifest = plain_manifest()
    manifest["files"] = [entry(folder, GRAPH), entry(folder, "README.md")]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


def entry(folder: Path, name: str) -> dict[str, Any]:
    """Describe a file that is there."""
    content = (folder / name).read_bytes()
    return {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))

"""Small random students of every family, with statistics that differ, and windows of sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from distill.distillation.build_student import build_student
from distill.recipe import Schedule
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from edge_runtime.windows import WindowPolicy
from export.graphs.policy import POOLING
from tests.conftest import tone
from tests.small_models import save_encoder

POLICY = WindowPolicy(seconds=2.0)


def windows(count: int) -> list[np.ndarray]:
    """Return windows of 2 s: tones of different pitch in noise."""
    return [
        tone(2.0, frequency=120 + 20 * seed)
        + np.random.default_rng(seed).standard_normal(32_000).astype(np.float32) * 0.02
        for seed in range(count)
    ]


def small_student(
    folder: Path, family: str, *, stable: bool = False, pooled: tuple[int, ...] = (1, 3), **changes: object
) -> Student:
    """Return a student on a random encoder with trained-looking norms."""
    encoder = save_encoder(folder / "encoder", family, stable=stable, **changes)
    recipe = StudentRecipe(
        encoder=str(encoder), hidden_size=32, pooled_layers=pooled, training=Schedule(epochs=1, learning_rate=1e-3)
    )
    torch.manual_seed(0)
    student = build_student(recipe, ("a", "b", "c"), {"linguistic": 24, "prosodic": 16})
    student.reference.normal_(0, 0.1)
    for weight in student.encoder.parameters():
        # Hugging Face's 0.02 leaves attention and feed-forward part without influence in so narrow a model.
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, 0.0, weight.shape[1] ** -0.5)
    return student.eval()


def graph_macs(path: Path, student: Student, samples: int) -> int:
    """Count the multiply-accumulates of a float graph by running it and looking at every shape.

    Not those of statistics over time: sums, which are not counted in any other form either.
    """
    model = onnx.load(path)
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    counted = [
        node
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv") and not node.name.startswith(POOLING)
    ]
    there = {value.name for value in [*model.graph.output, *model.graph.input]}
    names = {name for node in counted for name in (node.input[0], node.output[0])} - set(shapes) - {"pcm", "reference"}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(names - there)
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {"pcm": np.zeros((1, samples), np.float32) + 0.01, "reference": student.reference.numpy()}
    found = session.run(sorted(names), feeds)
    shapes |= {name: values.shape for name, values in zip(sorted(names), found, strict=True)}
    total = 0
    for node in counted:
        inner = np.prod(shapes[node.input[1]][1:]) if node.op_type == "Conv" else shapes[node.input[0]][-1]
        total += int(np.prod(shapes[node.output[0]])) * int(inner)
    return total

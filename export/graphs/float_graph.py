"""Student checkpoint to the float ONNX graph: PCM and reference in, logits, statistics and dimensions out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from distill.student import Student
from edge_runtime.engines.chunks import CHUNK_KEY, LEAD, NEXT, PAST
from edge_runtime.engines.engine import DIMENSIONS_OUTPUT
from edge_runtime.windows import WindowPolicy

OPSET = 18
"""JetPack 6 (TensorRT 10.3) reads opset 17 to 20; LayerNormalization is one node from 17 on."""
IR_VERSION = 9
"""The newest that ONNX Runtime 1.17 reads."""


class DeviceGraph(nn.Module):
    """The student as the device calls it: one waveform, one reference, two outputs or, with dimensions, three."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, pcm: Tensor, reference: Tensor) -> tuple[Tensor, ...]:
        """Map ``[1, samples]`` and ``[1, D]`` to logits ``[1, C]``, statistics ``[1, D]`` and dimensions ``[1, K]``."""
        output = self.student(pcm, reference=reference)
        outputs = output.logits, output.statistics
        return outputs if output.dimensions is None else (*outputs, output.dimensions)


class ChunkGraph(nn.Module):
    """A student in chunks as the device calls it: also what it passes on from one chunk to the next, in and out."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, pcm: Tensor, reference: Tensor, past: Tensor) -> tuple[Tensor, ...]:
        """Map ``[1, samples]``, ``[1, D]`` and ``[1, P]`` to what `DeviceGraph` returns, and ``[1, P]``."""
        output, after = self.student.next_chunk(pcm, past, reference)
        assert output.logits is not None
        assert output.statistics is not None
        outputs = output.logits, output.statistics, after
        return outputs if output.dimensions is None else (*outputs, output.dimensions)


def export_graph(student: Student, policy: WindowPolicy, path: Path) -> None:
    """Write the float graph of a trained student, with a free number of samples up to the window."""
    # Fused attention has no ONNX form that both ONNX Runtime and TensorRT read.
    student = student.eval()
    student.encoder.config._attn_implementation = "eager"
    chunk = student.encoder.chunk_samples
    longest = LEAD + chunk if chunk else policy.samples
    student.encoder.shorten(longest)
    inputs = {"pcm": torch.randn(1, longest) * 0.05, "reference": student.reference}
    if chunk:
        inputs[PAST] = torch.zeros(1, student.past_size)
    samples = torch.export.Dim("samples", min=student.encoder.minimum_samples, max=longest)
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            ChunkGraph(student) if chunk else DeviceGraph(student),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[
                *("logits", "statistics"),
                *([NEXT] if chunk else []),
                *([DIMENSIONS_OUTPUT] if student.config.dimensions else []),
            ],
            dynamic_shapes={name: {1: samples} if name == "pcm" else None for name in inputs},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    _name_nodes(model)
    if chunk:
        onnx.helper.set_model_props(model, {CHUNK_KEY: str(chunk)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Name every node by the module that it comes from, as ``encoder.layers.0.fc1/MatMul_2``.

    The exporter writes that path into each node's metadata only, which is removed: it would be half of a small file.
    """
    for number, node in enumerate(model.graph.node):
        scopes = next((item.value for item in node.metadata_props if item.key == "namespace"), "")
        # "…/student.encoder: transformers…Encoder/student.encoder.conv1: torch…Conv1d/conv1d_1: aten.conv1d.default"
        modules = [scope.partition(":")[0].strip() for scope in scopes.split("/")]
        module = next((name for name in reversed(modules) if name.startswith("student.")), "")
        node.name = f"{module.removeprefix('student.') or 'student'}/{node.op_type}_{number}"
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep exporters' informational messages off the error stream."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

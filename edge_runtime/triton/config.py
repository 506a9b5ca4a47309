"""The model configuration that Triton Inference Server reads: ``config.pbtxt`` of one graph of a bundle.

Source of the fields: ``protobuf/model_config.proto`` of triton-inference-server/common; of the layout and of what the
fields do: Triton's user guide, "Model Repository" and "Model Configuration". `tests/model_config.py` holds the fields
that are used here, and the tests parse what is written with Protocol Buffers' own text format.

* ``max_batch_size`` is 0, and there is no ``dynamic_batching``: windows are never padded, so the graph takes one
  waveform at a time, and the sizes include their first dimension.
* ``onnxruntime`` runs on the CPU with one thread, as the graphs were measured.
* ``tensorrt`` runs an engine that `edgeemo build` made and compared with its graph. ``execution_accelerators`` are not
  used: they enable either INT8 or FP16 (``precision_mode``) where the graph needs both.
* A client reads ``parameters`` from the server (``/v2/models/NAME/config``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

import numpy as np

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.chunks import LEAD, NEXT, PAST, REST
from edge_runtime.engines.engine import DIMENSIONS_OUTPUT, OnnxEngine
from edge_runtime.windows import SHORTEST

Backend = Literal["onnxruntime", "tensorrt"]
LABELS = "labels.txt"
"""The file with the label of each logit, one a line."""
MODEL_FILES: dict[Backend, str] = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}
_PLACES: dict[Backend, str] = {"onnxruntime": "KIND_CPU", "tensorrt": "KIND_GPU"}


def model_name(base: str, precision: Precision, backend: Backend) -> str:
    """Return the name of the model that serves a graph.

    >>> model_name("bundle", "int8-cpu", "onnxruntime"), model_name("bundle", "int8-trt", "tensorrt")
    ('bundle-int8-cpu', 'bundle-tensorrt-int8')
    """
    return f"{base}-{precision}" if backend == "onnxruntime" else f"{base}-tensorrt-{precision.removesuffix('-trt')}"


def model_config(name: str, bundle: Bundle, precision: Precision, backend: Backend) -> str:
    """Return the text of ``config.pbtxt``.

    Raises:
        EdgeemoError: the bundle lacks the graph, or its inputs or outputs differ from those of bundles.
    """
    shapes, chunk = OnnxEngine.of(bundle, precision).shapes(), bundle.manifest.window.chunk
    lines = [
        f"name: {_quoted(name)}",
        f"backend: {_quoted(backend)}",
        "max_batch_size: 0",
        *_tensor("input", "pcm", shapes),
        *_tensor("input", "reference", shapes),
        *(_tensor("input", PAST, shapes) if chunk else ()),
        *_tensor("output", "logits", shapes, f"  label_filename: {_quoted(LABELS)}"),
        *_tensor("output", "statistics", shapes),
        *(_tensor("output", NEXT, shapes) if chunk else ()),
        *(_tensor("output", DIMENSIONS_OUTPUT, shapes) if bundle.dimensions else ()),
        "version_policy { latest { num_versions: 1 } }",
        f"instance_group [ {{ kind: {_PLACES[backend]} count: 1 }} ]",
    ]
    parameters = {"edgeemo.precision": precision, **client_parameters(bundle)}
    if backend == "onnxruntime":
        # As in edge_runtime/engines/engine.py: a small model is fastest with one, and instances use more cores.
        parameters |= {"intra_op_thread_count": "1", "inter_op_thread_count": "1"}
    for key, value in parameters.items():
        lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}")
    return "\n".join(lines) + "\n"


def client_parameters(bundle: Bundle) -> dict[str, str]:
    """Return the parameters of a bundle that a client needs; lists are JSON, times in seconds, probabilities 0 to 1."""
    manifest = bundle.manifest
    window = manifest.window
    dimensions = {"edgeemo.dimensions": json.dumps(bundle.dimensions)} if bundle.dimensions else {}
    chunks = {"edgeemo.chunk_samples": str(window.chunk), "edgeemo.lead_samples": str(LEAD)} if window.chunk else {}
    return (
        dimensions
        | chunks
        | {
            "edgeemo.bundle": bundle.hash,
            "edgeemo.labels": json.dumps(manifest.labels),
            "edgeemo.sample_rate": str(manifest.sample_rate),
            "edgeemo.shortest_samples": str(SHORTEST),
            "edgeemo.shortest_rest": str(REST),
            "edgeemo.longest_samples": str(window.samples),
            "edgeemo.window_seconds": str(window.seconds),
            "edgeemo.hop_seconds": str(window.hop_seconds),
            "edgeemo.minimum_seconds": str(window.minimum_seconds),
            "edgeemo.temperature": str(manifest.temperature),
            "edgeemo.threshold": str(manifest.threshold),
            # The shortest decimals that read as the same float32.
            "edgeemo.reference": f"[{', '.join(map(str, np.asarray(manifest.reference, np.float32)))}]",
        }
    )


def _tensor(role: str, name: str, shapes: Mapping[str, tuple[int | None, ...]], more: str = "") -> list[str]:
    sizes = ", ".join("-1" if size is None else str(size) for size in shapes[name])
    inside = [f"  name: {_quoted(name)}", "  data_type: TYPE_FP32", f"  dims: [ {sizes} ]", *([more] if more else [])]
    return [f"{role} {{", *inside, "}"]


def _quoted(text: str) -> str:
    """Return a string of the text format, with octal UTF-8 bytes for all but printable ASCII."""
    plain = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{plain}"'

"""Whether ONNX Runtime's INT8 products are exact on this processor: measured by computing some.

The CPU graph multiplies unsigned activations by signed weights. On x86 without VNNI, ONNX Runtime's kernels add pairs
of such products in 16 bits, which saturate. The session entry ``session.x64quantprecision`` makes it store the weights
as unsigned numbers, whose kernels are exact (ONNX Runtime's pull request 12088). It is set only where products
saturate: with VNNI or AMX, ONNX Runtime 1.32 takes twice as long with it (``benchmarks/results/processors.json``).
The processor's list of instructions is no evidence: a hypervisor may hide some.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

EXACT_PRODUCTS = ("session.x64quantprecision", "1")
"""The session entry with which ONNX Runtime stores weights as unsigned numbers where signed ones saturate."""
PRODUCTS = Path(__file__).with_name("largest_products.onnx")
"""A convolution, a matrix product and a Gemm of the largest 8-bit numbers, in the form of the CPU graph; it maps 255 to
255. `python -m tests.largest_products` writes it."""
CHANNELS, FRAMES = 64, 16
_LARGEST = 255.0
_EXACT = 0.01


@functools.cache
def products_saturate() -> bool:
    """Return whether INT8 products saturate with ONNX Runtime's default options."""
    return not _exact(onnxruntime.SessionOptions())


@functools.cache
def products_are_exact() -> bool:
    """Return whether INT8 products are exact with `exact_products`."""
    options = onnxruntime.SessionOptions()
    exact_products(options)
    return _exact(options)


def exact_products(options: Any) -> None:
    """Add the session entry for exact INT8 products, where it is needed (`onnxruntime.SessionOptions`)."""
    if products_saturate():
        options.add_session_config_entry(*EXACT_PRODUCTS)


def _exact(options: Any) -> bool:
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Otherwise the bytes could be taken for ORT's own format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    session = onnxruntime.InferenceSession(PRODUCTS.read_bytes(), options, providers=["CPUExecutionProvider"])
    given = session.run(None, {"input": np.full((1, CHANNELS, FRAMES), _LARGEST, np.float32)})
    return all(bool(np.abs(each - _LARGEST).max() < _EXACT) for each in given)

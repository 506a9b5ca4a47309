"""Packages of others that take long to import, for the process that `tests/command.py` forks commands from.

Imports none of ours, and leaves no thread running, so without onnxruntime. Arrow, which pandas imports, would start one
for its allocator.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os

NAMES = (
    "torch",
    "torch.onnx",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.hubert.modeling_hubert",
    "transformers.models.wavlm.modeling_wavlm",
    "transformers.models.whisper.modeling_whisper",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.preprocessing",
    "opensmile",
    "soundfile",
    "soxr",
    "onnx",
    "onnxscript",
    "onnxscript.function_libs.torch_lib.ops",
    "networkx",
    "matplotlib.pyplot",
    "pydantic",
    "rich.progress",
)

# Commands get an environment of their own.
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
for name in NAMES:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
# Else every command's collector walks through all of it, and copies the pages that it touches.
gc.collect()
gc.freeze()

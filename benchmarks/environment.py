"""What a figure was measured on; runs on the device."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from edge_runtime.machine import instruction_sets, processor

_PACKAGES = ("edgeemo", "numpy", "onnxruntime", "torch", "transformers", "opensmile", "onnx")


def describe() -> dict[str, str]:
    """Return processor, instruction sets that INT8 speed depends on, system and package versions."""
    facts = {
        "processor": processor(),
        "instruction_sets": instruction_sets(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    installed = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    return facts | {name: installed[name] for name in _PACKAGES if name in installed}

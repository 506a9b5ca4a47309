"""What a figure was measured on; runs on the device."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_PACKAGES = ("edgeemo", "numpy", "onnxruntime", "torch", "transformers", "opensmile", "onnx")


def describe() -> dict[str, str]:
    """Return processor, instruction sets that INT8 speed depends on, system and package versions."""
    facts = {
        "processor": _cpu_line("model name") or platform.processor() or platform.machine(),
        "instruction_sets": " ".join(name for name in _INSTRUCTION_SETS if name in _cpu_flags()),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    installed = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    return facts | {name: installed[name] for name in _PACKAGES if name in installed}


def _cpu_flags() -> list[str]:
    return (_cpu_line("flags") or _cpu_line("Features")).split()


def _cpu_line(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key)), "")

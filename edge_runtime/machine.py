"""The processor that this runs on: INT8 speed, and the last digits of INT8 results, depend on it."""

from __future__ import annotations

import platform
from pathlib import Path

_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def processor() -> str:
    """Return the processor's name as the system gives it."""
    return _cpu_line("model name") or platform.processor() or platform.machine()


def instruction_sets() -> str:
    """Return those of the instruction sets that matter to INT8 which the processor has."""
    flags = (_cpu_line("flags") or _cpu_line("Features")).split()
    return " ".join(name for name in _INSTRUCTION_SETS if name in flags)


def _cpu_line(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key)), "")

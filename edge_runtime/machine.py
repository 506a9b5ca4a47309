"""The processor that this runs on: INT8 speed, and the last digits of INT8 results, depend on it."""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """Return the processor's name as the system gives it."""
    return _cpu_line(cpuinfo, "model name") or platform.processor() or platform.machine()


def instruction_sets(cpuinfo: Path = _CPUINFO) -> str:
    """Return those of the instruction sets that matter to INT8 which the processor has."""
    flags = (_cpu_line(cpuinfo, "flags") or _cpu_line(cpuinfo, "Features")).split()
    return " ".join(name for name in _INSTRUCTION_SETS if name in flags)


def _cpu_line(cpuinfo: Path, key: str) -> str:
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key)), "")

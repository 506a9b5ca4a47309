"""The processor that this runs on: the speed of INT8, and the last digits of its results, depend on it."""

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


KERNELS = {
    "amx_int8": "AMX, or AVX512-VNNI where ONNX Runtime was built without it",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512": "AVX512 without VNNI: exact kernels for unsigned weights, slower than VNNI",
    "avx2": "AVX2 without VNNI: exact kernels for unsigned weights, slower than VNNI",
    "x86_64": "SSE: no AVX2, slow",
    "aarch64_i8mm": "NEON matrix products (i8mm)",
    "aarch64_dotprod": "NEON dot products",
    "aarch64": "NEON without dot products: exact, slower than with them",
}
"""The kinds of processors that ONNX Runtime has INT8 kernels for, and these kernels."""


def processor_kind(cpuinfo: Path = _CPUINFO) -> str:
    """Return the kind of processor, a key of `KERNELS`; empty where the system does not list its instructions."""
    if arm := _cpu_line(cpuinfo, "Features").split():
        named = {"aarch64_i8mm": "i8mm", "aarch64_dotprod": "asimddp"}
        return next((kind for kind, flag in named.items() if flag in arm), "aarch64")
    sets = _cpu_line(cpuinfo, "flags").split()
    if not sets:
        return ""
    named = {each: each for each in ("amx_int8", "avx512_vnni", "avx_vnni")} | {"avx512": "avx512f", "avx2": "avx2"}
    return next((kind for kind, flag in named.items() if flag in sets), "x86_64")


def _cpu_line(cpuinfo: Path, key: str) -> str:
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key)), "")

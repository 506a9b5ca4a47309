"""The processor: the speed of INT8, and the last digits of its results, depend on it."""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
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
"""The kinds of processors for which ONNX Runtime has INT8 kernels, and these kernels."""
_FLAGS = {"avx512": "avx512f", "aarch64_i8mm": "i8mm", "aarch64_dotprod": "asimddp"}
"""The flag of a kind in /proc/cpuinfo, where it differs from its name."""


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """Return the processor's name."""
    return _cpu_line(cpuinfo, "model name") or platform.processor() or platform.machine()


def instruction_sets(cpuinfo: Path = _CPUINFO) -> str:
    """Return the instruction sets of the processor that matter to INT8."""
    flags = (_cpu_line(cpuinfo, "flags") or _cpu_line(cpuinfo, "Features")).split()
    return " ".join(name for name in _INSTRUCTION_SETS if name in flags)


def processor_kind(cpuinfo: Path = _CPUINFO) -> str:
    """Return the kind of processor, a key of `KERNELS`; empty if the system does not list its instructions."""
    for line, plain in (("Features", "aarch64"), ("flags", "x86_64")):
        if flags := _cpu_line(cpuinfo, line).split():
            kinds = [kind for kind in KERNELS if kind.startswith("aarch64") == (plain == "aarch64")]
            return next((kind for kind in kinds if _FLAGS.get(kind, kind) in flags), plain)
    return ""


def _cpu_line(cpuinfo: Path, key: str) -> str:
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key)), "")

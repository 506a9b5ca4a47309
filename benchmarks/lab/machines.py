"""Processors that run Python: this one, this one without AMX, and those that QEMU emulates (package ``qemu-user``).

* ``avx512_vnni``: a processor with AMX, which the kernel refuses to the process (`benchmarks/lab/without_amx.py`).
* ``avx2``: a Haswell without VNNI, with this environment's Python and packages.
* ``aarch64`` and ``aarch64_dotprod``: a Cortex-A57, and a processor with dot products, with Debian's Python for arm64
  and wheels of the runtime's packages, fetched once into a cache.

Emulation shows results, not speed. `edge_runtime.machine` reads the host's description there, so each run gets an empty
cache of verdicts.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab import without_amx as without_amx_program
from edge_runtime.errors import EdgeemoError, MissingPartError
from edge_runtime.files import cache_directory, digest_of, locked
from edge_runtime.machine import instruction_sets, processor_kind

PYTHON = "3.11"
"""Version of Python in the arm64 root, that of Debian 12."""
ONNX_RUNTIME = "1.23.2"
"""For arm64: the newest for Python 3.10 of JetPack 6. Version 1.32.0 crashes under QEMU 7.2."""
_DEBIAN = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6", "libc6", "libgomp1")
_WHEELS = (
    *("click", "numpy<2.3", f"onnxruntime=={ONNX_RUNTIME}", "packaging", "pydantic"),
    *("rich", "sounddevice", "soundfile", "soxr"),
)
"""The runtime's requirements; newer versions of numpy do not run under QEMU 7.2."""
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
_SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Machine:
    """A processor that runs Python.

    Attributes:
        processor: its kind, as in results files.
        command: that starts Python.
        environment: additional variables.
        native: not emulated, so that latency is meaningful.
    """

    processor: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    native: bool = False

    def run(self, *arguments: str, timeout: float) -> str:
        """Run Python on it, with this source tree and an empty cache, and return its output.

        Raises:
            EdgeemoError: it fails, or takes longer than ``timeout`` seconds.
        """
        with tempfile.TemporaryDirectory() as cache:
            environment = os.environ | {"XDG_CACHE_HOME": cache, "PYTHONPATH": str(_SOURCE)} | self.environment
            try:
                done = subprocess.run(
                    [*self.command, *arguments],
                    capture_output=True,
                    text=True,
                    env=environment,
                    cwd=_SOURCE,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise EdgeemoError(f"{self.processor}: took longer than {timeout:g} s on it") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "TCG doesn't support" not in line]
            raise EdgeemoError(f"{self.processor}: ended with {done.returncode}: {' '.join(lines[-3:])}")
        return done.stdout


def this_machine() -> Machine:
    """Return this processor."""
    return Machine(processor_kind() or platform.machine(), (sys.executable,), native=True)


def without_amx() -> Machine:
    """Return this processor without AMX.

    Raises:
        MissingPartError: it has no AMX, or no AVX512-VNNI.
    """
    if not {"amx_int8", "avx512_vnni"} <= set(instruction_sets().split()):
        raise MissingPartError("this processor does not have both AMX and AVX512-VNNI")
    return Machine("avx512_vnni", (sys.executable, without_amx_program.__file__), native=True)


def avx2() -> Machine:
    """Return an x86 processor with AVX2 and without VNNI.

    Raises:
        MissingPartError: QEMU is not installed, or this environment's Python is not for x86-64.
    """
    if platform.machine() != "x86_64":
        raise MissingPartError("an emulated Haswell runs this environment's Python, which is not for x86-64")
    return Machine("avx2", (_qemu("x86_64"), "-cpu", "Haswell", sys.executable))


def aarch64(*, dot_products: bool) -> Machine:
    """Return an ARM processor; the first call fetches some 60 MB.

    Raises:
        MissingPartError: QEMU, or Debian's package tools, are not installed, or what it needs cannot be fetched.
    """
    qemu, root = _qemu("aarch64"), aarch64_root()
    model = "max" if dot_products else "cortex-a57"
    return Machine(
        "aarch64_dotprod" if dot_products else "aarch64",
        (qemu, "-cpu", model, "-L", str(root), str(root / "usr" / "bin" / f"python{PYTHON}")),
        {"PYTHONPATH": f"{root / 'site-packages'}:{_SOURCE}"},
    )


def aarch64_root() -> Path:
    """Return a folder with Debian's Python for arm64 and the runtime's packages, made at the first call.

    Raises:
        MissingPartError: Debian's package tools are not installed, or what it needs cannot be fetched.
    """
    root = cache_directory() / "emulation" / f"aarch64-{digest_of([*_DEBIAN, *_WHEELS], 12)}"
    with locked(root.with_suffix(".lock")):
        if not root.is_dir():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            _unpack_debian(part)
            _install_wheels(part)
            part.rename(root)
    return root


def _unpack_debian(root: Path) -> None:
    for name in ("apt-get", "dpkg"):
        if shutil.which(name) is None:
            raise MissingPartError(f"'{name}' is not here: emulated arm64 needs Debian's package tools")
    state = root / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    options = ["-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oDebug::NoLocking=1"]
    options += [f"-oDir::State={state}", f"-oDir::State::status={state / 'status'}", f"-oDir::Cache={state}"]
    _do("apt-get", *options, "-qq", "update")
    _do("apt-get", *options, "-qq", "install", "--yes", "--download-only", "--no-install-recommends", *_DEBIAN)
    for package in sorted((state / "archives").glob("*.deb")):
        _do("dpkg", "-x", str(package), str(root))
    shutil.rmtree(state)


def _install_wheels(root: Path) -> None:
    options = ["--quiet", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    options += [f"--platform={each}" for each in _PLATFORMS]
    options += ["--abi", f"cp{PYTHON.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    options += ["--no-compile", "--disable-pip-version-check", "--target", str(root / "site-packages")]
    _do(sys.executable, "-m", "pip", "install", *options, *_WHEELS)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise MissingPartError(f"{Path(command[0]).name} failed while fetching arm64 packages: {lines[-1]}")


def _qemu(architecture: str) -> str:
    found = shutil.which(f"qemu-{architecture}")
    if found is None:
        raise MissingPartError(f"'qemu-{architecture}' is not installed; run: sudo apt-get install qemu-user")
    return found

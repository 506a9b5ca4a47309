"""The WebAssembly build of ONNX Runtime: one version of the npm package, verified before it is opened.

It is 33 MB packed, so it is neither part of this package nor fetched before a page is made: `npm pack` fetches it once,
from the registry that npm is set to, and the user's cache keeps it.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.files import cache_directory, replacing
from edge_runtime.strict_json import shown

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""As the registry's metadata and lock files of npm state it."""
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Without WebGPU and WebGL, which run no INT8 products."""
_FETCH = f"npm pack {PACKAGE}@{VERSION}"
_TIMEOUT_SECONDS = 600


def runtime_files(archive: Path | None = None, say: Callable[[str], None] = lambda text: None) -> dict[str, bytes]:
    """Return the files of the runtime by name.

    Args:
        archive: the package as `npm pack` writes it; by default that of the cache, fetched if it is not there.
        say: receives a sentence before it is fetched.

    Raises:
        WrongUseError: ``archive`` is another file.
        MissingPartError: npm is not installed or cannot fetch the package.
        EdgeemoError: what npm fetched is not this package.
    """
    if archive is not None:
        content = archive.read_bytes()
        if not _verified(content):
            raise WrongUseError(f"{archive}: is not {PACKAGE} {VERSION} ({INTEGRITY[:19]}…); make it with: {_FETCH}")
    else:
        content = _fetched(cache_directory() / f"{PACKAGE}-{VERSION}.tgz", say)
    with tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:gz") as members:
            found = {name: members.extractfile(f"package/dist/{name}") for name in FILES}
            return {name: file.read() for name, file in found.items() if file}


def _verified(content: bytes) -> bool:
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}" == INTEGRITY


def _fetched(kept: Path, say: Callable[[str], None]) -> bytes:
    if kept.is_file() and _verified(content := kept.read_bytes()):
        return content
    elsewhere = f"where it can, run: {_FETCH}, and give the file: --onnxruntime-web FILE"
    if shutil.which("npm") is None:
        raise MissingPartError(f"npm is not installed, which fetches {PACKAGE} {VERSION}; {elsewhere}")
    say(f"fetching {PACKAGE} {VERSION} with npm, once")
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*_FETCH.split(), "--ignore-scripts", "--prefix", folder, "--pack-destination", folder],
                # Without the settings (.npmrc) of the current directory, which a stranger may have written: they may
                # send variables of the environment to another registry.
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MissingPartError(
                f"npm did not fetch {PACKAGE} {VERSION} in {_TIMEOUT_SECONDS} s; {elsewhere}"
            ) from None
        archive = Path(folder) / f"{PACKAGE}-{VERSION}.tgz"
        if done.returncode or not archive.is_file():
            raise MissingPartError(f"npm cannot fetch {PACKAGE} {VERSION} ({_reason(done.stderr)}); {elsewhere}")
        content = archive.read_bytes()
    if not _verified(content):
        raise EdgeemoError(f"npm fetched another {PACKAGE} {VERSION} than this edgeemo expects; check npm's registry")
    with replacing(kept) as part:
        part.write_bytes(content)
    return content


def _reason(stderr: str) -> str:
    """Return the first line of npm's errors that says more than a code."""
    lines = [line.removeprefix("npm error ").strip() for line in stderr.splitlines() if line.startswith("npm error ")]
    said = [line for line in lines if line and not line.startswith(("code ", "errno ", "syscall "))]
    return shown((said or lines or ["no reason given"])[0], 300)

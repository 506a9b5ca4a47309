"""Write a bundle: everything beside its final place, hashed, then renamed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import GRAPHS, KNOWN_ANSWERS, MANIFEST, VOICES, FileEntry, Manifest
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import sha256, write_text

REPORTS = ("report.json", "report.md", "report.svg")
"""Files of the export report."""
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a directory beside ``out`` that takes its place when the block ends well, and else leaves nothing.

    A process that is killed leaves the older bundle as it was, or, killed between two renames, beside its place, from
    where the next export puts it back.

    Raises:
        WrongUseError: ``out`` exists and is no bundle.
        EdgeemoError: the place cannot be written to, or the disk is full.
    """
    part, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():
        old.rename(out)
    if out.exists() and not (out / MANIFEST).is_file():
        raise WrongUseError(f"{out}: exists and is no bundle; give another --out")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    except OSError as error:
        raise EdgeemoError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        yield part
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
        part.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        # What cannot be read is another matter, and says so itself.
        if error.errno not in _NO_ROOM:
            raise
        raise EdgeemoError(
            f"{out}: cannot be written ({error.strerror}); make room, and give the same command again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Describe the graphs, the map of voices, the known answers, the model card and the report in a staged bundle."""
    names = [name for name in (*GRAPHS, VOICES, KNOWN_ANSWERS, "README.md", *REPORTS) if (folder / name).is_file()]
    return tuple(
        FileEntry(name=name, size=(folder / name).stat().st_size, sha256=sha256(folder / name)) for name in names
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` and check that the bundle loads as a device would load it."""
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    load_bundle(folder)


def write_essentials(graph: Path, essentials: dict[str, str]) -> None:
    """Put what a reader of the bare graph must know into its ``metadata_props``."""
    model = onnx.load(graph)
    onnx.helper.set_model_props(model, essentials)
    onnx.save(model, graph)

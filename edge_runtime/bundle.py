"""Load a bundle and trust it: every file is the one that the manifest names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from edge_runtime.errors import EdgeemoError
from edge_runtime.files import sha256
from edge_runtime.manifest import GRAPHS, MANIFEST, SCHEMA_VERSION, FileEntry, Manifest, Precision, graph_name


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        root: its directory.
        manifest: what it says of itself.
        hash: sha256 of the manifest, hence of everything that it names; 64 hexadecimal digits.
    """

    root: Path
    manifest: Manifest
    hash: str

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions of the graphs that are in the bundle."""
        names = {entry.name for entry in self.manifest.files}
        return tuple(precision for name, precision in GRAPHS.items() if name in names)

    def graph(self, precision: Precision) -> Path:
        """Return the path of the graph of a precision.

        Raises:
            EdgeemoError: the bundle does not hold it.
        """
        if precision not in self.precisions:
            held = ", ".join(self.precisions)
            raise EdgeemoError(f"{self.root}: holds no {precision} graph (it has {held})")
        return self.root / graph_name(precision)

    def reference(self) -> npt.NDArray[np.float32]:
        """Return the default reference, ``[1, D]``."""
        return np.asarray([self.manifest.reference], np.float32)


def load_bundle(root: Path) -> Bundle:
    """Load a bundle directory and check all of it.

    Raises:
        EdgeemoError: no bundle, an unknown schema, or a file that is missing, changed, or outside the directory.
    """
    if not root.is_dir():
        raise EdgeemoError(f"{root}: there is no such bundle directory")
    path = root / MANIFEST
    if not path.is_file():
        raise EdgeemoError(f"{root}: is no bundle (it holds no {MANIFEST}); make one with: edgeemo export")
    manifest = _parse(path)
    for entry in manifest.files:
        _verify(root, entry)
    if len(manifest.reference) != manifest.statistics_size:
        raise EdgeemoError(
            f"{path}: the reference has {len(manifest.reference)} numbers, not {manifest.statistics_size}"
        )
    return Bundle(root, manifest, sha256(path))


def _parse(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EdgeemoError(f"{path}: is not valid JSON ({error})") from error
    version = str(content.get("schema_version", "")) if isinstance(content, dict) else ""
    if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise EdgeemoError(
            f"{path}: has schema version '{version}', and this edgeemo reads {SCHEMA_VERSION.partition('.')[0]}.x; "
            "use the edgeemo that made it, or export again"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise EdgeemoError(f"{path}: '{where}': {problem['msg']}") from error


def _verify(root: Path, entry: FileEntry) -> None:
    relative = PurePosixPath(entry.name)
    path = root / relative
    leaves = relative.is_absolute() or ".." in relative.parts or "\\" in entry.name
    if leaves or not path.resolve().is_relative_to(root.resolve()):
        raise EdgeemoError(f"{root}: names a file outside the bundle ('{entry.name}'); do not trust this bundle")
    if not path.is_file():
        raise EdgeemoError(f"{path}: is missing from the bundle; copy or export it again")
    if path.stat().st_size != entry.size or sha256(path) != entry.sha256:
        raise EdgeemoError(f"{path}: is not the file that the bundle was made with; copy or export it again")

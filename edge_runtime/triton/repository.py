"""A model repository of Triton Inference Server: a bundle's graphs and engines side by side, each a model.

A model appears as a whole or not at all. An existing model gets a new version, which Triton then serves in place of the
older one, if clients need not change: other labels, sizes or windows need another name. ``config.pbtxt`` is that of the
newest version; every version has its own beside its model, and the ``bundle.json`` of its bundle. Directories are
written where Triton finds no model in them, then renamed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from string import Template
from typing import NamedTuple

from pydantic import ValidationError

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import MANIFEST, Manifest, Precision
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import checked_name, write_text
from edge_runtime.triton.config import LABELS, MODEL_FILES, Backend, model_config, model_name

CONFIG = "config.pbtxt"
_README = "repository_readme.md"
"""Template beside this module, with ``$rows`` and ``$example`` (`string.Template`)."""


class Served(NamedTuple):
    """A version of a model; ``added`` is False if the same bytes were there already."""

    model: Path
    version: int
    added: bool

    def summary(self) -> str:
        """Return one line on it."""
        return f"{self.model}: version {self.version}{'' if self.added else ', which was there already'}"


def base_name(bundle: Path) -> str:
    """Return the prefix of the names of a bundle's models: the name of its directory.

    Raises:
        WrongUseError: Triton cannot use it.
    """
    try:
        return checked_name(bundle.resolve().name)
    except ValueError as error:
        raise WrongUseError(f"{bundle}: its name is the prefix of Triton's model names, so it {error}") from error


def serve(bundle: Bundle, repository: Path, precision: Precision, backend: Backend, content: bytes) -> Served:
    """Add one model, or a new version of it.

    Raises:
        WrongUseError: a model of that name is not ours, or serves other clients; Triton cannot use the bundle's name.
        EdgeemoError: the bundle was changed while it was read.
    """
    name = model_name(base_name(bundle.root), precision, backend)
    config = model_config(name, bundle, precision, backend)
    manifest = (bundle.root / MANIFEST).read_bytes()
    if hashlib.sha256(manifest).hexdigest() != bundle.hash:
        raise EdgeemoError(f"{bundle.root}: was changed while it was read; try again")
    files = {MODEL_FILES[backend]: content, MANIFEST: manifest, CONFIG: config.encode()}
    model = repository / name
    if model.exists():
        served = _serve_again(model, bundle, files)
    else:
        repository.mkdir(parents=True, exist_ok=True)
        with _staged(_beside(repository) / f".{name}.part", model) as part:
            _write(part / "1", files)
            (part / LABELS).write_text("".join(f"{label}\n" for label in bundle.manifest.labels), encoding="utf-8")
            (part / CONFIG).write_text(config, encoding="utf-8")
        served = Served(model, 1, added=True)
    _write_readme(repository)
    return served


def _serve_again(model: Path, bundle: Bundle, files: dict[str, bytes]) -> Served:
    versions = _versions(model)
    newest = versions[-1] if versions else 0
    _check_compatible(model, newest, bundle)
    there = model / str(newest)
    if all((there / name).is_file() and (there / name).read_bytes() == content for name, content in files.items()):
        return Served(model, newest, added=False)
    version = newest + 1
    # Triton ignores directories whose names are not numbers.
    with _staged(model / f".{version}.part", model / str(version)) as part:
        _write(part, files)
        # Before the version: if the process ends between the two, the next call finds no complete version.
        write_text(model / CONFIG, files[CONFIG].decode())
    return Served(model, version, added=True)


def _check_compatible(model: Path, newest: int, bundle: Bundle) -> None:
    """Raise an error for a model that edgeemo did not write, and for one whose clients would have to change."""
    try:
        older = Manifest.model_validate_json((model / str(newest) / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise WrongUseError(
            f"{model}: is another model, not made by edgeemo; give another --triton directory, or rename the bundle"
        ) from error
    for what, now, then in (
        ("labels", bundle.manifest.labels, older.labels),
        ("numbers in a reference", bundle.manifest.statistics_size, older.statistics_size),
        ("samples in a window", bundle.manifest.window.samples, older.window.samples),
        ("samples in a chunk", bundle.manifest.window.chunk, older.window.chunk),
    ):
        if now != then:
            raise WrongUseError(
                f"{model}: serves a bundle with other {what} ({_shown(then)}, not {_shown(now)}), which its clients "
                "depend on; give another --triton directory, or rename the bundle"
            )


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _versions(model: Path) -> list[int]:
    # Triton ignores directories that are not numbers or begin with a zero.
    names = [path.name for path in model.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and not name.startswith("0"))


def _beside(repository: Path) -> Path:
    """Return where a model is written before it is renamed into place, outside the repository if it is no mount point.

    A starting server loads every directory as a model, hidden ones too, and ends if one is not.
    """
    parent = repository.resolve().parent
    return parent if parent.stat().st_dev == repository.stat().st_dev else repository


@contextmanager
def _staged(part: Path, target: Path) -> Iterator[Path]:
    """Yield a new directory that becomes ``target`` when the block ends without an error, and is removed otherwise."""
    # Left by a killed call.
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        yield part
        part.rename(target)
    except OSError as error:
        raise EdgeemoError(f"{target}: cannot be written ({error.strerror}); nothing was added") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _write_readme(repository: Path) -> None:
    """Write ``README.md`` of a repository that holds a model of ours; another README is not changed."""
    path = repository / "README.md"
    text = resources.files("edge_runtime.triton").joinpath(_README).read_text(encoding="utf-8")
    title = text[: text.index("\n") + 1]
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(title):
        return
    models = {folder.name: found for folder in sorted(repository.iterdir()) if (found := _newest(folder))}
    rows = "\n".join(
        f"| {name} | {version} | {_cell(manifest.labels)} | {manifest.window.seconds:g} s | {_licences(manifest)} |"
        for name, (version, manifest) in models.items()
    )
    # The example should need no GPU.
    example = min(models, key=lambda name: ("-tensorrt-" in name, not name.endswith("-int8-cpu")))
    write_text(path, Template(text).substitute(rows=rows, example=example))


def _newest(model: Path) -> tuple[int, Manifest] | None:
    """Return the newest version of a model and the manifest of its bundle; None for other models."""
    numbers = [int(path.parent.name) for path in model.glob(f"[1-9]*/{MANIFEST}") if path.parent.name.isdecimal()]
    if model.name.startswith(".") or not numbers:
        return None
    try:
        return max(numbers), Manifest.model_validate_json((model / str(max(numbers)) / MANIFEST).read_bytes())
    except ValidationError:
        return None


def _licences(manifest: Manifest) -> str:
    licences = dict.fromkeys(corpus.licence for corpus in manifest.corpora)
    return f"as its speech: {_cell(licences)}" if licences else "not recorded"


def _cell(values: Iterable[str]) -> str:
    return ", ".join(" ".join(each.split()).replace("|", "\\|") for each in values)

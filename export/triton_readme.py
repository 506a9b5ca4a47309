"""The README.md of a model repository: what Triton serves, and what it leaves to its clients."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from string import Template

from pydantic import ValidationError

from edge_runtime.bundles.manifest import MANIFEST, Manifest
from edge_runtime.files import write_text

_TEXT = "triton_readme.md"
"""Beside this module; with ``$rows`` and ``$example``, as `string.Template` has them."""


def write_readme(repository: Path) -> None:
    """Write ``README.md`` of a repository that holds a model of ours; one that somebody else wrote is left as it is."""
    path = repository / "README.md"
    text = resources.files("export").joinpath(_TEXT).read_text(encoding="utf-8")
    title = text[: text.index("\n") + 1]
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(title):
        return
    models = {folder.name: found for folder in sorted(repository.iterdir()) if (found := _newest(folder))}
    rows = "\n".join(
        f"| {name} | {version} | {_cell(manifest.labels)} | {manifest.window.seconds:g} s | {_licences(manifest)} |"
        for name, (version, manifest) in models.items()
    )
    # What a reader tries first should need no GPU.
    example = min(models, key=lambda name: ("-tensorrt-" in name, not name.endswith("-int8-cpu")))
    write_text(path, Template(text).substitute(rows=rows, example=example))


def _newest(model: Path) -> tuple[int, Manifest] | None:
    """Return the newest version of a model and the manifest of its bundle; None where that is none of ours."""
    numbers = [int(path.parent.name) for path in model.glob(f"[1-9]*/{MANIFEST}") if path.parent.name.isdecimal()]
    if model.name.startswith(".") or not numbers:
        return None
    try:
        return max(numbers), Manifest.model_validate_json((model / str(max(numbers)) / MANIFEST).read_bytes())
    except ValidationError:
        return None


def _licences(manifest: Manifest) -> str:
    licences = dict.fromkeys(corpus.licence for corpus in manifest.corpora)
    return f"as its speech: {_cell(licences)}" if licences else "not told"


def _cell(values: Iterable[str]) -> str:
    return ", ".join(" ".join(each.split()).replace("|", "\\|") for each in values)

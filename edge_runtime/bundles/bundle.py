"""Load and verify a bundle: every file is the one that the manifest names, and none refers to anything outside.

A bundle is untrusted until it is checked. The check covers the bytes that are used: ONNX Runtime gets the bytes that
were hashed, not the file, which could change in between (`Bundle.read_graph`).
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from edge_runtime.bundles.bundle_files import changed, check_content, check_names, opened
from edge_runtime.bundles.known_answers import KnownAnswers, known_answers, too_long
from edge_runtime.bundles.manifest import (
    GRAPHS,
    KNOWN_ANSWERS,
    LONGEST_KNOWN_SECONDS,
    MANIFEST,
    MODEL_CARD,
    SCHEMA_VERSION,
    SPEAKER_MODEL,
    SPEAKER_PROJECTION,
    FileEntry,
    Manifest,
    Precision,
    graph_name,
)
from edge_runtime.bundles.onnx_file import check_onnx
from edge_runtime.bundles.speaker_model import SpeakerModel, model_size, read_model
from edge_runtime.bundles.speaker_projection import SpeakerProjection, read_directions
from edge_runtime.dimensions import Dimension
from edge_runtime.errors import EdgeemoError
from edge_runtime.strict_json import first_problem, parse_versioned

DEFAULT_BUNDLE = Path(__file__).parents[1] / "default"
"""The bundle that is installed with the runtime, used where none is named. `make default-bundle` makes it."""
LARGEST_MANIFEST = 4 << 20
"""Bytes; real manifests have some ten thousand."""
_WHAT_ELSE = {
    **dict.fromkeys(
        (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"), "audio goes to: edgeemo listen --source"
    ),
    ".toml": "settings go to: edgeemo listen --config",
    ".onnx": "name the directory that holds the graph",
}
"""Remedy for a file given instead of a bundle, by its suffix."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        root: its directory.
        manifest: content of its ``bundle.json``.
        hash: sha256 of the manifest, which covers all files; 64 hexadecimal digits.
        speaker_model: adapts to a speaker; None for a bundle without.
        speaker_projection: gives speaker embeddings; None for a bundle without.
        known_answers: for the test of engines; None for a bundle without.
    """

    root: Path
    manifest: Manifest
    hash: str
    speaker_model: SpeakerModel | None = field(default=None, compare=False)
    speaker_projection: SpeakerProjection | None = field(default=None, compare=False)
    known_answers: KnownAnswers | None = field(default=None, compare=False)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions of the graphs in the bundle."""
        names = {entry.name for entry in self.manifest.files}
        return tuple(precision for name, precision in GRAPHS.items() if name in names)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Names of the predicted dimensions, in the order of the graphs' output; none for a bundle without."""
        return self.manifest.dimensions.names if self.manifest.dimensions else ()

    @property
    def engine_precisions(self) -> tuple[Precision, ...]:
        """Precisions that TensorRT runs, the best first."""
        order: tuple[Precision, ...] = ("int8-trt", "fp16", "fp32")
        return tuple(precision for precision in order if precision in self.precisions)

    def graph(self, precision: Precision) -> Path:
        """Return the path of the graph of a precision.

        TensorRT's builder opens the file again, just after the bundle was verified. An attacker who can replace it in
        that moment could replace the whole bundle, and the built engine is compared with the hashed graph before it is
        kept (`edge_runtime/tensorrt/check.py`).

        Raises:
            EdgeemoError: the bundle does not hold it.
        """
        if precision not in self.precisions:
            held = ", ".join(self.precisions)
            raise EdgeemoError(f"{self.root}: holds no {precision} graph (it has {held}); choose another --precision")
        return self.root / graph_name(precision)

    def read_graph(self, precision: Precision) -> bytes:
        """Read and verify the graph of a precision again, and return the bytes that were hashed.

        A runtime may open a graph weeks after the bundle was loaded, when TensorRT fails; the file may have changed.

        Raises:
            EdgeemoError: the bundle does not hold it, or the file has changed.
        """
        path = self.graph(precision)
        entry = next(entry for entry in self.manifest.files if entry.name == path.name)
        content = _content(self.root, entry)
        check_onnx(io.BytesIO(content), str(path))
        return content

    def read_card(self) -> bytes | None:
        """Read and verify the model card; None if the manifest names none.

        A file of that name beside the manifest was not checked, and may be a link to a file of the user's.

        Raises:
            EdgeemoError: the file has changed.
        """
        entry = next((entry for entry in self.manifest.files if entry.name == MODEL_CARD), None)
        return _content(self.root, entry) if entry else None

    def refused_by_gate(self, precision: Precision) -> str | None:
        """Return a sentence on a graph that failed the accuracy gate; None if it passed.

        A bundle holds such a graph only if it was exported with ``--allow-chance`` or ``--allow-drop``.
        """
        gate = self.manifest.gate
        at_chance = gate.get("at_chance")
        if isinstance(at_chance, list) and precision in at_chance:
            return (
                f"{precision} decides no better than by chance on unseen speakers; it was exported with --allow-chance"
            )
        failed = gate.get("failed")
        if not isinstance(failed, list) or precision not in failed:
            return self._refused_by_concordance(precision)
        drop = _worst(gate, precision)
        # A loss that is not a number fails too.
        lost = {name: drop.get(name) if isinstance(drop, dict) else "?" for name in ("ua", "low", "high")}
        between = "no interval, for too few speakers"
        if lost["high"] is not None:
            between = f"95 % interval {_points(lost['low'])} to {_points(lost['high'])}"
        return (
            f"{precision} failed the accuracy gate: it loses {_points(lost['ua'])} points of unweighted accuracy "
            f"({between}; allowed: {_points(gate.get('max_drop')).lstrip('+')}); it was exported with --allow-drop"
        )

    def _refused_by_concordance(self, precision: Precision) -> str | None:
        gate = self.manifest.dimensions.gate if self.manifest.dimensions else {}
        failed, allowed = gate.get("failed"), gate.get("max_drop")
        if not isinstance(failed, list) or precision not in failed:
            return None
        return (
            f"{precision} failed the gate by concordance (CCC): a dimension may lose more than "
            f"{allowed if isinstance(allowed, int | float) else '?'}; it was exported with --allow-drop"
        )

    def reference(self) -> npt.NDArray[np.float32]:
        """Return the training mean, ``[1, D]``: the default of the graph's ``reference`` input."""
        return np.asarray([self.manifest.reference], np.float32)


def _worst(gate: dict[str, Any], precision: Precision) -> object:
    """Return the loss that failed the gate: without speaker normalisation first, then with it."""
    allowed = gate.get("max_drop")
    found: list[object] = []
    for name in ("drops", "reference_drops"):
        drops = gate.get(name)
        found += [drops[precision]] if isinstance(drops, dict) and precision in drops else []
    for drop in found:
        high = drop.get("high") if isinstance(drop, dict) else None
        if isinstance(high, int | float) and isinstance(allowed, int | float) and high > allowed:
            return drop
    return found[0] if found else None


def _points(share: object) -> str:
    return f"{share * 100:+.1f}" if isinstance(share, int | float) else "?"


def load_bundle(root: os.PathLike[str] | str) -> Bundle:
    """Load a bundle directory and verify all of it.

    Raises:
        EdgeemoError: not a bundle, an unknown schema, an invalid value, a file that is missing, changed, too large, not
            regular or outside the directory, or a graph that refers to other files or custom operators.
    """
    root = Path(root)
    if root.is_file():
        remedy = _WHAT_ELSE.get(root.suffix.lower(), "unpack an archive first")
        raise EdgeemoError(f"{root}: is a file, and a bundle is a directory; {remedy}")
    if not root.is_dir():
        raise EdgeemoError(f"{root}: there is no such bundle directory; check the path")
    path = root / MANIFEST
    if not os.path.lexists(path):
        raise EdgeemoError(f"{root}: is not a bundle (it has no {MANIFEST}); make one with: edgeemo export")
    with opened(root, MANIFEST) as stream:
        content = stream.read(LARGEST_MANIFEST + 1)
    if len(content) > LARGEST_MANIFEST:
        raise EdgeemoError(f"{path}: is larger than {LARGEST_MANIFEST >> 20} MB, so it is not the manifest of a bundle")
    remedy = "export its run again with this edgeemo: edgeemo export RUN --int8 --out BUNDLE"
    parsed = parse_versioned(content, str(path), SCHEMA_VERSION, remedy)
    try:
        manifest = Manifest.model_validate(parsed)
    except ValidationError as error:
        raise first_problem(error, str(path), remedy) from error
    check_names(root, manifest.files)
    if not any(entry.name in GRAPHS for entry in manifest.files):
        raise EdgeemoError(f"{path}: names no graph; export the bundle again")
    for entry in manifest.files:
        with opened(root, entry.name) as stream:
            check_content(root, entry, stream)
            if entry.name in GRAPHS:
                check_onnx(stream, str(root / entry.name))
    if len(manifest.reference) != manifest.statistics_size:
        raise EdgeemoError(
            f"{path}: the reference has {len(manifest.reference)} numbers, not {manifest.statistics_size}"
        )
    digest = hashlib.sha256(content).hexdigest()
    model, projection = _speaker_model(root, manifest), _speaker_projection(root, manifest)
    return Bundle(root, manifest, digest, model, projection, _known_answers(root, manifest))


def _speaker_model(root: Path, manifest: Manifest) -> SpeakerModel | None:
    entry = manifest.speaker
    if entry is None:
        return None
    named = _named(root, manifest, SPEAKER_MODEL, "a speaker model")
    wanted = 4 * model_size(entry.directions, manifest.statistics_size, len(manifest.labels))
    if named.size != wanted:
        raise EdgeemoError(
            f"{root / SPEAKER_MODEL}: has {named.size} bytes, and a model of {entry.directions} directions has "
            f"{wanted}; do not trust this bundle"
        )
    content = _content(root, named)
    origin = np.asarray(manifest.reference, np.float64)
    return read_model(content, origin, len(manifest.labels), entry.softness, str(root / SPEAKER_MODEL))


def _speaker_projection(root: Path, manifest: Manifest) -> SpeakerProjection | None:
    entry = manifest.speaker.projection if manifest.speaker else None
    if entry is None:
        return None
    named = _named(root, manifest, SPEAKER_PROJECTION, "a speaker projection")
    path, size = root / SPEAKER_PROJECTION, manifest.statistics_size
    if named.size != 4 * entry.directions * size:
        raise EdgeemoError(
            f"{path}: has {named.size} bytes, and {entry.directions} directions of {size} numbers have "
            f"{4 * entry.directions * size}; do not trust this bundle"
        )
    directions = read_directions(_content(root, named), entry.directions, str(path))
    return SpeakerProjection(directions, np.asarray(manifest.reference, np.float32), entry.threshold)


def _known_answers(root: Path, manifest: Manifest) -> KnownAnswers | None:
    """Return the known answers of a bundle; None for an older bundle without them."""
    if manifest.known_answers is None:
        return None
    named = _named(root, manifest, KNOWN_ANSWERS, "known answers")
    # Before it is read: an attacker may choose its size.
    if named.size > 2 * LONGEST_KNOWN_SECONDS * manifest.sample_rate:
        raise too_long(str(root))
    return known_answers(_content(root, named), manifest, str(root))


def _named(root: Path, manifest: Manifest, name: str, what: str) -> FileEntry:
    named = next((each for each in manifest.files if each.name == name), None)
    if named is None:
        raise EdgeemoError(f"{root / MANIFEST}: has {what} but names no {name}; export the bundle again")
    return named


def _content(root: Path, entry: FileEntry) -> bytes:
    with opened(root, entry.name) as stream:
        # One byte more reveals a file that grew.
        content = stream.read(entry.size + 1)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise changed(root, entry)
    return content

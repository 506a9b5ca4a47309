"""Python, edgeemo, and the packages that it needs, against the lower bounds of the distribution."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from edge_runtime import __version__
from edge_runtime.doctor.finding import Finding
from edge_runtime.extras import DEMO_ENCODER, DEMO_ENCODER_REMEDY, EXTRAS, PURPOSES

OLDEST_PYTHON = (3, 10)
_DISTRIBUTION = "edgeemo"
_LACKS = "lacks "


def python() -> Iterator[Finding]:
    """Look at Python and edgeemo itself."""
    here = f"{platform.python_version()}, {platform.machine()}"
    if sys.version_info[:2] >= OLDEST_PYTHON:
        yield Finding("Python", "ok", here)
    else:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        yield Finding("Python", "can be better", here, f"use Python {wanted} or newer")
    yield Finding("edgeemo", "ok", __version__)


def base() -> Iterator[Finding]:
    """Look at the packages that everything needs."""
    requirements = _requirements()
    if requirements is None:
        yield Finding("packages", "unknown", "edgeemo runs from its sources, not installed", "pip install edgeemo")
        return
    problems = list(_problems(requirements, ""))
    if problems:
        yield Finding("packages", "missing", "; ".join(problems), "pip install --upgrade edgeemo")
        return
    names = [each.name for each in requirements if _wanted(each, "")]
    held = ", ".join(f"{name} {_version(name) or '(version not told)'}" for name in names)
    yield Finding("packages", "ok", held)


def extras(*, nvidia: bool) -> Iterator[Finding]:
    """Look at the optional parts.

    Args:
        nvidia: whether this machine has an NVIDIA device.
    """
    requirements = _requirements()
    for extra in EXTRAS:
        if requirements is None:
            yield Finding(f"extra {extra}", "unknown", "edgeemo runs from its sources, not installed")
            continue
        problems = list(dict.fromkeys(_problems(requirements, extra)))
        remedy = f'pip install "edgeemo[{extra}]"'
        if not any(_wanted(each, extra) for each in requirements):
            yield Finding(f"extra {extra}", "ok", f"not for {platform.machine()}")
        elif not problems:
            yield Finding(f"extra {extra}", "ok", "installed")
        elif extra == "tensorrt" and not nvidia:
            yield Finding(f"extra {extra}", "ok", "not installed; of no use without an NVIDIA device")
        elif extra == "tensorrt" or not all(problem.startswith(_LACKS) for problem in problems):
            yield Finding(f"extra {extra}", "missing", "; ".join(problems), remedy)
        else:
            yield Finding(f"extra {extra}", "optional", f"not installed: {PURPOSES[extra]}", remedy)
    if importlib.util.find_spec(DEMO_ENCODER) is not None:
        yield Finding("demo's text encoder", "ok", "installed")
    else:
        yield Finding("demo's text encoder", "optional", "not installed: edgeemo demo", DEMO_ENCODER_REMEDY)


def _requirements() -> list[Requirement] | None:
    try:
        told = importlib.metadata.requires(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    return [Requirement(line) for line in told or []]


def _wanted(requirement: Requirement, extra: str) -> bool:
    """Return whether an extra wants a requirement here, "" being the base; what the base wants is no extra's."""
    marker = requirement.marker
    base = marker is None or marker.evaluate({"extra": ""})
    return base if not extra else not base and marker is not None and marker.evaluate({"extra": extra})


def _problems(requirements: Iterable[Requirement], extra: str) -> Iterator[str]:
    """Yield what an extra lacks, the extras that it names included."""
    requirements = list(requirements)
    for each in requirements:
        if not _wanted(each, extra):
            continue
        if each.name == _DISTRIBUTION:
            for other in sorted(each.extras):
                yield from _problems(requirements, other)
            continue
        version = _version(each.name)
        if version is None and importlib.util.find_spec(each.name.replace("-", "_")) is None:
            yield f"{_LACKS}{each.name}"
        elif version is not None and not _fits(version, each):
            yield f"{each.name} {version} is not {each.specifier}"


def _version(name: str) -> str | None:
    """Return the version of a distribution; None where another one (onnxruntime-gpu, say) may bring the module."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(version: str, requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        # NVIDIA's own builds carry versions such as "2024.1-jp6".
        return True

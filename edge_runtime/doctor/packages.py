"""Checks of Python, edgeemo, and its packages against the versions that the distribution requires."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from edge_runtime import __version__
from edge_runtime.doctor.finding import Finding, rated
from edge_runtime.extras import DEMO_ENCODER, DEMO_ENCODER_REMEDY, EXTRAS, PURPOSES

OLDEST_PYTHON = (3, 10)
_DISTRIBUTION = "edgeemo"
_LACKS = "lacks "
_FROM_SOURCES = "edgeemo runs from its sources, not installed"


def python() -> Iterator[Finding]:
    """Check Python and edgeemo itself."""
    remedy = f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer"
    found = f"{platform.python_version()}, {platform.machine()}"
    yield rated("Python", sys.version_info[:2] >= OLDEST_PYTHON, found, remedy)
    yield Finding("edgeemo", "ok", __version__)


def base() -> Iterator[Finding]:
    """Check the packages of the base installation."""
    requirements = _requirements()
    if requirements is None:
        yield Finding("packages", "unknown", _FROM_SOURCES, "pip install edgeemo")
        return
    problems = list(_problems(requirements, ""))
    if problems:
        yield Finding("packages", "missing", "; ".join(problems), "pip install --upgrade edgeemo")
        return
    names = [each.name for each in requirements if _wanted(each, "")]
    versions = ", ".join(f"{name} {_version(name) or '(unknown version)'}" for name in names)
    yield Finding("packages", "ok", versions)


def extras(*, nvidia: bool) -> Iterator[Finding]:
    """Check the extras."""
    requirements = _requirements()
    for extra in EXTRAS:
        if requirements is None:
            yield Finding(f"extra {extra}", "unknown", _FROM_SOURCES)
            continue
        problems = list(dict.fromkeys(_problems(requirements, extra)))
        remedy = f'pip install "edgeemo[{extra}]"'
        if not any(_wanted(each, extra) for each in requirements):
            yield Finding(f"extra {extra}", "ok", f"not for {platform.machine()}")
        elif not problems:
            yield Finding(f"extra {extra}", "ok", "installed")
        elif extra == "tensorrt" and not nvidia:
            yield Finding(f"extra {extra}", "ok", "not installed; needs an NVIDIA device")
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
        return [Requirement(line) for line in importlib.metadata.requires(_DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        return None


def _wanted(requirement: Requirement, extra: str) -> bool:
    """Return whether an extra ("" for the base) adds a requirement to those of the base on this machine."""
    marker = requirement.marker
    base = marker is None or marker.evaluate({"extra": ""})
    return base if not extra else not base and marker is not None and marker.evaluate({"extra": extra})


def _problems(requirements: Iterable[Requirement], extra: str) -> Iterator[str]:
    """Yield what an extra lacks, including the extras that it requires."""
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
    """Return the version of a distribution; None if it is not installed (onnxruntime-gpu may bring its module)."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(version: str, requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        # NVIDIA's builds have versions such as "2024.1-jp6".
        return True

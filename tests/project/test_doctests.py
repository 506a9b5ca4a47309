"""Examples in docstrings give what they show."""

import doctest
import importlib

import pytest

from tests.conftest import ROOT

ROOMS = ("edge_runtime", "distill", "export", "benchmarks")
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if "examples" not in path.parts and ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_docstrings(module):
    done = doctest.testmod(importlib.import_module(module))
    assert done.attempted
    assert not done.failed

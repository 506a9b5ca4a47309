"""The same streams of `make fuzz` every time; new ones by ``python -m tests.edge_runtime.sources.fuzz_audio``."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from tests.edge_runtime.sources.fuzz_audio import Case, check, problem_of
from tests.edge_runtime.sources.sounds import encoded, sound

PYAV = importlib.util.find_spec("av") is not None
FOUND = (89, 362, 2211, 2831, 2838, 2985)
"""Seeds that once failed."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("start", range(10_000, 10_200, 25))
def test_streams_of_any_kind(start):
    assert [problem for seed in range(start, start + 25) if (problem := check(seed, pyav=PYAV))] == []


@pytest.mark.parametrize("seed", FOUND)
def test_what_once_failed(seed):
    assert check(seed, pyav=PYAV) == ""


def test_the_check_finds_a_loss():
    """A stream that lost its second file without a word would be found."""
    case = Case(encoded(sound(2.0)), seconds=4.0, files=2, damage="", channels=1, audible=True, what="")
    assert "2.00 s were heard of 4.00 s" in problem_of(case, pipe=True, piece=1000)


def test_the_check_finds_channels_that_cancel():
    samples = sound(2.0, channels=2) * np.float32([1, -1])
    case = Case(encoded(samples), seconds=2.0, files=1, damage="", channels=2, audible=True, what="")
    assert problem_of(case, pipe=True, piece=1000) == ""
    silence = encoded(0 * samples)
    assert problem_of(replace(case, content=silence), pipe=True, piece=1000) == "the channels cancel each other"

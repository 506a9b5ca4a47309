"""The memory of a session over windows of many lengths."""

import ctypes
import platform

import pytest

from tests.command import python

_CODE = """
import ctypes
import sys
import numpy as np
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.engines import engine

class Heap(ctypes.Structure):
    # mallinfo2(3); uordblks is what is in use.
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap
if sys.argv[1] == "patterns":
    options = engine.session_options
    def with_patterns(*given, **named):
        made = options(*given, **named)
        made.enable_mem_pattern = True
        return made
    engine.session_options = with_patterns
scorer = engine.OnnxEngine.of(load_bundle(DEFAULT_BUNDLE))
noise = np.random.default_rng(0).normal(0, 0.1, 80_000).astype(np.float32)
for length in (80_000, 80_000, *range(20_000, 80_000, 6_000)):
    scorer.score(noise[:length])
before = libc.mallinfo2().uordblks
for length in range(20_100, 80_000, 1_000):
    scorer.score(noise[:length])
print((libc.mallinfo2().uordblks - before) / 1e6)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 or later"
)
def test_new_lengths_take_no_memory():
    """ONNX Runtime would keep a pattern of its allocations, 6 kB, for each of 60 lengths."""
    grown = {way: float(python("-c", _CODE, way, check=True).stdout) for way in ("ours", "patterns")}
    assert abs(grown["ours"]) < 0.1
    assert grown["patterns"] > 0.25, "the setting has become unnecessary"

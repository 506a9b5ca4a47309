"""The tests. One thread a process, as in `edgeemo` itself: two busy ones on shared cores are many times slower."""

import os

# Before anything imports NumPy or PyTorch, and for every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

"""A simulated CUDA driver in the place of ``pycuda.driver``: there is no GPU where these tests run.

It keeps the rules that a real driver enforces or punishes: a context is current on one thread only, memory is not used
after it was freed, asynchronous copies need page-locked memory, and nothing that was put on a stream has happened
before the stream is synchronised. It shows neither speed nor what a real driver computes.
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np

# pycuda's own names.
Error = type("Error", (Exception,), {})
MemoryError = type("MemoryError", (Error,), {})  # noqa: A001
LogicError = type("LogicError", (Error,), {})


class BrokenRuleError(AssertionError):
    """A rule of CUDA was broken: a fault of the code under test, so no `Error` that it may catch."""


class Gpu:
    """The one device, its memory, and what was done with it."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.devices = 1
        self.driver = True
        self.name = "Orin (simulated)"
        self.room = 1 << 30
        self.memory = {}
        self.current = {}
        self.retained = 0
        self.threads = set()
        self.allocations = 0
        self.launches = 0
        self.fail_launch = False
        self.noise = 0.0
        self._next = 0x1000

    def check(self):
        """Every call of the driver: a context must be current on this thread."""
        self.threads.add(threading.current_thread().name)
        if not self.current.get(threading.get_ident()):
            raise LogicError("invalid device context (no currently active context?)")

    def allocate(self, size):
        self.check()
        if sum(map(len, self.memory.values())) + size > self.room:
            raise MemoryError("cuMemAlloc failed: out of memory")
        self.allocations += 1
        address, self._next = self._next, self._next + size + 256
        self.memory[address] = bytearray(size)
        return address

    def at(self, address):
        if int(address) not in self.memory:
            raise BrokenRuleError("memory is used that is not allocated, or freed")
        return self.memory[int(address)]


GPU = Gpu()


class _Context:
    def __init__(self):
        self._thread = threading.get_ident()

    def push(self):
        GPU.current.setdefault(threading.get_ident(), []).append(self)
        GPU.threads.add(threading.current_thread().name)

    def pop(self):
        GPU.check()
        GPU.current[threading.get_ident()].pop()

    def detach(self):
        if self._thread != threading.get_ident():
            raise BrokenRuleError("a context is detached on another thread than the one that took it")
        GPU.retained -= 1


def _abort_like_pycuda():
    """Do what pycuda does where a thread ends with a context on its stack."""
    if any(GPU.current.values()):
        sys.stderr.write("PyCUDA ERROR: The context stack was not empty upon module cleanup.\n")
        sys.stderr.flush()
        os.abort()


atexit.register(_abort_like_pycuda)


class Device:
    def __init__(self, number):
        assert number == 0

    @staticmethod
    def count():
        return GPU.devices

    def name(self):
        return GPU.name

    def compute_capability(self):
        return (8, 7)

    def retain_primary_context(self):
        GPU.retained += 1
        return _Context()


class Stream:
    def __init__(self):
        GPU.check()
        self.waiting: list[Callable[[], None]] = []
        self.handle = id(self)
        _STREAMS[self.handle] = self

    def synchronize(self):
        GPU.check()
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()


_STREAMS: dict[int, Stream] = {}


def stream_of(handle: int) -> Stream:
    return _STREAMS[handle]


class _Allocation:
    def __init__(self, size):
        self._address = GPU.allocate(size)

    def __int__(self):
        return self._address

    def free(self):
        GPU.check()
        GPU.at(self._address)
        del GPU.memory[self._address]


class _Pinned(bytearray):
    freed = False

    def free(self):
        GPU.check()
        if self.freed:
            raise BrokenRuleError("page-locked memory is freed twice")
        self.freed = True


def pagelocked_empty(shape, dtype):
    GPU.check()
    GPU.allocations += 1
    return np.ndarray(shape, dtype, buffer=_Pinned(int(np.prod(shape)) * np.dtype(dtype).itemsize))


def _pinned(array):
    if not array.flags.c_contiguous:
        raise BrokenRuleError("the copied memory is not contiguous")
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, _Pinned):
        raise BrokenRuleError("an asynchronous copy of memory that is not page-locked")
    if base.freed:
        raise BrokenRuleError("a copy of page-locked memory that was freed")
    return array


def memcpy_htod_async(target, source, stream):
    GPU.check()
    GPU.at(target)
    _pinned(source)

    def copy():
        content = _pinned(source).tobytes()
        memory = GPU.at(target)
        if len(content) > len(memory):
            raise BrokenRuleError("a copy beyond the end of the memory")
        memory[: len(content)] = content

    stream.waiting.append(copy)


def memcpy_dtoh_async(target, source, stream):
    GPU.check()
    GPU.at(source)
    _pinned(target)

    def copy():
        target[...] = np.frombuffer(GPU.at(source), target.dtype)[: target.size].reshape(target.shape)

    stream.waiting.append(copy)


def init():
    if not GPU.driver:
        raise LogicError("cuInit failed: no CUDA-capable device is detected")


def get_driver_version():
    return 12060


def mem_alloc(size):
    return _Allocation(size)


def driver_module(name: str, spec: ModuleSpec | None = None) -> ModuleType:
    """Return what `import pycuda.driver` is to find."""
    module = ModuleType(name)
    module.__spec__ = spec
    for part in (
        Error, MemoryError, LogicError, Device, Stream, pagelocked_empty, memcpy_htod_async, memcpy_dtoh_async, init,
        mem_alloc, get_driver_version,
    ):  # fmt: skip
        setattr(module, part.__name__, part)
    return module

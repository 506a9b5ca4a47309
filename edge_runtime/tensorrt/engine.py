"""Run a TensorRT engine with pycuda: same interface as `OnnxEngine`, nothing allocated per inference.

CUDA contexts belong to threads. All GPU calls (retaining the primary context, allocating, executing, freeing) run on
one worker thread of this engine; callers pass audio and wait. Each engine has its own stream, so that it waits for its
own work only.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.chunks import LEAD, NEXT, PAST, Begun, Past, score_in_chunks
from edge_runtime.engines.engine import DIMENSIONS_OUTPUT, NO_DIMENSIONS, Engine, Scores
from edge_runtime.errors import EngineError
from edge_runtime.files import text_of
from edge_runtime.sources.audio import Pcm
from edge_runtime.tensorrt.library import Library, load_library, quiet_log

Result = TypeVar("Result")
_INPUTS = ("pcm", "reference")
_OUTPUTS = ("logits", "statistics")
_NO_PAST = np.zeros((1, 0), np.float32)
_DRIVER_RELEASES = ("/proc/driver/nvidia/version", "/etc/nv_tegra_release")
"""Files with the driver's release: on desktops and servers, and on a Jetson."""


class TensorRTEngine(Engine):
    """A built engine on the first CUDA device; its plan is from a trusted file, since loading it runs native code.

    Raises:
        EngineError: no driver, an engine of another version or device or a damaged one, or too little memory.
        MissingPartError: the library is not installed.
    """

    def __init__(
        self, plan: bytes, reference: npt.NDArray[np.float32], precision: Precision, *, library: Library = "tensorrt"
    ) -> None:
        trt = load_library(library)
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            raise EngineError(f"pycuda does not load ({error})") from error
        self.precision = precision
        self.backend = f"{library} {trt.__version__} {precision}"
        self._reference = reference
        self._errors = (cuda.Error,)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="edgeemo-cuda")
        try:
            self._session = self._on_worker(lambda: _Session(trt, cuda, plan, reference))
        except BaseException:
            self._worker.shutdown()
            raise
        self.depends_on = (self.backend, hashlib.sha256(plan).hexdigest(), *self._session.driver)
        # For programs that do not call `close`: pycuda cannot free memory at the interpreter's end.
        self._finalizer = weakref.finalize(self, _free, self._worker, self._session)

    def score(
        self, pcm: Pcm, reference: npt.NDArray[np.float32] | None = None, begun: Begun[Scores] | None = None
    ) -> Scores:
        """Score one stretch of audio up to the window of the engine, as `Engine.score`.

        Raises:
            EngineError: the stretch does not fit the engine, the GPU failed, or results are not finite.
        """
        # Without `self`: if the worker held the last reference to the engine, it would wait for itself.
        session, given = self._session, self._reference if reference is None else reference
        if not session.chunk:
            return self._finite(self._on_worker(lambda: session.run(pcm, given)))[0]

        def step(piece: Pcm, past: Past | None) -> tuple[Scores, Past]:
            return self._finite(self._on_worker(lambda: session.run(piece, given, past)))

        return score_in_chunks(self, step, pcm, session.chunk, Begun() if begun is None else begun)

    def _finite(self, found: tuple[Scores, Past]) -> tuple[Scores, Past]:
        scores, past = found
        if not all(np.isfinite(each).all() for each in (*scores, past)):
            raise EngineError(f"{self.backend} returns logits or statistics that are not numbers (NaN or infinity)")
        return found

    def close(self) -> None:
        """Free the GPU's memory; the engine cannot be used afterwards."""
        self._finalizer.detach()
        try:
            self._on_worker(self._session.free)
        finally:
            self._worker.shutdown()

    def _on_worker(self, work: Callable[[], Result]) -> Result:
        try:
            waiting = self._worker.submit(work)
        except RuntimeError as error:
            # Another stream met a failure and closed it, between two chunks of this one.
            raise EngineError("the engine is closed") from error
        try:
            return waiting.result()
        except self._errors as error:
            raise EngineError(f"CUDA failed: {_reason(error)}") from error


class _Session:
    """Context, engine, stream and buffers; created, used and freed on the worker thread only."""

    def __init__(self, trt: Any, cuda: Any, plan: bytes, reference: npt.NDArray[np.float32]) -> None:
        self._cuda = cuda
        self._host: dict[str, Any] = {}
        self._device: dict[str, Any] = {}
        # Any: neither library has types.
        self._runtime: Any = None
        self._engine: Any = None
        self._execution: Any = None
        self._stream: Any = None
        cuda.init()
        self.driver = _driver(cuda)
        # TensorRT's own runtime and other libraries of this process use the primary context too.
        self._context = cuda.Device(0).retain_primary_context()
        try:
            with self._current():
                self._load(trt, plan)
                self._allocate(trt, reference.shape[1])
                # On silence: loads the kernels, and fails now if the engine cannot run.
                self._execute(np.zeros(self._longest, np.float32), reference)
        except BaseException:
            self.free()
            raise

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the context current for one piece of work; pycuda aborts if a thread ends with one on its stack."""
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def _load(self, trt: Any, plan: bytes) -> None:
        self._log = quiet_log(trt)
        try:
            self._runtime = trt.Runtime(self._log)
        except (TypeError, RuntimeError) as error:
            # Raised by the bindings for a null pointer.
            raise EngineError(f"TensorRT {trt.__version__} does not start ({self._log.last_error()})") from error
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"TensorRT {trt.__version__} does not load the engine ({self._log.last_error()})")
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise EngineError(f"TensorRT cannot start the engine ({self._log.last_error()}); is the GPU's memory full?")

    def _allocate(self, trt: Any, statistics_size: int) -> None:
        cuda, engine = self._cuda, self._engine
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        self._inputs = (*_INPUTS, PAST) if PAST in names else _INPUTS
        further = [DIMENSIONS_OUTPUT] if DIMENSIONS_OUTPUT in names else []
        self._outputs = (*_OUTPUTS, *further, *([NEXT] if PAST in names else []))
        if names != {*self._inputs, *self._outputs}:
            raise EngineError(f"the engine is not of a student: its tensors are {', '.join(sorted(names))}")
        shortest, _, longest = (tuple(shape) for shape in engine.get_tensor_profile_shape("pcm", 0))
        self._shortest, self._longest = shortest[1], longest[1]
        self._samples = 0
        self.chunk = self._longest - LEAD if PAST in names else 0
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in (*self._inputs[1:], *self._outputs)}
        if shapes["reference"] != (1, statistics_size):
            raise EngineError(f"the engine has a reference of {shapes['reference']}, not of (1, {statistics_size})")
        self._stream = cuda.Stream()
        for name in (*self._inputs, *self._outputs):
            if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                raise EngineError(f"the engine's '{name}' is not float32")
            # Page-locked, so that copies are asynchronous.
            self._host[name] = cuda.pagelocked_empty(longest if name == "pcm" else shapes[name], np.float32)
            self._device[name] = cuda.mem_alloc(self._host[name].nbytes)
            if not self._execution.set_tensor_address(name, int(self._device[name])):
                raise EngineError(f"TensorRT rejects the buffer of '{name}' ({self._log.last_error()})")

    def run(self, pcm: Pcm, reference: npt.NDArray[np.float32], past: Past | None = None) -> tuple[Scores, Past]:
        if not self._host:
            raise EngineError("the engine is closed")
        with self._current():
            return self._execute(pcm, reference, past)

    def _execute(self, pcm: Pcm, reference: npt.NDArray[np.float32], past: Past | None = None) -> tuple[Scores, Past]:
        cuda, host, device, stream = self._cuda, self._host, self._device, self._stream
        samples = len(pcm)
        if not self._shortest <= samples <= self._longest:
            raise EngineError(
                f"{samples} samples do not fit the engine, which was built for {self._shortest} to {self._longest}"
            )
        if samples != self._samples:
            if not self._execution.set_input_shape("pcm", (1, samples)):
                raise EngineError(f"TensorRT rejects {samples} samples ({self._log.last_error()})")
            self._samples = samples
        host["pcm"][0, :samples] = pcm
        host["reference"][:] = reference
        cuda.memcpy_htod_async(device["pcm"], host["pcm"][0, :samples], stream)
        cuda.memcpy_htod_async(device["reference"], host["reference"], stream)
        if self.chunk:
            host[PAST][:] = 0.0 if past is None else past
            cuda.memcpy_htod_async(device[PAST], host[PAST], stream)
        if not self._execution.execute_async_v3(stream.handle):
            raise EngineError(f"TensorRT cannot run the engine ({self._log.last_error()})")
        for name in self._outputs:
            cuda.memcpy_dtoh_async(host[name], device[name], stream)
        stream.synchronize()
        dimensions = host[DIMENSIONS_OUTPUT][0].copy() if DIMENSIONS_OUTPUT in host else NO_DIMENSIONS
        after = host[NEXT].copy() if self.chunk else _NO_PAST
        return Scores(host["logits"][0].copy(), host["statistics"][0].copy(), dimensions), after

    def free(self, *, ending: bool = False) -> None:
        """Free in reverse order of creation, while the context is current.

        At the end of the process, memory may be freed on another thread; the context, which belongs to the worker, ends
        with the process.
        """
        try:
            with self._current():
                if self._stream is not None:
                    self._stream.synchronize()
                for memory in self._device.values():
                    memory.free()
                for array in self._host.values():
                    array.base.free()
                self._device, self._host = {}, {}
                self._execution = self._engine = self._runtime = self._stream = None
        finally:
            if not ending:
                self._context.detach()


def _free(worker: ThreadPoolExecutor, session: _Session) -> None:
    try:
        freed = worker.submit(session.free)
    except RuntimeError:
        # At the interpreter's end there are no worker threads.
        session.free(ending=True)
        return
    freed.result()
    worker.shutdown()


def _driver(cuda: Any) -> tuple[str, ...]:
    """Return the GPU's name and the versions of its driver: another driver may have other results."""
    releases = [text_of(Path(each)).partition("\n")[0] for each in _DRIVER_RELEASES]
    return cuda.Device(0).name(), str(cuda.get_driver_version()), *releases


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

"""Choose what runs a bundle's graph, and replace an engine that fails, or fails the known-answer test.

The order: TensorRT, the selected graph in ONNX Runtime, the bundle's other graphs, and last the INT8 graph computed in
float. A TensorRT engine that is missing, or does not load, is built once by `edgeemo build`, in a process of its own,
so that the memory of the build is released before listening begins.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.chunks import Begun
from edge_runtime.engines.engine import Engine, OnnxEngine, Scores
from edge_runtime.engines.known_answer_test import WrongAnswersError, verdict_on
from edge_runtime.errors import EdgeemoError, EngineError, MissingPartError, WrongUseError
from edge_runtime.files import locked
from edge_runtime.sources.audio import Pcm
from edge_runtime.tensorrt.engine import TensorRTEngine
from edge_runtime.tensorrt.engine_cache import engine_path
from edge_runtime.tensorrt.library import (
    CudaDevice,
    Library,
    cuda_device,
    installed,
    library_version,
    load_library,
    require_cuda_device,
)
from edge_runtime.trusted_files import check_writable, read_trusted

Backend = Literal["auto", "onnxruntime", "tensorrt"]
Opener = Callable[[list[str]], Engine]
"""Opens an engine; given a list, to which it adds sentences on what happened meanwhile."""
LIBRARIES: tuple[Library, ...] = ("tensorrt", "tensorrt_rtx")
"""In order of preference: an engine that was measured on this device, then one for desktop RTX cards."""
_BUILD_SECONDS = 3600


def open_engine(
    bundle: Bundle,
    backend: Backend = "auto",
    precision: Precision | None = None,
    *,
    threads: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Return the engine that runs a bundle here.

    Args:
        bundle: a verified bundle.
        backend: ``auto`` takes TensorRT where a CUDA device, a TensorRT and pycuda are.
        precision: which graph; by default the best for the backend.
        threads: threads of ONNX Runtime within one operator.
        say: receives a sentence before work that takes minutes.

    Raises:
        WrongUseError: the CPU's INT8 graph on TensorRT.
        MissingPartError: TensorRT was selected by name, and a part of it is missing.
        EdgeemoError: the bundle lacks the graph, or no engine gives its known answers.
    """
    if backend == "tensorrt" and precision == "int8-cpu":
        raise WrongUseError("int8-cpu is the form for ONNX Runtime; with --backend tensorrt use int8-trt")
    if precision is not None:
        bundle.graph(precision)
    chosen = precision or best_precision(bundle)
    if backend == "tensorrt" and chosen is None:
        raise WrongUseError(no_graph_for_tensorrt(bundle))
    found: tuple[Library, CudaDevice] | None = None
    if backend == "tensorrt":
        library = next((each for each in LIBRARIES if installed(each)), LIBRARIES[0])
        load_library(library)
        found = library, require_cuda_device()
    elif backend == "auto" and precision != "int8-cpu" and chosen is not None:
        found = tensorrt_here()
    openers: list[Opener] = []
    spare = precision
    if found is not None and chosen is not None:
        library, device, on_device = *found, chosen
        openers.append(lambda notices: _tensorrt(bundle, library, device, on_device, notices, say))
        spare = form_for_cpu(bundle, chosen)
    openers += _in_onnxruntime(bundle, spare, threads)
    return GuardedEngine([partial(_trusted, opener, bundle) for opener in openers])


def _in_onnxruntime(bundle: Bundle, wanted: Precision | None, threads: int) -> list[Opener]:
    """Return what opens the bundle's graphs in ONNX Runtime: the wanted one, the others for CPUs, INT8 in float."""
    kinds: list[tuple[Precision | None, bool]] = [(wanted, False), ("int8-cpu", False), ("fp32", False)]
    # Slow simulations: INT8 without its kernels, and TensorRT's forms for bundles that hold nothing else.
    kinds += [("int8-cpu", True), ("int8-trt", False), ("fp16", False)]
    held = dict.fromkeys((each, simulated) for each, simulated in kinds if each in bundle.precisions)
    return [partial(_onnxruntime, bundle, *kind, threads) for kind in held]


def _onnxruntime(bundle: Bundle, precision: Precision, simulated: bool, threads: int, _news: list[str]) -> Engine:
    return OnnxEngine.of(bundle, precision, threads=threads, simulated=simulated)


def _trusted(opener: Opener, bundle: Bundle, notices: list[str]) -> Engine:
    """Open an engine and test it; `WrongAnswersError` if it does not give the bundle's known answers."""
    engine = opener(notices)
    verdict = verdict_on(engine, bundle)
    if verdict.outcome == "failed":
        engine.close()
        raise WrongAnswersError(f"{engine.backend} fails the known-answer test of this bundle: {verdict.detail}")
    if verdict.detail:
        notices.append(f"known-answer test of {engine.backend}: {verdict.detail}")
    return engine


def best_precision(bundle: Bundle) -> Precision | None:
    """Return the precision that TensorRT runs of a bundle by default; None where it holds none for TensorRT."""
    return next(iter(bundle.engine_precisions), None)


def form_for_cpu(bundle: Bundle, precision: Precision) -> Precision | None:
    """Return the graph for ONNX Runtime in the place of TensorRT's, whose form may be a slow simulation there.

    None stands for the best that the bundle holds.
    """
    forms: dict[Precision, Precision | None] = {"int8-trt": None, "fp16": "fp32"}
    form = forms.get(precision, precision)
    return form if form in bundle.precisions else None


def no_graph_for_tensorrt(bundle: Bundle) -> str:
    """Return the error message for a bundle of which `best_precision` is None."""
    held = ", ".join(bundle.precisions)
    return f"{bundle.root}: holds no graph for TensorRT (it has {held}); edgeemo export RUN --int8 writes one"


def tensorrt_here() -> tuple[Library, CudaDevice] | None:
    """Return a TensorRT and the device to run it on, or None if a part is missing."""
    if not installed("pycuda"):
        return None
    for library in LIBRARIES:
        if installed(library):
            try:
                load_library(library)
            except (MissingPartError, OSError):
                continue
            device = cuda_device()
            return (library, device) if device else None
    return None


class GuardedEngine(Engine):
    """Runs the first engine that works, and the next one once it fails; `history` reports it. Safe for several threads.

    Raises:
        EdgeemoError: none of them works.
    """

    def __init__(self, openers: Sequence[Opener]) -> None:
        self._notices: list[str] = []
        self._lock = threading.Lock()
        self._openers = list(openers)
        self._engine = self._next([])

    @property
    def backend(self) -> str:  # type: ignore[override]
        """What runs the graph now."""
        return self._engine.backend

    @property
    def depends_on(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the results of the engine that runs now depend on."""
        return self._engine.depends_on

    @property
    def precision(self) -> Precision:  # type: ignore[override]
        """Precision of the graph that runs now."""
        return self._engine.precision

    def score(
        self, pcm: Pcm, reference: npt.NDArray[np.float32] | None = None, begun: Begun[Scores] | None = None
    ) -> Scores:
        """Score one stretch of audio; what one engine cannot score, the next one does, from its beginning on."""
        more = {} if begun is None else {"begun": begun}
        used = self._engine
        try:
            return used.score(pcm, reference, **more)
        except EngineError as error:
            with self._lock:
                # Another thread may have replaced it meanwhile.
                if used is self._engine:
                    if not self._openers:
                        raise
                    self._engine = self._next([error.message])
                    # After a failed launch the driver refuses everything, freeing included.
                    with contextlib.suppress(EngineError):
                        used.close()
            return self._engine.score(pcm, reference, **more)

    def history(self) -> tuple[str, ...]:
        """Return a sentence for each change of engine since the start."""
        return tuple(self._notices)

    def close(self) -> None:
        """Free what the engine holds."""
        self._engine.close()

    def _next(self, why: list[str]) -> Engine:
        """Open the next engine that works, and report why those before it do not run."""
        while self._openers:
            opener = self._openers.pop(0)
            try:
                engine = opener(self._notices)
            except (EngineError, MissingPartError) as error:
                why.append(error.message)
            except OSError as error:
                # Such as a cache of root's, after "sudo edgeemo build".
                why.append(f"{error.filename or 'the engine cache'}: cannot be used ({error.strerror or error})")
            else:
                if why:
                    self._notices.append(f"{'; '.join(why)}; {engine.backend} takes over")
                return engine
        raise EdgeemoError(f"no engine can run this bundle here: {'; '.join(why)}; see: edgeemo doctor")


def _tensorrt(
    bundle: Bundle,
    library: Library,
    device: CudaDevice,
    precision: Precision,
    notices: list[str],
    say: Callable[[str], None],
) -> Engine:
    """Load the engine from the cache; build it where it is missing, and once more where it does not load."""
    # TensorRT-RTX builds ahead of time, for all cards at once.
    target = device if library == "tensorrt" else None
    path = engine_path(bundle.hash, library_version(library), target, bundle.manifest.window, precision)
    reference = bundle.reference()

    def load(plan: bytes) -> Engine:
        return TensorRTEngine(plan, reference, precision, library=library)

    if path.exists():
        try:
            return load(read_trusted(path))
        except EngineError as error:
            notices.append(f"{error.message}; the engine is built again")
            path.unlink(missing_ok=True)
    say(f"building the TensorRT engine for {device.name}; this happens once")
    try:
        check_writable(path.parent)
    except EngineError as error:
        notices.append(f"{error.message}; the engine is built for this session only")
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / path.name
            _build(bundle, library, precision, built)
            return load(read_trusted(built))
    # Of two listeners that start together, one builds and the other waits for it.
    with locked(path.parent / ".build.lock"):
        if not path.exists():
            _build(bundle, library, precision, None)
    try:
        return load(read_trusted(path))
    except EngineError:
        # What does not load right after it was built will not load tomorrow either.
        path.unlink(missing_ok=True)
        raise


def _build(bundle: Bundle, library: Library, precision: Precision, out: Path | None) -> None:
    command = [sys.executable, "-m", "edge_runtime", "build", str(bundle.root), "--precision", precision]
    command += ["--target", "device" if library == "tensorrt" else "rtx"]
    command += ["--out", str(out)] if out else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the TensorRT engine could not be built ({error})") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineError(f"the TensorRT engine could not be built ({lines[-1].removeprefix('Error: ')})")

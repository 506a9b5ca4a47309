"""All checks of `edgeemo doctor`, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE
from edge_runtime.config import ListenSettings, read_settings
from edge_runtime.doctor import accelerators, board, packages, sound, stale, storage
from edge_runtime.doctor.bundle import bundle as check_bundle
from edge_runtime.doctor.finding import Finding, checked
from edge_runtime.doctor.probes import probe
from edge_runtime.doctor.settings import settings as check_settings
from edge_runtime.doctor.system import System
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.source_uri import MICROPHONE


def examine(system: System, bundle: Path | None = None, config: Path | None = None) -> Iterator[Finding]:
    """Yield the findings on a machine, a bundle (by default that of the configuration) and a configuration file."""
    settings, refused = ListenSettings(), None
    try:
        if config is not None:
            settings = read_settings(config)
    except EdgeemoError as error:
        refused = _refused("settings", error, "correct it: edgeemo listen --example-config writes all settings")
    bundle = bundle or settings.bundle
    # In a thread, since a sound server that hangs is waited for; the other checks are made meanwhile.
    with ThreadPoolExecutor(1) as pool:
        portaudio = pool.submit(probe, "sound")
        before, after = _machine(system, bundle), _software(system, bundle, settings, refused)
        first, last = [[finding for each in part for finding in checked(*each)] for part in (before, after)]
        sources = [each.source for each in settings.of_sources().values()]
        microphone = refused is None and any(source.startswith(MICROPHONE) for source in sources)
        yield from first
        yield from checked("sound", lambda: sound.sound(portaudio.result(), system, needed=microphone))
        yield from last
    if config is not None and refused is None:
        result = portaudio.result()
        inputs = [] if "missing" in result else result.get("inputs")
        yield from checked("settings", partial(check_settings, config, settings, inputs))


_Checks = list[tuple[str, Callable[[], Iterable[Finding]]]]


def _machine(system: System, bundle: Path | None) -> _Checks:
    return [
        ("Python", packages.python),
        ("packages", packages.base),
        ("board", partial(board.board, system)),
        ("processor", partial(accelerators.int8, system)),
        ("cores", partial(board.cores, system)),
        ("temperature", partial(board.temperature, system)),
        ("memory", partial(storage.memory, system)),
        ("free space", partial(storage.free_space, bundle)),
        ("clock", partial(storage.clock, system)),
    ]


def _software(system: System, bundle: Path | None, settings: ListenSettings, refused: Finding | None) -> _Checks:
    jetson = board.is_jetson(system)
    cuda = probe("cuda")
    nvidia = jetson or "missing" not in cuda
    return [
        ("ONNX Runtime", accelerators.onnx_runtime),
        ("INT8 products", accelerators.int8_products),
        ("CUDA", partial(accelerators.cuda, cuda, jetson=jetson)),
        ("TensorRT", partial(accelerators.tensorrt, nvidia=nvidia, jetson=jetson)),
        ("extras", partial(packages.extras, nvidia=nvidia)),
        ("engine cache", storage.engine_cache),
        # From here on in the order of listen: the first finding with an exit code gives that of doctor.
        ("settings", lambda: [refused] if refused else []),
        ("bundle", partial(_bundle, bundle or DEFAULT_BUNDLE, settings)),
        ("profiles", partial(stale.profiles, bundle or DEFAULT_BUNDLE, settings)),
    ]


def _bundle(root: Path, settings: ListenSettings) -> Iterator[Finding]:
    try:
        yield from check_bundle(root, settings.engine, settings.decision.hop_seconds)
    except EdgeemoError as error:
        yield _refused("bundle", error, "name another one, or make one: edgeemo export RUN --int8 --out BUNDLE")
        yield from stale.bundles_in(root)


def _refused(what: str, error: EdgeemoError, remedy: str) -> Finding:
    return Finding(what, "missing", f"refused: {error.message}", remedy, error.exit_code)

"""The list of what `edgeemo doctor` looks at, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE
from edge_runtime.config import ListenSettings, read_settings
from edge_runtime.doctor import accelerators, board, packages, sound, storage
from edge_runtime.doctor.bundle import bundle as look_at_bundle
from edge_runtime.doctor.finding import Finding, looked_at
from edge_runtime.doctor.settings import settings as look_at_settings
from edge_runtime.doctor.system import System
from edge_runtime.errors import EdgeemoError


class Examination:
    """Looks at a machine.

    Args:
        system: where its files are.
        bundle: a bundle to verify and run; the configuration's, or else the default one, if not told.
        config: a configuration file to check.

    """

    def __init__(self, system: System, bundle: Path | None = None, config: Path | None = None) -> None:
        self._system = system
        self._bundle = bundle
        self._config = config

    def findings(self) -> Iterator[Finding]:
        """Yield one line after the other; a look that fails is a line that says so."""
        system = self._system
        settings = self._settings()
        if isinstance(settings, ListenSettings):
            self._bundle = self._bundle or settings.bundle
        root = self._bundle or DEFAULT_BUNDLE
        jetson = board.is_jetson(system)
        yield from looked_at("Python", packages.python)
        yield from looked_at("packages", packages.base)
        yield from looked_at("board", partial(board.board, system))
        yield from looked_at("processor", partial(accelerators.int8, system))
        yield from looked_at("cores", partial(board.cores, system))
        yield from looked_at("temperature", partial(board.temperature, system))
        yield from looked_at("memory", partial(storage.memory, system))
        yield from looked_at("free space", partial(storage.free_space, self._bundle))
        yield from looked_at("clock", partial(storage.clock, system))
        heard = sound.probe_sound()
        yield from looked_at("sound", partial(sound.sound, heard, system))
        yield from looked_at("ONNX Runtime", accelerators.onnx_runtime)
        yield from looked_at("INT8 products", accelerators.int8_products)
        cuda = accelerators.probe_cuda()
        nvidia = jetson or "missing" not in cuda
        yield from looked_at("CUDA", partial(accelerators.cuda, cuda, jetson=jetson))
        yield from looked_at("TensorRT", partial(accelerators.tensorrt, nvidia=nvidia, jetson=jetson))
        yield from looked_at("extras", partial(packages.extras, nvidia=nvidia))
        yield from looked_at("engine cache", storage.engine_cache)
        # In the order in which listen meets them: the first that it cannot use gives its exit code.
        if isinstance(settings, EdgeemoError):
            remedy = "correct it: edgeemo listen --example-config writes all settings"
            yield _refused("settings", settings, remedy)
        told = settings if isinstance(settings, ListenSettings) else ListenSettings()
        yield from looked_at("bundle", partial(self._look_at_bundle, root, told))
        if self._config is not None and isinstance(settings, ListenSettings):
            yield from looked_at("settings", partial(look_at_settings, self._config, settings, _inputs(heard)))

    def _settings(self) -> ListenSettings | EdgeemoError | None:
        try:
            return None if self._config is None else read_settings(self._config)
        except EdgeemoError as error:
            return error

    def _look_at_bundle(self, root: Path, settings: ListenSettings) -> Iterable[Finding]:
        try:
            yield from look_at_bundle(root, settings.engine, settings.decision.hop_seconds)
        except EdgeemoError as error:
            yield _refused("bundle", error, "name another one, or make one: edgeemo export RUN --int8 --out BUNDLE")


def _refused(what: str, error: EdgeemoError, remedy: str) -> Finding:
    return Finding(what, "missing", f"refused: {error.message}", remedy, error.exit_code)


def _inputs(heard: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the inputs, none where there is no PortAudio; None where it could not be asked."""
    inputs: list[dict[str, Any]] | None = [] if "missing" in heard else heard.get("inputs")
    return inputs

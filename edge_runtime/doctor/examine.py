"""The list of what `edgeemo doctor` looks at, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from edge_runtime.config import EngineSettings, ListenSettings, read_settings
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
        bundle: a bundle to verify and run; the configuration's if not told.
        config: a configuration file to check.

    Attributes:
        refused: why the bundle or the configuration was refused; None while it was not.
    """

    def __init__(self, system: System, bundle: Path | None = None, config: Path | None = None) -> None:
        self._system = system
        self._bundle = bundle
        self._config = config
        self.refused: EdgeemoError | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield one line after the other; a look that fails is a line that says so."""
        system = self._system
        settings = self._settings()
        if isinstance(settings, ListenSettings):
            self._bundle = self._bundle or settings.bundle
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
        cuda = accelerators.probe_cuda()
        nvidia = jetson or "missing" not in cuda
        yield from looked_at("CUDA", partial(accelerators.cuda, cuda, jetson=jetson))
        yield from looked_at("TensorRT", partial(accelerators.tensorrt, nvidia=nvidia, jetson=jetson))
        yield from looked_at("extras", partial(packages.extras, nvidia=nvidia))
        yield from looked_at("engine cache", storage.engine_cache)
        if self._config is not None:
            if isinstance(settings, EdgeemoError):
                yield self._refuse("settings", settings)
            elif settings is not None:
                check = partial(look_at_settings, self._config, settings, heard.get("inputs"))
                yield from looked_at("settings", check)
        if self._bundle is not None:
            engine = settings.engine if isinstance(settings, ListenSettings) else EngineSettings()
            yield from looked_at("bundle", partial(self._look_at_bundle, self._bundle, engine))

    def _settings(self) -> ListenSettings | EdgeemoError | None:
        try:
            return None if self._config is None else read_settings(self._config)
        except EdgeemoError as error:
            return error

    def _look_at_bundle(self, root: Path, engine: EngineSettings) -> Iterable[Finding]:
        try:
            yield from look_at_bundle(root, engine)
        except EdgeemoError as error:
            yield self._refuse("bundle", error)

    def _refuse(self, what: str, error: EdgeemoError) -> Finding:
        self.refused = self.refused or error
        return Finding(what, "missing", f"refused: {error.message}", "see what it says")

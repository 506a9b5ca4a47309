"""Description of a grid: systems, baselines and sweeps on one corpus, in TOML (``benchmarks/lab/grids``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from benchmarks.lab.baselines import WHISPER, BaselineName
from distill.runs.cross_validation import STUDENT
from edge_runtime.errors import WrongUseError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

GRIDS = Path(__file__).parent / "grids"


class _Table(BaseModel, extra="forbid", frozen=True):
    """Unknown keys are errors."""


class SystemSettings(_Table):
    """One student of the grid.

    Attributes:
        without: teachers that are left out.
        set: changes of the recipe, as ``edgeemo distill --set`` takes them.
        other_size: allow a number of parameters that differs from the others'.
        each_language: one student per language, tested on that language; ``{language}`` is replaced in ``set``.
    """

    without: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    other_size: bool = False
    each_language: bool = False


class BaselineSettings(_Table):
    """One baseline of the grid; see `benchmarks.lab.baselines.Baseline`."""

    kind: BaselineName
    encoder: str = WHISPER
    layers: tuple[int, ...] = (3,)


class Sweep(_Table):
    """One setting of one system over several values; the system's own value is not run again.

    Attributes:
        name: of the sweep, for file names and tables.
        system: that is changed.
        key: the setting, as ``edgeemo distill --set`` takes it.
        values: its values.
    """

    name: str = Field(pattern=r"^[\w-]+$")
    system: str = STUDENT
    key: str
    values: tuple[float, ...] = Field(min_length=2)


class Grid(_Table):
    """Content of a grid description.

    Attributes:
        name: of the grid, and of its results file.
        corpus: name of the corpus, or names of corpora to pool; the command line gives their paths.
        auxiliary_corpora: names of further training corpora, which are not tested.
        recipe: path or name of a recipe; empty where the command line gives it.
        folds: ``"all"``, or numbers of folds.
        seeds: of the runs of each system.
        set: changes of the recipe for all systems.
        systems: students; the first one trains the teachers that the others share.
        baselines: systems without teachers.
        sweeps: settings over values.
        against: the system for paired comparisons.
        target_ua: target for the unweighted accuracy of the first system.
        by: a column of the corpus; shares of correct decisions are reported by its values.
    """

    name: str = Field(pattern=r"^[\w-]+$")
    corpus: str | tuple[str, ...]
    auxiliary_corpora: tuple[str, ...] = ()
    recipe: str = ""
    folds: Literal["all"] | tuple[int, ...] = "all"
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    set: tuple[str, ...] = ()
    systems: dict[str, SystemSettings] = Field(min_length=1)
    baselines: dict[str, BaselineSettings] = {}
    sweeps: tuple[Sweep, ...] = ()
    against: str | None = None
    target_ua: float | None = None
    by: str | None = None

    @property
    def corpora(self) -> tuple[str, ...]:
        """Names of the corpora that are tested on."""
        return (self.corpus,) if isinstance(self.corpus, str) else self.corpus

    @model_validator(mode="after")
    def _names_are_known(self) -> Grid:
        both = self.systems.keys() & self.baselines.keys()
        if both:
            raise ValueError(f"'{min(both)}' is both a system and a baseline")
        if self.against is not None and self.against not in self.systems | self.baselines:
            raise ValueError(f"against: there is no system '{self.against}'")
        for sweep in self.sweeps:
            if sweep.system not in self.systems:
                raise ValueError(f"sweep {sweep.name}: there is no system '{sweep.system}'")
        return self


def load_grid(name: str) -> Grid:
    """Read a description.

    Args:
        name: path of a TOML file, or a name in `GRIDS`.

    Raises:
        WrongUseError: there is none, it is not TOML, or it has an unknown key or a value out of range.
    """
    path = Path(name) if name.endswith(".toml") else GRIDS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in GRIDS.glob("*.toml")))
        raise WrongUseError(f"there is no grid '{name}': give the path of a TOML file or one of {known}")
    try:
        return Grid.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except tomllib.TOMLDecodeError as error:
        raise WrongUseError(f"{path}: is not valid TOML ({error})") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the grid"
        raise WrongUseError(f"{path}: {where}: {problem['msg']}") from error

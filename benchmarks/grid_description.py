"""What a grid is: systems, baselines and sweeps on one corpus, as TOML checked by pydantic (``benchmarks/grids``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmarks.baselines import WHISPER, BaselineName
from distill.runs.cross_validation import STUDENT
from edge_runtime.errors import WrongUseError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

GRIDS = Path(__file__).parent / "grids"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SystemSettings(_Table):
    """One student of the grid.

    Attributes:
        without: teachers that it goes without.
        set: changes of the recipe, as ``edgeemo distill --set`` takes them.
        other_size: it may have another number of parameters than the others; without this it is refused.
        each_language: not one student, but one a language, each tested on its own: ``set`` is given ``{language}``.
    """

    without: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    other_size: bool = False
    each_language: bool = False


class BaselineSettings(_Table):
    """One baseline of the grid; see `benchmarks.baselines.Baseline`."""

    kind: BaselineName
    encoder: str = WHISPER
    layers: tuple[int, ...] = (3,)


class Sweep(_Table):
    """One setting of one system over several values; a value that the system has anyway is not run again.

    Attributes:
        name: of the sweep, for file names and tables.
        system: what is changed.
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
        corpus: name of the corpus, whose place the command line gives; of several, to be pooled.
        auxiliary: names of corpora that students are trained on too, and not tested on.
        recipe: path or name of a recipe; where there is none, the command line gives it.
        folds: ``"all"``, or the numbers of some.
        seeds: a run of each system with each.
        set: changes of the recipe for all systems.
        systems: the first one trains the teachers that the others share.
        baselines: systems without chance and teachers.
        sweeps: settings over values.
        against: the system that all others are compared with, paired.
        target_ua: the unweighted accuracy that the first system is to reach.
        by: a column of the corpus, by whose values shares of right decisions are told.
    """

    name: str = Field(pattern=r"^[\w-]+$")
    corpus: str | tuple[str, ...]
    auxiliary: tuple[str, ...] = ()
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
        name: path of a TOML file, or the name of one that ships with edgeemo.

    Raises:
        WrongUseError: there is none, it is not TOML, or it has an unknown key or a value out of range.
    """
    path = Path(name) if name.endswith(".toml") else GRIDS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in GRIDS.glob("*.toml")))
        raise WrongUseError(f"there is no grid '{name}': give the path of a TOML file or one of {known}")
    try:
        return Grid.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise WrongUseError(f"{path}: is not valid TOML ({error})") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the grid"
        raise WrongUseError(f"{path}: {where}: {problem['msg']}") from error

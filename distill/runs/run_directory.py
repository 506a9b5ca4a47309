"""The run directory: what `edgeemo distill` leaves behind and `edgeemo export` takes up.

::

    RUN/run.json                 how it was made: recipe, corpus, fold, seed, versions, command
    RUN/student/                 config.json and model.safetensors (Hugging Face PreTrainedModel)
    RUN/training-speech.u32      recognises training speech (`distill/checks/training_speech.py`)
    RUN/report.json              accuracy of teachers and student, calibration, history of every epoch
    RUN/predictions.csv          the student's decision on every test utterance (`distill/evaluation/predictions.py`)
    RUN/predictions-TEACHER.csv  a teacher's
    RUN/checkpoints/             only while training

`distill/runs/cross_validation.py` describes a directory of several folds.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from distill.checks.finding import Finding
from distill.checks.leakage import Leak
from distill.corpus import Corpus, CorpusFacts
from distill.evaluation.concordance import Concordance
from distill.evaluation.metrics import Accuracy
from distill.recipe import ChoicesWithTestFigures, Recipe
from edge_runtime import __version__
from edge_runtime.dimensions import Dimension
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import write_text
from edge_runtime.machine import instruction_sets, processor
from edge_runtime.provenance import command_line, commit, now

SCHEMA = 1
WEIGHTS = "model.safetensors"
"""What Hugging Face calls them."""

Content = TypeVar("Content", bound=BaseModel)


class _Record(BaseModel, extra="forbid"):
    """Unknown keys are errors."""


class CorpusRecord(_Record):
    """A corpus as a run met it.

    Attributes:
        facts: what is known of it.
        root: what was given to `distill.corpora.read_corpus`.
        reader: which reader read it; empty lets the one that fits read it again.
        left_out: names of files that could not be used.
        labels: class of each of the corpus' own labels; None where all keep their names.
        fingerprint: of the corpus as it was trained on (`Corpus.fingerprint`): by the recipe's labels, without what
            was left out.
        parts: the corpora that it was pooled from, each as it was trained on.
    """

    facts: CorpusFacts
    root: str
    reader: str = ""
    left_out: tuple[str, ...] = ()
    labels: dict[str, str] | None = None
    fingerprint: str
    utterances: int
    speakers: int
    hours: float
    parts: tuple[CorpusRecord, ...] = ()

    @classmethod
    def of(cls, corpus: Corpus, labels: dict[str, str] | None = None) -> CorpusRecord:
        """Describe a corpus that was read, and then labelled by ``labels``."""
        return cls(
            facts=corpus.facts,
            root=str(corpus.root if corpus.parts else (corpus.source or corpus.root).resolve()),
            reader=corpus.reader,
            left_out=corpus.left_out,
            labels=labels,
            fingerprint=corpus.fingerprint(),
            utterances=len(corpus.utterances),
            speakers=len(corpus.speakers),
            hours=round(corpus.hours, 4),
            parts=tuple(
                cls.of(part.as_trained(corpus.left_out, labels), part.final_labels(labels)) for part in corpus.parts
            ),
        )


class Provenance(_Record):
    """Command, versions and machine that made a file."""

    edgeemo: str
    command: str
    date: str
    commit: str
    platform: str
    processor: str
    instruction_sets: str
    versions: dict[str, str]

    @classmethod
    def of_this_process(cls, packages: tuple[str, ...]) -> Provenance:
        """Describe this process; ``packages`` names the distributions whose versions matter."""
        return cls(
            edgeemo=__version__,
            command=command_line(),
            date=now(),
            commit=commit(),
            platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            processor=processor(),
            instruction_sets=instruction_sets(),
            versions={name: metadata.version(name) for name in packages},
        )


class RunRecord(_Record):
    """Content of ``run.json``.

    Attributes:
        auxiliary: corpora that were trained on only.
        unlabelled: speech that was trained on without labels, as ``--unlabelled`` named it.
        other_emotions: utterances of the corpus that an encoder was distilled on, in emotions that are no class. They
            follow from corpus, recipe and fold.
        left_out_copies: names of utterances that training and validation leave out, as copies of tested recordings.
    """

    schema_version: int = SCHEMA
    recipe: Recipe
    fold: int
    labels: tuple[str, ...]
    corpus: CorpusRecord
    auxiliary: tuple[CorpusRecord, ...] = ()
    unlabelled: tuple[CorpusRecord, ...] = ()
    other_emotions: tuple[CorpusRecord, ...] = ()
    left_out_copies: tuple[str, ...] = ()
    provenance: Provenance

    @property
    def unlabelled_states(self) -> list[str]:
        """Fingerprints of the unlabelled speech."""
        return _fingerprints(self.unlabelled)

    @property
    def without_labels(self) -> tuple[CorpusRecord, ...]:
        """All speech that was trained on without labels."""
        return (*self.unlabelled, *self.other_emotions)


class SystemReport(_Record):
    """Accuracy of a teacher or the student.

    Attributes:
        validation: on validation speakers, on which choices were made.
        test: on test speakers, on which none was.
        temperature: of the probabilities, fitted on validation speakers.
        test_by: share of right decisions by the values of corpus columns.
        history: one dictionary an epoch; before them, one for each value tried for an LDA head, the chosen one last;
            before these, for each ridge that was tried for a dimension.
        dimensions: concordance of the predicted dimensions on test speakers; empty for a system without.
        validation_dimensions: the same on validation speakers.
    """

    validation: Accuracy
    test: Accuracy
    temperature: float
    test_by: dict[str, dict[str, float]]
    history: list[dict[str, float]]
    dimensions: dict[Dimension, Concordance] = {}
    validation_dimensions: dict[Dimension, Concordance] = {}


class RunReport(_Record):
    """Content of ``report.json``.

    Attributes:
        weights: sha256 of the student's weights, so that what is exported is what was tested; empty in older runs.
        findings: problems and warnings of the corpora, with the name of the corpus in front.
        accepted: the checks whose problems ``--accept`` let pass.
        leaks: copies of tested recordings that were left out (``--exclude-leaks``).
        choices_with_test_figures: as the recipe states; None for not stated.
    """

    schema_version: int = SCHEMA
    note: str
    parts: dict[str, int]
    teachers: dict[str, SystemReport]
    student: SystemReport
    parameters: int
    temperature: float
    threshold: float
    seconds: float
    weights: str = ""
    findings: tuple[Finding, ...] = ()
    accepted: tuple[str, ...] = ()
    leaks: tuple[Leak, ...] = ()
    choices_with_test_figures: ChoicesWithTestFigures | None = None


def read_run(folder: Path) -> RunRecord:
    """Read ``run.json`` of a run directory.

    Raises:
        EdgeemoError: there is none, or it is of another schema.
    """
    return read_record(folder, "run.json", RunRecord)


def read_report(folder: Path) -> RunReport:
    """Read ``report.json`` of a finished run.

    Raises:
        EdgeemoError: the run is not finished, or it is of another schema.
    """
    if not (folder / "report.json").is_file() and (folder / "run.json").is_file():
        raise EdgeemoError(f"{folder}: this run is not finished; give the same distill command again to resume it")
    return read_record(folder, "report.json", RunReport)


def is_finished(folder: Path, recipe: Recipe, corpus: Corpus, fold: int, unlabelled: Sequence[Corpus] = ()) -> bool:
    """Return whether a directory holds just this run, finished."""
    if not (folder / "report.json").is_file():
        return False
    record = read_run(folder)
    states = [
        each.without(known.left_out).fingerprint() for each, known in zip(unlabelled, record.unlabelled, strict=False)
    ]
    same = len(unlabelled) == len(record.unlabelled) and states == record.unlabelled_states
    return same and (record.recipe, record.fold) == (recipe, fold) and corpus.is_state(record.corpus.fingerprint)


def refuse_no_run(folder: Path) -> None:
    """Refuse a place for a run that holds something else.

    Raises:
        WrongUseError: it does.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "run.json").is_file())):
        raise WrongUseError(f"{folder}: is in use and holds no run; give another --out")


def start_or_resume(folder: Path, record: RunRecord) -> None:
    """Make the run directory, or check that the one that is there belongs to the same run.

    Raises:
        WrongUseError: it holds another run, or something else.
    """
    refuse_no_run(folder)
    if not (folder / "run.json").is_file():
        write_text(folder / "run.json", record.model_dump_json(indent=2) + "\n")
        return
    before = read_run(folder)
    for name, old, new in (
        ("recipe", before.recipe, record.recipe),
        ("fold", before.fold, record.fold),
        ("corpus", before.corpus.fingerprint, record.corpus.fingerprint),
        ("choice of --exclude-leaks", before.left_out_copies, record.left_out_copies),
        ("choice of --auxiliary-corpus", _fingerprints(before.auxiliary), _fingerprints(record.auxiliary)),
        ("choice of --unlabelled", before.unlabelled_states, record.unlabelled_states),
    ):
        if old != new:
            raise WrongUseError(f"{folder}: holds a run with another {name}; give another --out or remove it")


def _fingerprints(corpora: tuple[CorpusRecord, ...]) -> list[str]:
    return [corpus.fingerprint for corpus in corpora]


def read_record(folder: Path, name: str, kind: type[Content]) -> Content:
    """Read one JSON file of a run directory.

    Raises:
        EdgeemoError: there is none, or it is of another schema.
    """
    path = folder / name
    if not path.is_file():
        raise EdgeemoError(f"{folder}: is no run directory (it holds no {name}); make one with: edgeemo distill")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "json_invalid":
            raise EdgeemoError(f"{path}: is damaged (it is not JSON); copy the run again, or make it anew") from error
        where = ".".join(str(part) for part in problem["loc"])
        raise EdgeemoError(
            f"{path}: was written by another version of edgeemo ({where}: {problem['msg']}); run distill again"
        ) from error

"""Accuracy of students and other systems, read from runs and results on the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench.compare.compare_runs import Tested, read_tested, refuse_unlike
from benchmarks.bench.results import PairedDifference, Results, Row, accuracy_columns
from benchmarks.lab.peer_systems import Peer
from distill.corpora.argument import NamedPath
from distill.corpus import Corpus
from distill.evaluation.metrics import mean_difference
from distill.runs.cross_validation import STUDENT, describe_folds
from edge_runtime.errors import WrongUseError

_ACCURACY = ("utterances", "speakers", *(f"{name}{end}" for name in ("ua", "wa", "macro_f1", "ece") for end in
             ("", "_low", "_high")))  # fmt: skip
"""Columns of a row with accuracy, without those of single classes."""


@dataclass(frozen=True)
class PeerAccuracy:
    """Accuracy of systems on the same folds.

    Attributes:
        tested: decisions of each system, by its name.
        exports: rows of graphs that were tested fold by fold (`benchmarks.lab.export_table`).
    """

    tested: Mapping[str, Tested]
    exports: Sequence[Row] = ()

    def columns(self, peer: Peer) -> dict[str, Any]:
        """Return the columns of a `Row` with the accuracy of a system; none where it is unknown.

        Graphs have the accuracy of the exports; folds of a system are those of its checkpoint in PyTorch.
        """
        row = next((row for row in self.exports if (row.system, row.precision) == (peer.system, peer.precision)), None)
        if row is not None:
            found = {name: getattr(row, name) for name in _ACCURACY}
            return {name: value for name, value in found.items() if value is not None} | _facts(row)
        system = STUDENT if peer.system == "student-pytorch" else peer.system
        if system not in self.tested or peer.precision not in ("fp32", None):
            return {}
        each = self.tested[system]
        columns: dict[str, Any] = accuracy_columns(each.predictions.accuracy) | self._same
        yardstick = self.tested.get(STUDENT)
        if yardstick is not None and system != STUDENT:
            one, other = yardstick.predictions, each.predictions
            found_difference = mean_difference(one.truth, [one.decided], [other.decided], one.speakers)
            columns["difference"] = PairedDifference.of(STUDENT, found_difference)
        return columns

    @property
    def _same(self) -> dict[str, Any]:
        first = next(iter(self.tested.values()))
        return {
            "folds": describe_folds(first.spec, first.folds),
            "speaker_independent": not first.spec.speaker_mixed,
            "reference_utterances": 0,
        }


def _facts(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("folds", "speaker_independent", "reference_utterances")}


def read_accuracy(folds: Mapping[str, Path], exports: Sequence[NamedPath], corpus: Corpus) -> PeerAccuracy:
    """Read the accuracy of systems.

    Args:
        folds: run directories of one fold or several, by system.
        exports: results files of `benchmarks.lab.export_table`; a name replaces ``student`` in their systems.
        corpus: of the folds.

    Raises:
        EdgeemoError: a directory or the file cannot be read.
        WrongUseError: they are not of the same folds of this corpus.
    """
    tested = {system: read_tested(folder) for system, folder in folds.items()}
    if tested:
        refuse_unlike(list(tested.values()))
    for system, each in tested.items():
        if set(each.predictions.labels) != set(corpus.labels) or not set(each.predictions.names) <= {
            item.name for item in corpus.utterances
        }:
            raise WrongUseError(f"--folds {system}={each.folder}: is of another corpus than {corpus.root}")
    rows = []
    for file in exports:
        found = _read_exports(file.path)
        _refuse_other_folds(file.path, found, tested, corpus)
        name = file.name or STUDENT
        rows += [row.model_copy(update={"system": row.system.replace(STUDENT, name, 1)}) for row in found]
    return PeerAccuracy(tested, rows)


def _read_exports(path: Path) -> list[Row]:
    try:
        return Results.read(path).rows
    except (OSError, ValueError) as error:
        raise WrongUseError(f"--exports {path}: is no results file of python -m benchmarks.lab.export_table") from error


def _refuse_other_folds(path: Path, rows: Sequence[Row], tested: Mapping[str, Tested], corpus: Corpus) -> None:
    for row in rows:
        same = row.corpus == corpus.facts.name and row.classes == len(corpus.labels)
        for each in tested.values():
            same = same and row.utterances == len(each.predictions.names)
            same = same and row.folds == describe_folds(each.spec, each.folds)
        if not same:
            raise WrongUseError(f"--exports {path}: is of another corpus or other folds than --corpus and --folds")

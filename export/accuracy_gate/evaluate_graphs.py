"""What the graphs of a student decide on held-out speakers, beside the student itself: what the gate judges by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import paired_difference
from distill.evaluation.reference_draws import random_draws
from distill.evaluation.referenced import Speakers
from distill.scoring import student_score, student_score_one
from distill.student import Student
from edge_runtime.bundles.manifest import AccuracyEntry, Precision, graph_name
from edge_runtime.clips import Score, ScoreOne, score_clips
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.files import replacing
from export.accuracy_gate.caching_engine import RememberingEngine
from export.accuracy_gate.gate import Drop
from export.loaded_run import LoadedRun

REFERENCE_UTTERANCES = 20
"""Behind the reference of each utterance where a student that takes references is judged."""
UNPRUNED = "unpruned"
"""The run's student as it was trained, where what is exported was changed."""


@dataclass(frozen=True)
class Judged:
    """What was decided on the tested utterances, by graph.

    Attributes:
        evaluations: relative to the default reference.
        referenced: relative to references of the speakers; empty for a student that takes none.
    """

    evaluations: Mapping[str, Evaluation]
    referenced: Mapping[str, Evaluation]


def judge_graphs(
    run: LoadedRun,
    student: Student,
    folder: Path,
    engines: Mapping[Precision, OnnxEngine],
    *,
    changed: bool,
    say: Callable[[str], None],
) -> Judged:
    """Return what each graph decides on the run's test part.

    Args:
        run: the run.
        student: what was exported.
        folder: the bundle on its way.
        engines: its graphs.
        changed: the exported student is not the run's: that one is measured too, as `UNPRUNED`.
        say: told what is being done.
    """
    test = run.fold.test
    say(f"accuracy on {len(test)} utterances of held-out speakers")
    if not student.config.speaker_trust:
        plain: dict[str, Evaluation] = {}
        if changed:
            plain[UNPRUNED] = evaluate(run, student_score(run.student), test)
        for precision, engine in engines.items():
            plain[precision] = evaluate(run, engine.score_windows, test)
        return Judged(plain, {})
    say(f"and relative to {REFERENCE_UTTERANCES} utterances of the speaker")
    default = student.reference.numpy()
    whose: dict[str, tuple[Student, ScoreOne]] = {
        each: (student, RememberingEngine(engine, folder / graph_name(each), default).score)
        for each, engine in engines.items()
    }
    if changed:
        whose = {UNPRUNED: (run.student, student_score_one(run.student)), **whose}
    both = {name: evaluate_with_references(run, one, score, test) for name, (one, score) in whose.items()}
    return Judged({name: each[0] for name, each in both.items()}, {name: each[1] for name, each in both.items()})


_PLAIN, _REFERENCED = "plain", "referenced"


def write_judged(judged: Judged, path: Path) -> None:
    """Keep what was decided, for `read_judged`.

    Raises:
        EdgeemoError: the place cannot be written to.
    """
    kinds = ((_PLAIN, judged.evaluations), (_REFERENCED, judged.referenced))
    arrays = {f"{kind}:{name}": each.probabilities for kind, found in kinds for name, each in found.items()}
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def read_judged(path: Path, run: LoadedRun) -> Judged:
    """Return what `write_judged` kept of the graphs of a run."""
    found: dict[str, dict[str, Evaluation]] = {_PLAIN: {}, _REFERENCED: {}}
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, _, name = key.partition(":")
            found[kind][name] = Evaluation(run.fold.test, run.record.labels, arrays[key])
    return Judged(found[_PLAIN], found[_REFERENCED])


def pool(parts: Sequence[Judged]) -> Judged:
    """Return what the graphs of several folds decided, each on the speakers that its student has not heard, as one."""

    def whole(each: Sequence[Mapping[str, Evaluation]]) -> dict[str, Evaluation]:
        return {
            name: Evaluation(
                tuple(item for part in each for item in part[name].utterances),
                each[0][name].labels,
                np.concatenate([part[name].probabilities for part in each]),
            )
            for name in each[0]
        }

    return Judged(whole([part.evaluations for part in parts]), whole([part.referenced for part in parts]))


def evaluate(run: LoadedRun, score: Score, utterances: Sequence[Utterance]) -> Evaluation:
    """Return what a graph or student decides on whole utterances, calibrated with the run's temperature."""
    scores = score_clips(score, [item.path for item in utterances], run.policy)
    return Evaluation(utterances, run.record.labels, scores.probabilities(run.report.temperature))


def evaluate_with_references(
    run: LoadedRun, student: Student, score: ScoreOne, utterances: Sequence[Utterance]
) -> tuple[Evaluation, Evaluation]:
    """Return what is decided without a reference, as `evaluate`, and with one.

    Behind each reference are `REFERENCE_UTTERANCES` others of the same speaker, drawn at random.
    """
    speakers = Speakers(
        score=score,
        items=utterances,
        labels=run.record.labels,
        policy=run.policy,
        temperature=run.report.temperature,
        default=student.reference.numpy(),
        trust=student.config.speaker_trust,
    )
    heard = speakers.plain()
    plain = speakers.evaluation([each.probabilities for each in heard])
    return plain, speakers.drawn(heard, random_draws(utterances, REFERENCE_UTTERANCES, seed=0))


def entry(evaluation: Evaluation) -> AccuracyEntry:
    """Return the accuracy as a bundle carries it."""
    columns = {"ua", "ua_low", "ua_high", "wa", "utterances", "speakers"}
    return AccuracyEntry(**evaluation.accuracy.model_dump(include=columns))


def drop(baseline: Evaluation, judged: Evaluation) -> Drop:
    """Return the paired loss of UA of ``judged`` against ``baseline`` on the same utterances.

    The interval is over speakers; of one speaker alone, over utterances (see `export.accuracy_gate.gate`).
    """
    units = baseline.speakers
    if len(set(units)) == 1:
        units = [str(number) for number in range(len(units))]
    ua, low, high = paired_difference(baseline.truth, judged.decided, baseline.decided, units)
    return Drop(ua=ua, low=low, high=high)

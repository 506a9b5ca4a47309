"""Accuracy beyond a figure on clips: by acoustic condition, by speaker and group, by coverage, and in a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.bench.accuracy.conditions import ConditionsSection, conditions_with, measure_conditions
from benchmarks.bench.accuracy.dimensions import DimensionsSection, measure_dimensions
from benchmarks.bench.accuracy.fairness import FairnessSection, measure_fairness
from benchmarks.bench.accuracy.graphs import TestPart
from benchmarks.bench.accuracy.recordings import TestRecordings
from benchmarks.bench.accuracy.risk_coverage import RiskSection, measure_risk
from benchmarks.bench.accuracy.streaming import NO_SPEECH_SECONDS, StreamingSection, measure_streaming
from benchmarks.bench.device.device_sections import Section
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision

COLUMNS = ("sex", "language")
"""Columns of a corpus that fairness is measured by, where the corpus has them."""


class Sections(Section):
    """Sections on accuracy; those that were not measured are None.

    Attributes:
        conditions: accuracy by acoustic condition.
        fairness: accuracy by speaker and group.
        risk: risk and coverage of abstention.
        dimensions: concordance of predicted dimensions.
        streaming: accuracy in a stream compared with that on clips.
    """

    conditions: ConditionsSection | None = None
    fairness: FairnessSection | None = None
    risk: RiskSection | None = None
    dimensions: DimensionsSection | None = None
    streaming: StreamingSection | None = None


def measure_sections(
    bundle: Bundle,
    part: TestPart,
    others: Sequence[Utterance],
    evaluations: Mapping[Precision, Evaluation],
    *,
    most: int = 0,
    recordings: TestRecordings | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Sections:
    """Measure all sections.

    Args:
        bundle: a verified bundle.
        part: what it may be tested on.
        others: all utterances of the corpus; babble is made of those of speakers other than the tested one.
        evaluations: decisions of each graph on the test part (`benchmarks.bench.accuracy.graphs.evaluate_bundle`).
        most: utterances under each condition and in the stream; 0 measures neither.
        recordings: of rooms, noise and music for further conditions.
        say: receives a line before each measurement.

    Raises:
        EdgeemoError: a graph or a recording cannot be used.
        MissingPartError: the voice activity detector cannot be loaded.
    """
    known = Sections(
        fairness=measure_fairness(evaluations, COLUMNS),
        risk=measure_risk(evaluations, bundle.manifest.threshold),
        dimensions=measure_dimensions(evaluations),
    )
    if most == 0:
        return known
    chosen = balanced_sample(part.utterances, most, seed=0)
    say(f"conditions: {len(chosen)} utterances under each")
    recordings = recordings or TestRecordings()
    conditions = measure_conditions(
        bundle,
        chosen,
        others,
        tuple(evaluations),
        conditions=conditions_with(recordings),
        recordings=recordings,
    )
    say(f"stream: {len(chosen)} utterances and {NO_SPEECH_SECONDS / 60:g} minutes without speech, for each graph")
    streaming = measure_streaming(bundle, chosen, evaluations, no_speech_seconds=NO_SPEECH_SECONDS)
    return known.model_copy(update={"conditions": conditions, "streaming": streaming})


def balanced_sample(utterances: Sequence[Utterance], most: int, seed: int) -> tuple[Utterance, ...]:
    """Return a sample of utterances in their order, drawn in turn from every speaker and emotion."""
    if len(utterances) <= most:
        return tuple(utterances)
    random = np.random.default_rng(seed)
    cells: dict[tuple[str, str], list[int]] = {}
    for number in random.permutation(len(utterances)):
        item = utterances[int(number)]
        cells.setdefault((item.speaker, item.emotion), []).append(int(number))
    # A round draws one utterance of each cell; in the last round the cells are drawn at random.
    order = [
        (place, turn, number)
        for members in cells.values()
        for turn, (place, number) in enumerate(zip(random.random(len(members)), members, strict=True))
    ]
    order.sort(key=lambda each: (each[1], each[0]))
    return tuple(utterances[number] for number in sorted(number for _, _, number in order[:most]))

"""Measure a bundle's graphs on labelled speech that it has not learnt from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distill.corpus import Corpus, Utterance
from distill.evaluation.evaluate import Evaluation
from distill.folds import FoldSpec, make_fold
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import CorpusEntry, Precision
from edge_runtime.clips import score_clips
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError


@dataclass(frozen=True)
class TestPart:
    """What a bundle may be tested on.

    Attributes:
        utterances: the utterances.
        folds: how they were held out, for the report.
        speaker_independent: no tested speaker was learnt from; None where that cannot be told.
    """

    __test__ = False  # no test case, whatever pytest makes of the name

    utterances: tuple[Utterance, ...]
    folds: str
    speaker_independent: bool | None


def on_this_processor(bundle: Bundle) -> tuple[Precision, ...]:
    """Return the graphs to measure here: TensorRT's forms are slow simulations, whose accuracy is in the bundle."""
    return tuple(precision for precision in bundle.precisions if precision not in ("int8-trt", "fp16"))


def held_out(bundle: Bundle, corpus: Corpus) -> TestPart:
    """Return what the bundle may be tested on: its own test part of a corpus that it learnt from, else everything.

    Raises:
        EdgeemoError: the bundle learnt from another state of this corpus, or has other labels.
    """
    learnt = bundle.manifest.corpora
    # By content first: a corpus that was moved or renamed is still the one that was learnt from.
    for entry in learnt:
        as_learnt = _as_learnt(corpus, entry)
        if as_learnt is not None and as_learnt.fingerprint() == entry.fingerprint:
            if entry.folds is None:
                raise EdgeemoError(
                    f"{corpus.root}: all of this corpus was learnt from, so nothing of it can be tested on; give the "
                    "corpus that the run cut into folds, or one that it does not know"
                )
            spec = FoldSpec(**entry.folds.model_dump(exclude={"index"}))
            index = entry.folds.index
            if entry.test_speakers is not None:
                # SegmenterOutput together with other corpora, which are not here.
                tested = tuple(item for item in as_learnt.utterances if item.speaker in entry.test_speakers)
                return TestPart(tested, spec.describe(index), not spec.speaker_mixed)
            return TestPart(make_fold(as_learnt, spec, index).test, spec.describe(index), not spec.speaker_mixed)
    _refuse_unknown_labels(bundle, corpus)
    if any(entry.name == corpus.facts.name for entry in learnt):
        raise EdgeemoError(
            f"{corpus.root}: is another state of the corpus '{corpus.facts.name}' that the bundle learnt from, so its "
            "test speakers cannot be told; give the state that the run was trained on"
        )
    return TestPart(corpus.utterances, "all of a corpus that is not among those learnt from", None)


def _as_learnt(corpus: Corpus, entry: CorpusEntry) -> Corpus | None:
    """Return the corpus with the labels that an entry was learnt with; None if it has too few of them."""
    try:
        return corpus.without(entry.left_out).labelled(entry.labels)
    except EdgeemoError:
        return None


def _refuse_unknown_labels(bundle: Bundle, corpus: Corpus) -> None:
    unknown = sorted(set(corpus.labels) - set(bundle.manifest.labels))
    if unknown:
        raise EdgeemoError(
            f"{corpus.root}: holds the label '{unknown[0]}', which the bundle does not know "
            f"(it knows {', '.join(bundle.manifest.labels)})"
        )


def evaluate_bundle(
    bundle: Bundle, part: TestPart, precisions: tuple[Precision, ...], tick: Callable[[], None] = lambda: None
) -> dict[Precision, Evaluation]:
    """Score the test part with every graph.

    Args:
        bundle: a verified bundle.
        part: what to test on.
        precisions: which graphs.
        tick: called after each graph.
    """
    manifest = bundle.manifest
    found: dict[Precision, Evaluation] = {}
    for precision in precisions:
        engine = OnnxEngine.of(bundle, precision)
        scores = score_clips(engine.score_windows, [item.path for item in part.utterances], manifest.window)
        found[precision] = Evaluation(part.utterances, manifest.labels, scores.probabilities(manifest.temperature))
        tick()
    return found

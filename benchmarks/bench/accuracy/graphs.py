"""Accuracy of a bundle's graphs on labelled speech that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

from distill.checks.identity import identified
from distill.checks.training_speech import TRAINING_SPEECH, recognised, sketches_of
from distill.corpus import Corpus, Utterance
from distill.evaluation.concordance import DimensionScores
from distill.evaluation.evaluate import Evaluation
from distill.folds import FoldSpec, make_fold
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import CorpusEntry, Precision
from edge_runtime.clips import score_clips
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import cache_directory


@dataclass(frozen=True)
class TestPart:
    """The utterances that a bundle is tested on.

    Attributes:
        utterances: the test part.
        folds: how it was held out, for the report.
        speaker_independent: whether the bundle was trained on none of its speakers; None where that is unknown.
    """

    __test__ = False  # pytest collects classes of this name otherwise

    utterances: tuple[Utterance, ...]
    folds: str
    speaker_independent: bool | None


def on_this_processor(bundle: Bundle) -> tuple[Precision, ...]:
    """Return the graphs to measure on a CPU; those for TensorRT are slow simulations, measured at export."""
    return tuple(precision for precision in bundle.precisions if precision not in ("int8-trt", "fp16"))


def held_out(bundle: Bundle, corpus: Corpus) -> TestPart:
    """Return the test part of a corpus: the bundle's own where it was trained on the corpus, otherwise all of it.

    Raises:
        EdgeemoError: the bundle was trained on another state of this corpus, on all of it or on copies of it, or has
            other labels.
    """
    found = trained_on(bundle, corpus)
    if found is not None:
        entry, as_trained = found
        # Folds by corpus test on others.
        if entry.folds is None or entry.test_speakers == ():
            raise EdgeemoError(
                f"{corpus.root}: the bundle was trained on all of this corpus, so none of it is held out; give the "
                "corpus that the run divided into folds, or one that it was not trained on"
            )
        spec = FoldSpec.recorded(entry.folds.model_dump(exclude={"index"}))
        index = entry.folds.index
        if entry.test_speakers is not None:
            # The folds were made over several corpora together.
            tested = tuple(item for item in as_trained.utterances if item.speaker in entry.test_speakers)
            return TestPart(tested, spec.describe(index), not spec.speaker_mixed)
        return TestPart(make_fold(as_trained, spec, index).test, spec.describe(index), not spec.speaker_mixed)
    _refuse_unknown_labels(bundle, corpus)
    if any(entry.name == corpus.facts.name for entry in bundle.manifest.corpora):
        raise EdgeemoError(
            f"{corpus.root}: is another state of the corpus '{corpus.facts.name}' that the bundle was trained on, so "
            "its test speakers are unknown; give the state that the run was trained on"
        )
    if any(entry.name == TRAINING_SPEECH for entry in bundle.manifest.files):
        _refuse_training_speech(bundle, corpus)
        held = "all of a corpus that the bundle was not trained on"
    else:
        held = f"all of the corpus; the bundle has no {TRAINING_SPEECH}, so copies of its training speech are not found"
    return TestPart(corpus.utterances, held, None)


def trained_on(bundle: Bundle, corpus: Corpus) -> tuple[CorpusEntry, Corpus] | None:
    """Return the entry of a corpus that a bundle was trained on, and the corpus as it was used; None if it was not.

    By content: the corpus may have been moved or renamed since.
    """
    corpus = identified(corpus, cache_directory())
    for entry in bundle.manifest.corpora:
        as_trained = _as_trained(corpus, entry)
        if as_trained is not None and as_trained.is_state(entry.fingerprint):
            return entry, as_trained
    return None


def _as_trained(corpus: Corpus, entry: CorpusEntry) -> Corpus | None:
    """Return the corpus with the labels of an entry; None if it has too few of them."""
    try:
        return corpus.without(entry.left_out).labelled(entry.labels)
    except EdgeemoError:
        return None


def _refuse_unknown_labels(bundle: Bundle, corpus: Corpus) -> None:
    unknown = sorted(set(corpus.labels) - set(bundle.manifest.labels))
    if unknown:
        raise EdgeemoError(
            f"{corpus.root}: has the label '{unknown[0]}', which the bundle does not have "
            f"(it has {', '.join(bundle.manifest.labels)})"
        )


def _refuse_training_speech(bundle: Bundle, corpus: Corpus) -> None:
    file = bundle.root / TRAINING_SPEECH
    sketches = sketches_of([item.path for item in corpus.utterances], cache_directory())
    count = recognised(file.read_bytes(), sketches)
    if count:
        raise EdgeemoError(
            f"{corpus.root}: at least {count} of its {len(corpus.utterances)} utterances are speech that the bundle "
            "was trained on, under other names, so figures would be too high; give the corpus as the run was trained "
            "on it, or another one"
        )


def evaluate_bundle(bundle: Bundle, part: TestPart, precisions: tuple[Precision, ...]) -> dict[Precision, Evaluation]:
    """Score the test part with every graph."""
    manifest = bundle.manifest
    found: dict[Precision, Evaluation] = {}
    for precision in precisions:
        engine = OnnxEngine.of(bundle, precision)
        scores = score_clips(engine.outputs, [item.path for item in part.utterances], manifest.window)
        dimensions = None
        if bundle.dimensions:
            dimensions = DimensionScores.of(part.utterances, bundle.dimensions, scores.clip_dimensions())
        probabilities = scores.probabilities(manifest.temperature)
        found[precision] = Evaluation(part.utterances, manifest.labels, probabilities, dimensions=dimensions)
    return found

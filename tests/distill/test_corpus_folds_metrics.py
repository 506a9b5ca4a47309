"""Corpora, folds, metrics and calibration: the honest part, without torch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.corpora import read_corpus
from distill.corpora.pooled import pool_corpora
from distill.corpus import Corpus, CorpusFacts, Utterance
from distill.evaluation.calibration import abstention_threshold, fit_temperature
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import (
    Accuracy,
    calibration_error,
    mean_difference,
    measure,
    resample,
    unweighted_accuracy,
)
from distill.folds import FoldSpec, cut, make_fold
from distill.load_recipe import load_recipe
from distill.rendered.espeak import Synthesiser
from distill.rendered.render import render_corpus
from distill.rendered.sentences import VOCABULARY, sentences
from edge_runtime.decision import decision_on, softmax
from edge_runtime.errors import EdgeemoError
from tests.conftest import SHARED, absent


class TestRenderedCorpus:
    def test_what_it_holds(self, corpus_dir):
        corpus = read_corpus(corpus_dir)
        assert (corpus.labels, len(corpus.speakers)) == (("angry", "happy", "neutral", "sad"), 6)
        assert corpus.facts.kind == "rendered"
        assert "no evidence of accuracy on people" in corpus.facts.note
        assert all(item.transcript for item in corpus.utterances)

    def test_the_whole_script(self):
        from distill.rendered.render import SPEAKERS, script

        assert len(SPEAKERS) >= 8
        assert len({sentence.text for sentence in sentences()}) == len(sentences()) >= 60
        lines = [line for speaker in range(len(SPEAKERS)) for line in script(speaker)]
        for line in lines:
            (word,) = [w for words in VOCABULARY.values() for w in words if f" {w} " in line.sentence.text]
            assert word in VOCABULARY[line.sentence.emotion]
            if line.carrier in ("words", "both"):
                assert line.emotion == line.sentence.emotion
            if line.carrier in ("prosody", "both"):
                assert line.emotion == line.prosody
        counts = np.array([sum(line.emotion == label for line in lines) for label in VOCABULARY])
        assert counts.min() > 0.7 * counts.max()

    def test_same_seed_same_samples(self, tmp_path):
        for name, seed, workers in (("a", 5, 1), ("b", 5, 2), ("c", 6, 2)):
            render_corpus(tmp_path / name, seed=seed, speakers=2, share=40, workers=workers)
        files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.flac"))
        assert files
        same = [(tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files]
        other = [(tmp_path / "a" / f).read_bytes() == (tmp_path / "c" / f).read_bytes() for f in files]
        assert all(same)
        assert not any(other)

    @pytest.mark.parametrize("voice", ["no-such-voice", "en-us+no-such-variant"])
    def test_unknown_voice(self, voice):
        with pytest.raises(EdgeemoError, match="does not know"):
            Synthesiser(voice)


class TestFolds:
    def test_each_speaker_is_tested_once_by_the_published_rule(self, corpus_dir):
        assert cut(["d", "b", "c", "a", "e"], 2) == {"a": 0, "b": 1, "c": 0, "d": 1, "e": 0}
        corpus = read_corpus(corpus_dir)
        tested = [item.name for k in range(3) for item in make_fold(corpus, FoldSpec(count=3), k).test]
        assert sorted(tested) == sorted(item.name for item in corpus.utterances)

    @pytest.mark.parametrize("index", [0, 1, 2])
    def test_neither_speakers_nor_sentences_are_shared(self, corpus_dir, index):
        fold = make_fold(read_corpus(corpus_dir), FoldSpec(count=3, hold_out="sentence"), index)
        parts = (fold.train, fold.validation, fold.test)
        for column in ("speaker", "sentence", "transcript"):
            values = [{item.column(column) for item in part} for part in parts]
            assert len(set.union(*values)) == sum(map(len, values))

    @pytest.mark.parametrize("index", range(5))
    def test_words_of_the_demos_test_part_are_learnt_from_other_sentences(self, index):
        from distill.rendered.render import SPEAKERS, script

        utterances = []
        for number, name in enumerate(SPEAKERS):
            for line in script(number):
                sentence = line.sentence
                given = (Path(line.name), line.name, name, line.emotion, "en", sentence.text, 2.0)
                utterances.append(Utterance(*given, extra={"sentence": sentence.name}))
        corpus = Corpus(Path(), CorpusFacts(name="rendered"), tuple(utterances))
        fold = make_fold(corpus, load_recipe("demo").folds, index)
        words = {word for words in VOCABULARY.values() for word in words}
        for part in (fold.validation, fold.test):
            assert words == {word for item in part for word in item.transcript.split()} & words
        assert words <= {word for item in fold.train for word in item.transcript.split()}

    @pytest.mark.parametrize(
        ("spec", "index", "message"),
        [
            (FoldSpec(count=3), 3, "fold 3 does not exist"),
            (FoldSpec(count=7), 0, "fewer than the 7 folds"),
            (FoldSpec(count=3, hold_out="shoe"), 0, "no column 'shoe'"),
        ],
    )
    def test_refused(self, corpus_dir, spec, index, message):
        with pytest.raises(EdgeemoError, match=message):
            make_fold(read_corpus(corpus_dir), spec, index)


def small_corpus(rows):
    """Return a corpus of ``speaker, emotion, session`` rows; nothing is on disk."""
    utterances = tuple(
        Utterance(Path(f"{number}.wav"), f"{number}.wav", speaker, emotion, extra={"session": session})
        for number, (speaker, emotion, session) in enumerate(rows)
    )
    return Corpus(Path("small"), CorpusFacts(name="small"), utterances)


def named(name, rows):
    corpus = small_corpus(rows)
    return replace(corpus, facts=CorpusFacts(name=name))


PAIRS = [(f"s{number}", emotion, f"session{number // 2}") for number in range(10) for emotion in ("a", "b", "b")]


class TestOtherFolds:
    def test_leave_one_speaker_out(self):
        corpus, spec = small_corpus(PAIRS), FoldSpec(count="all")
        assert spec.fold_count(corpus) == 10
        folds = [make_fold(corpus, spec, index) for index in range(10)]
        assert [{item.speaker for item in fold.test} for fold in folds] == [{f"s{index}"} for index in range(10)]
        assert {item.speaker for item in folds[9].validation} == {"s0"}
        assert all(len({item.speaker for item in fold.train}) == 8 and not fold.notes for fold in folds)
        with pytest.raises(EdgeemoError, match="cuts 10 folds, 0 to 9"):
            make_fold(corpus, spec, 10)
        assert spec.describe(3) == "fold 3, leave-one-speaker-out, speakers held out"

    def test_by_session_and_with_several_parts_for_validation(self):
        corpus, spec = small_corpus(PAIRS), FoldSpec(by="session", count="all")
        fold = make_fold(corpus, spec, 0)
        assert {item.speaker for item in fold.test} == {"s0", "s1"}
        assert {item.speaker for item in fold.validation} == {"s2", "s3"}
        assert spec.describe(0) == "fold 0, leave-one-session-out, sessions held out"
        assert FoldSpec(by="session", hold_out="sentence").describe(1) == "fold 1 of 5, sessions and sentences held out"
        fold = make_fold(small_corpus(PAIRS), FoldSpec(count=5, validation=2), 4)
        assert {item.speaker for item in fold.test} == {"s4", "s9"}
        assert {item.speaker for item in fold.validation} == {"s0", "s1", "s5", "s6"}
        assert {item.speaker for item in fold.train} == {"s2", "s3", "s7", "s8"}
        assert "2 parts for validation" in FoldSpec(count=5, validation=2).describe(4)
        with pytest.raises(EdgeemoError, match="has 2 sessions, fewer than the 3 parts that are needed"):
            make_fold(small_corpus(PAIRS[:12]), FoldSpec(by="session", count="all"), 0)

    def test_by_corpus_each_fold_tests_one(self):
        pooled = pool_corpora(
            [named(name, rows) for name, rows in zip("wxyz", (PAIRS, PAIRS[:12], PAIRS, PAIRS), strict=True)]
        )
        spec = FoldSpec(by="corpus", count="all")
        assert spec.fold_count(pooled) == 4
        tested = []
        for index in range(4):
            fold = make_fold(pooled, spec, index)
            parts = [{item.column("corpus") for item in part} for part in (fold.test, fold.validation, fold.train)]
            assert parts == [{"wxyz"[index]}, {"wxyz"[(index + 1) % 4]}, set("wxyz") - parts[0] - parts[1]]
            assert len(fold.everything) == len(pooled.utterances)
            tested += [item.name for item in fold.test]
        assert sorted(tested) == sorted(item.name for item in pooled.utterances)
        assert spec.describe(2) == "fold 2, leave-one-corpus-out, corpora held out"
        assert (spec.held_out, FoldSpec().held_out) == ("corpora", "speakers")
        assert FoldSpec(hold_out="sentence").held_out == "speakers and sentences"
        two = pool_corpora([named(name, PAIRS) for name in "wx"])
        with pytest.raises(EdgeemoError, match="has 2 corpora, fewer than the 3 parts that are needed"):
            make_fold(two, spec, 0)

    def test_by_corpus_needs_several(self):
        spec = FoldSpec(by="corpus", count="all")
        with pytest.raises(EdgeemoError, match=r"is a single corpus.*three or more, each by --corpus.*\"speaker\""):
            make_fold(small_corpus(PAIRS), spec, 0)

    @pytest.mark.parametrize("by", ["utterance", "session"])
    def test_speakers_in_two_parts_must_be_asked_for(self, by):
        # Each speaker is in every session.
        corpus = small_corpus([(f"s{n % 4}", "ab"[n % 2], f"session{n // 8}") for n in range(40)])
        with pytest.raises(EdgeemoError, match=r"speaker 's0' falls into two parts.*speaker_mixed = true"):
            make_fold(corpus, FoldSpec(by=by), 0)
        spec = FoldSpec(by=by, speaker_mixed=True)
        fold = make_fold(corpus, spec, 0)
        assert {item.speaker for item in fold.test} & {item.speaker for item in fold.train}
        assert "SPEAKER-MIXED" in spec.describe(0)
        assert "Speaker-mixed folds" in fold.notes[0]
        tested = sorted(item.name for k in range(5) for item in make_fold(corpus, spec, k).test)
        assert tested == sorted(item.name for item in corpus.utterances)

    def test_a_label_that_one_part_lacks(self):
        rows = [row for row in PAIRS if row[:2] != ("s3", "a")]
        fold = make_fold(small_corpus(rows), FoldSpec(count="all"), 3)
        assert fold.notes == ("The test part holds no a: no recall there, and UA is the mean over the others.",)
        assert make_fold(small_corpus(rows), FoldSpec(count="all"), 2).notes[0].startswith("The validation part")
        assert make_fold(small_corpus(rows), FoldSpec(count="all"), 5).notes == ()
        only = [row for row in PAIRS if row[1] == "b" or row[0] == "s3"]
        with pytest.raises(EdgeemoError, match="only the speaker 's3' shows the emotion 'a'"):
            make_fold(small_corpus(only), FoldSpec(), 3)
        two = [row for row in PAIRS if row[1] == "b" or row[0] in ("s3", "s4")]
        with pytest.raises(EdgeemoError, match="the train part of fold 3 holds no 'a'"):
            make_fold(small_corpus(two), FoldSpec(), 3)
        assert "The test part holds no a" in make_fold(small_corpus(two), FoldSpec(), 0).notes[1]

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"count": 2}, "3 or more, or 'all'"),
            ({"count": 3, "validation": 2}, "a part is left to train on"),
            ({"count": "each"}, "count"),
            ({"validation": 0}, "validation"),
        ],
    )
    def test_impossible(self, values, message):
        with pytest.raises(ValueError, match=message):
            FoldSpec(**values)

    def test_real_speakers_who_do_not_show_every_emotion(self):
        root = SHARED / "data" / "emodb"
        if not root.is_dir():
            absent("the corpus emodb")
        corpus, spec = read_corpus(root), FoldSpec(count="all")
        folds = [make_fold(corpus, spec, index) for index in range(spec.fold_count(corpus))]
        assert len(folds) == 10
        assert sum(any("The test part holds no" in note for note in fold.notes) for fold in folds) == 1


TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2])
DECIDED = np.array([0, 0, 0, 1, 1, 1, 2, 0])
SPEAKERS = list("aabbabab")


class TestMetrics:
    def test_by_hand(self):
        probabilities = np.eye(3)[DECIDED] * 0.7 + 0.1
        accuracy = measure(probabilities, TRUTH, SPEAKERS, ["x", "y", "z"])
        assert accuracy.ua == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
        assert accuracy.wa == pytest.approx(6 / 8)
        assert accuracy.recall == pytest.approx({"x": 0.75, "y": 1.0, "z": 0.5})
        assert accuracy.confusion == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
        assert accuracy.ece == pytest.approx(0.8 - 0.75)
        of_more = measure(probabilities, TRUTH, list("aabbcabc"), ["x", "y", "z"])
        assert of_more.ua_low <= accuracy.ua <= of_more.ua_high

    def test_a_class_that_does_not_occur(self):
        """Of x, y, z only x and y are there; z is decided once, wrongly."""
        truth, decided = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
        accuracy = measure(np.eye(3)[decided], truth, list("abca"), ["x", "y", "z"])
        assert accuracy.recall == {"x": 0.5, "y": 1.0, "z": None}
        assert accuracy.recall_intervals["z"] is None
        assert (accuracy.ua, accuracy.macro_f1) == (pytest.approx(0.75), pytest.approx((2 / 3 + 1) / 2))
        assert accuracy.confusion[2] == [0, 0, 0]
        assert accuracy.ua_low <= 0.75 <= accuracy.ua_high
        assert Accuracy.model_validate_json(accuracy.model_dump_json()) == accuracy

    def test_interval_resamples_speakers_not_utterances(self):
        """One speaker all right, one all wrong: only whole speakers give 0 and 1 as ends."""
        truth = np.array([0, 1] * 50)
        decided = np.where(np.arange(100) < 50, truth, 1 - truth)
        assert Interval.of(resample(truth, decided, ["a"] * 50 + ["b"] * 50).ua) == Interval(low=0, high=1)

    def test_interval_covers_the_truth(self):
        """Of 200 draws of 30 speakers who are right at differing rates, about 95 % of intervals hold the mean."""
        random = np.random.default_rng(0)
        hits = 0
        for _ in range(200):
            rates = random.beta(8, 4, size=30)
            right = random.random((30, 20)) < rates[:, None]
            truth = np.tile([0, 1], 300)
            decided = np.where(right.ravel(), truth, 1 - truth)
            speakers = list(np.repeat(np.arange(30), 20).astype(str))
            interval = Interval.of(resample(truth, decided, speakers, draws=300).ua)
            hits += interval.low <= 8 / 12 <= interval.high
        assert 0.88 <= hits / 200 <= 0.99

    def test_paired_difference_and_calibration_error(self):
        speakers = list("aabbcabc")
        same = mean_difference(TRUTH, [DECIDED], [DECIDED], speakers)
        assert (same.ua, same.ua_interval) == (0, Interval(low=0, high=0))
        found = mean_difference(TRUTH, [DECIDED], [TRUTH], speakers)
        assert found.ua == pytest.approx(1 - unweighted_accuracy(TRUTH, DECIDED))
        assert found.ua_interval.low <= found.ua <= found.ua_interval.high
        random = np.random.default_rng(0)
        truth = (random.random(20_000) < 0.3).astype(int)
        assert calibration_error(np.tile([0.7, 0.3], (20_000, 1)), truth) < 0.01

    def test_by_column(self, corpus_dir):
        items = read_corpus(corpus_dir).utterances
        labels = ("angry", "happy", "neutral", "sad")
        always_neutral = Evaluation(items, labels, np.tile([0, 0, 1.0, 0], (len(items), 1)))
        assert always_neutral.by_column()["carrier"] == {"both": 0, "none": 1, "prosody": 0, "words": 0}
        first, *rest = items
        pooled = (replace(first, extra={"carrier": "words", "intensity": "high"}), *rest)
        mixed = Evaluation(pooled, labels, always_neutral.probabilities).by_column()
        assert ("carrier" in mixed, "intensity" in mixed, "sentence" in mixed) == (True, False, False)


class TestCalibration:
    @pytest.mark.parametrize("wanted", [0.3, 1.0, 4.0])
    def test_temperature_is_found_again(self, wanted):
        random = np.random.default_rng(0)
        logits = random.normal(size=(20_000, 4)) * 2
        cumulative = softmax(logits).cumsum(axis=1)
        truth = (random.random((20_000, 1)) > cumulative).sum(axis=1)
        assert fit_temperature(logits * wanted, truth) == pytest.approx(wanted, rel=0.05)

    def test_a_weight_of_two_is_being_there_twice(self):
        random = np.random.default_rng(1)
        logits, truth = random.normal(size=(300, 3)), random.integers(0, 3, 300)
        truth[:200] = logits[:200].argmax(axis=1)
        weights = np.where(np.arange(300) % 3, 1.0, 2.0)
        twice = np.repeat(np.arange(300), weights.astype(int))
        found = fit_temperature(logits, truth, weights)
        assert found == pytest.approx(fit_temperature(logits[twice], truth[twice]), rel=1e-3)
        assert found != pytest.approx(fit_temperature(logits, truth), rel=1e-3)

    def test_threshold_lets_the_coverage_stand(self):
        confidence = np.linspace(0.3, 1.0, 1001)
        threshold = abstention_threshold(confidence, 0.9)
        assert (confidence >= threshold).mean() == pytest.approx(0.9, abs=0.002)


class TestDecision:
    def test_mean_of_probabilities_not_of_logits_and_uncertain(self):
        logits = np.array([[10.0, 0.0], [0.0, 1.0]])
        decision = decision_on(softmax(logits).mean(axis=0), ("a", "b"), 0.5)
        wanted = (1 / (1 + np.exp(-10)) + 1 / (1 + np.exp(1))) / 2
        assert decision.label == "a"
        assert decision.confidence == pytest.approx(wanted)
        assert not decision.uncertain
        probabilities = softmax(np.array([1.0, 0.9]))
        assert decision_on(probabilities, ("a", "b"), 0.6).uncertain
        assert not decision_on(probabilities, ("a", "b"), 0.5).uncertain
        assert decision_on(probabilities, ("a", "b"), 0.5, enough_speech=False).uncertain

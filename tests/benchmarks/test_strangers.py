"""Figures on corpora that a bundle was not trained on."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from benchmarks.bench.accuracy.graphs import held_out
from benchmarks.bench.results import Results
from benchmarks.lab import adaptation, robustness, strangers, teaching
from benchmarks.lab.results_schema import PATH, results_schema
from benchmarks.lab.strangers import LABELLED, MEAN, UNLABELLED, Figures, Stage, figures, make_rows, unseen
from benchmarks.lab.views import unseen_tables
from distill.corpora.read import read_corpus
from distill.evaluation.evaluate import Evaluation
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import CorpusEntry, FoldEntry
from edge_runtime.errors import EdgeemoError, WrongUseError
from tests.conftest import need

LABELS = ("angry", "happy", "neutral", "sad")
OTHER_NAMES = {"angry": "anger", "happy": "joy", "neutral": "neutral", "sad": "sadness"}


def part_of(source, folder, speakers, names):
    """Write a corpus of some speakers of another one, whose labels get other names; without a name, they stay out."""
    folder.mkdir(parents=True)
    with (source / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["speaker"] in speakers and row["emotion"] in names]
    found: dict[tuple[str, str], int] = {}
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["file", "speaker", "emotion", "take"])
        writer.writeheader()
        for row in rows:
            which = row["speaker"], row["emotion"]
            found[which] = found.get(which, 0) + 1
            if found[which] > 2:
                continue
            name = row["file"].replace("/", "-")
            (folder / name).symlink_to(source / row["file"])
            writer.writerow({"file": name, "speaker": row["speaker"], "emotion": names[row["emotion"]],
                             "take": found[which]})  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def places(corpus_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    same = dict(zip(LABELS, LABELS, strict=True))
    with (corpus_dir / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        speakers = sorted({row["speaker"] for row in csv.DictReader(stream)})
    return {
        "one": part_of(corpus_dir, root / "one", speakers[:2], same),
        "two": part_of(corpus_dir, root / "two", speakers[2:4], same),
        "other": part_of(corpus_dir, root / "other", speakers[4:], OTHER_NAMES),
    }


def entry(place, name, by, tested):
    corpus = read_corpus(place, name=name)
    return CorpusEntry(
        name=name,
        kind="rendered",
        licence="",
        note="",
        fingerprint=corpus.fingerprint(),
        utterances=len(corpus.utterances),
        speakers=2,
        hours=0.1,
        folds=FoldEntry(count=3, index=0, by=by) if by else None,
        test_speakers=tested,
    )


@pytest.fixture(scope="module")
def bundles(places, tmp_path_factory):
    """Of two folds by corpus: one tests on the first corpus, the other on the second."""
    need("torch", "transformers", "onnx", "onnxscript")
    from tests.small_bundles import save_bundle

    root = tmp_path_factory.mktemp("bundles")
    found = {}
    for tested in ("one", "two"):
        who = {name: read_corpus(places[name]).speakers if name == tested else () for name in ("one", "two")}
        entries = tuple(entry(places[name], name, "corpus", who[name]) for name in ("one", "two"))
        found[tested] = save_bundle(root / tested, speaker=True, corpora=entries)
    return found


def named(places, name, other=None):
    return read_corpus(places[name], name=other or name)


class TestUnseen:
    def test_the_corpus_that_a_fold_left_out(self, bundles, places):
        bundle = load_bundle(bundles["one"])
        assert len(unseen(bundle, named(places, "one"))) == len(named(places, "one").utterances) > 8
        assert unseen(bundle, named(places, "two")) == []
        with pytest.raises(EdgeemoError, match="was trained on all of this corpus"):
            held_out(bundle, named(places, "two"))

    def test_by_content_whatever_it_is_called(self, bundles, places):
        bundle = load_bundle(bundles["one"])
        assert unseen(bundle, named(places, "two", "renamed")) == []
        assert unseen(bundle, named(places, "one", "renamed"))
        # Another state of a corpus that it was trained on.
        assert unseen(bundle, named(places, "other", "two")) == []

    def test_another_corpus_has_the_labels_of_the_bundle(self, bundles, places):
        items = unseen(load_bundle(bundles["one"]), named(places, "other"))
        assert {item.emotion for item in items} == set(LABELS)
        assert len(items) == len(named(places, "other").utterances)

    @pytest.mark.parametrize(("by", "tested"), [("speaker", ("r03",)), (None, None)])
    def test_folds_by_speaker_leave_no_corpus_out(self, bundles, places, by, tested):
        bundle = load_bundle(bundles["one"])
        changed = bundle.manifest.model_copy(update={"corpora": (entry(places["two"], "two", by, tested),)})
        object.__setattr__(bundle, "manifest", changed)
        assert unseen(bundle, named(places, "two")) == []


def evaluation(probabilities, truth, speakers):
    from distill.corpus import Utterance

    items = [
        Utterance(None, f"{n}", who, LABELS[label]) for n, (who, label) in enumerate(zip(speakers, truth, strict=True))
    ]
    return Evaluation(items, LABELS, np.asarray(probabilities))


class TestFigures:
    def test_of_known_decisions(self):
        rows = np.full((8, 4), 0.1)
        # Right and sure four times, right and unsure once, wrong and sure once, wrong and unsure once, and no event.
        truth = [0, 0, 1, 1, 2, 3, 3, 2]
        for row, (label, confidence) in enumerate(
            [(0, 0.7), (0, 0.7), (1, 0.7), (1, 0.7), (2, 0.4), (0, 0.7), (0, 0.4)]
        ):
            rows[row] = (1 - confidence) / 3
            rows[row, label] = confidence
        rows[7] = np.nan
        found = figures([evaluation(rows, truth, "aabbccdd")], threshold=0.5)
        assert found.ua == pytest.approx(3 / 4)
        assert found.confident_errors == pytest.approx(1 / 7)
        assert found.errors_flagged == pytest.approx(1 / 2)
        assert found.correct_flagged == pytest.approx(1 / 5)
        assert found.decided == pytest.approx(7 / 8)
        brier = [0.3**2 + 3 * 0.1**2] * 4 + [
            0.6**2 + 3 * 0.2**2,
            0.9**2 + 0.7**2 + 2 * 0.1**2,
            0.8**2 + 0.4**2 + 2 * 0.2**2,
        ]
        assert found.brier == pytest.approx(np.mean(brier))
        assert found.draws.min() <= found.ua <= found.draws.max()
        twice = figures([evaluation(rows, truth, "aabbccdd")] * 2, threshold=0.5)
        assert twice.ua == found.ua
        assert np.array_equal(twice.draws, found.draws)

    def test_where_all_are_right(self):
        found = figures([evaluation(np.eye(4) * 0.8 + 0.05, range(4), "aabb")], threshold=0.5)
        assert (found.ua, found.confident_errors, found.errors_flagged, found.correct_flagged) == (1.0, 0.0, 1.0, 0.0)

    def test_the_mean_over_corpora_has_a_row_a_stage(self):
        def made(ua):
            return Figures(
                ua,
                np.array([ua - 0.1, ua + 0.1]),
                8,
                0.1,
                np.full(15, ua / 100),
                0.2,
                0.3,
                0.4,
                0.5,
                1.0,
                np.linspace(0, 1, 5),
            )

        stages = (Stage(0), Stage(20), Stage(order="random"))
        found = {name: {stage: made(ua) for stage in stages} for name, ua in (("one", 0.4), ("two", 0.6))}
        rows = make_rows(found, {"classes": 4})
        assert [row.corpus for row in rows] == ["one"] * 3 + ["two"] * 3 + [MEAN] * 3
        means = rows[6:]
        assert [row.reference_utterances for row in means] == [0, 20, None]
        assert all((row.ua, row.ua_low, row.ua_high) == pytest.approx((0.5, 0.405, 0.595)) for row in means)
        assert {row.held_out for row in rows} == {"corpus"}
        assert means[0].figures["ece_together"] == pytest.approx(15 * 0.005)
        assert "ece_together" not in rows[0].figures

    def test_a_corpus_of_two_speakers_leaves_the_mean_without_an_interval(self):
        found = {
            name: {Stage(0): figures([evaluation(np.eye(4), range(4), who)], 0.5)}
            for name, who in (("one", "abcd"), ("two", "aabb"))
        }
        rows = make_rows(found, {})
        assert [row.ua_low is None for row in rows] == [False, True, True]


def test_the_schema_of_results_is_that_of_its_model():
    assert PATH.read_text() == results_schema()


@pytest.mark.slow
def test_bundles_are_tested_on_what_they_have_not_seen(bundles, places, tmp_path, monkeypatch):
    monkeypatch.setattr(strangers, "RESULTS", tmp_path)
    corpora = [f"--corpus={name}={place}" for name, place in places.items()]
    strangers.main(
        ["strangers", *map(str, bundles.values()), *corpora, "--apart", "take", "--repeats", "1"], standalone_mode=False
    )
    results = Results.model_validate_json((tmp_path / "strangers.json").read_text())
    stages = 1 + len(UNLABELLED) + len(LABELLED) + 3
    assert [row.corpus for row in results.rows[::stages]] == ["one", "other", "two", MEAN]
    assert len(results.rows) == 4 * stages
    for row in results.rows:
        assert (row.held_out, row.speaker_independent, row.precision) == ("corpus", True, "int8-cpu")
        assert row.ua_low is None or row.ua_low <= row.ua <= row.ua_high
    keys = [(row.reference_utterances, row.labelled_per_class, row.order) for row in results.rows[:stages]]
    assert keys[:6] == [(0, None, None), (5, None, None), (20, None, None), (0, 1, None), (0, 2, None), (0, 5, None)]
    assert [order for *_, order in keys[6:]] == ["random", "random, first 10", "sorted"]
    first, mean = results.rows[0], results.rows[3 * stages]
    assert mean.ua == pytest.approx(np.mean([row.ua for row in results.rows[::stages][:3]]), abs=1e-4)
    assert first.figures["decided"] == 1.0
    assert json.loads(PATH.read_text())["title"].startswith("Results of edgeemo")


def test_bundles_that_cannot_be_tested(bundles, places, untrained_bundle):
    with pytest.raises(WrongUseError, match="has no speaker model"):
        strangers.main(["x", str(untrained_bundle), f"--corpus=one={places['one']}"], standalone_mode=False)
    with pytest.raises(WrongUseError, match="were trained on all of these corpora"):
        strangers.main(["x", str(bundles["one"]), f"--corpus=two={places['two']}"], standalone_mode=False)


@pytest.mark.slow
def test_rules_clips_and_conditions_on_what_bundles_have_not_seen(bundles, places, tmp_path, monkeypatch):
    for program in (adaptation, teaching, robustness):
        monkeypatch.setattr(program, "RESULTS", tmp_path)
    given = [str(bundles["one"]), str(bundles["two"]), *(f"--corpus={name}={place}" for name, place in places.items())]
    for program, name, more in (
        (adaptation, "rules", []),
        (teaching, "clips", ["--repeats=1"]),
        (robustness, "sound", ["--most=4"]),
    ):
        program.main([name, *given, *more], standalone_mode=False)
    rules = Results.read(tmp_path / "rules.json").rows
    assert {row.system for row in rules} >= {"plain mean", "speaker model"}
    assert {row.corpus for row in rules} == {*places, MEAN}
    clips = Results.read(tmp_path / "clips.json").rows
    assert {row.labelled_per_class for row in clips if not row.system.startswith("new")} == set(LABELLED)
    sound = Results.read(tmp_path / "sound.json").rows
    clean = [row for row in sound if row.condition == "clean"]
    assert {row.corpus for row in clean} == {*places, MEAN}
    assert all(row.figures is None for row in clean)
    for table, name in (
        (unseen_tables.adaptation, "rules"),
        (unseen_tables.taught, "clips"),
        (unseen_tables.conditions, "sound"),
    ):
        assert "mean UA" in table(Results.read(tmp_path / f"{name}.json"))

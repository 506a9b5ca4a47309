"""Students and other systems: timing, accuracy, the table and the plot."""

import os
import re

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from benchmarks.bench.compare.compare_runs import Tested
from benchmarks.bench.device.latency import Latency
from benchmarks.bench.results import Results, Row, new_results
from benchmarks.lab.light_sernet.network import LightSerNet, count_macs, mfcc, parameter_count, write_onnx
from benchmarks.lab.light_sernet.training import NETWORK
from benchmarks.lab.peer_accuracy import PeerAccuracy, read_accuracy
from benchmarks.lab.peer_systems import Peer, bundle_peers, light_sernet, probe, pytorch_student
from benchmarks.lab.peers import main, make_rows, on_one_core, time_peers, yardstick_of
from benchmarks.lab.plots import pareto_front, peers_plot
from benchmarks.lab.tables import VIEWS
from distill.corpora import read_corpus
from distill.corpora.argument import NamedPath
from distill.corpus import Corpus, CorpusFacts, Utterance
from distill.evaluation.metrics import mean_difference
from distill.evaluation.predictions import Predictions
from distill.folds import FoldSpec
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.windows import WindowPolicy
from tests.conftest import need, tone
from tests.small_bundles import save_bundle

LABELS = ("angry", "calm")
COUNT = 24
SPEC = FoldSpec(count=3)
FIVE_SECONDS = WindowPolicy(seconds=5.0, hop_seconds=0.5, minimum_seconds=0.5, segment_seconds=6.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers") / "bundle"
    return load_bundle(save_bundle(folder, policy=FIVE_SECONDS, macs={"log_mel": 5_000_000, "branches and head": 1000}))


@pytest.fixture(scope="module")
def network_folds(tmp_path_factory):
    folds = tmp_path_factory.mktemp("light-sernet")
    write_onnx(LightSerNet(4), folds / "fold-1" / NETWORK)
    return folds


@pytest.fixture
def corpus(tmp_path):
    items = tuple(
        Utterance(path=tmp_path / f"{n}.wav", name=f"{n:02}.wav", speaker=f"s{n % 6}", emotion=LABELS[n // 6 % 2])
        for n in range(COUNT)
    )
    return Corpus(root=tmp_path, facts=CorpusFacts(name="people"), utterances=items)


def decided_by(corpus, system, wrong):
    """Return a system that decides so many of the last utterances wrongly."""
    truth = [LABELS.index(item.emotion) for item in corpus.utterances]
    decided = [1 - each if n >= COUNT - wrong else each for n, each in enumerate(truth)]
    predictions = Predictions(
        names=tuple(item.name for item in corpus.utterances),
        speakers=tuple(item.speaker for item in corpus.utterances),
        emotions=tuple(item.emotion for item in corpus.utterances),
        labels=LABELS,
        probabilities=np.eye(2)[decided] * 0.8 + 0.1,
    )
    return Tested(corpus.root / system, system, "people", "fingerprint", SPEC, (0, 1, 2), predictions)


def latency(median):
    draw = np.random.default_rng(0)
    return Latency(tuple(median * (1 + 0.05 * draw.random(70))), 5, 3.0)


def some_peers():
    return [
        Peer("student", "fp32", len, note="ONNX Runtime"),
        Peer("student", "int8-cpu", len, 7_000_000, 10**9, 9 * 10**6, "ONNX Runtime"),
        Peer("student-pytorch", "fp32", len, note="PyTorch"),
        Peer("light-sernet", "fp32", len, 461_928, note="ours", parts={"light-sernet mfcc": len}),
        Peer("hubert-base", "fp32", len, note="latency only"),
    ]


MEDIANS = {
    "student fp32": 20.0,
    "student int8-cpu": 10.0,
    "student-pytorch fp32": 40.0,
    "light-sernet fp32": 4.0,
    "light-sernet mfcc": 1.0,
    "hubert-base fp32": 480.0,
}


@pytest.fixture
def rows(corpus):
    wrong = {"student": 2, "light-sernet": 9}
    known = PeerAccuracy({name: decided_by(corpus, name, count) for name, count in wrong.items()})
    peers = some_peers()
    latencies = {name: latency(median) for name, median in MEDIANS.items()}
    made = make_rows(peers, latencies, known, corpus, yardstick_of(peers))
    return {row.system + (row.precision or ""): row for row in made}


class TestTiming:
    def test_one_core_and_then_all_of_them_again(self):
        before = os.sched_getaffinity(0)
        with on_one_core() as core:
            assert os.sched_getaffinity(0) == {core}
        assert os.sched_getaffinity(0) == before

    def test_real_systems_are_called(self, bundle, network_folds):
        peers = [*bundle_peers("student", bundle), light_sernet(network_folds, 1, 4), probe((1,), 4)]
        found = time_peers(peers, [tone(3.0)], 3)
        systems = ["student fp32", "student int8-cpu", "light-sernet fp32", "probe fp32"]
        assert list(found) == [*systems, "light-sernet mfcc", "light-sernet network"]
        assert all(each.median > 0 for each in found.values())
        assert yardstick_of(peers) == "student int8-cpu"
        int8, small, frozen = peers[1:]
        assert int8.size_bytes == bundle.graph("int8-cpu").stat().st_size
        assert int8.macs == round(5_000_000 * 3 / 5) + 1000, "of three seconds, not of the bundle's five"
        assert (small.parameters, small.macs) == (parameter_count(4), count_macs(4))
        assert frozen.size_bytes == 4 * frozen.parameters
        assert 4e6 < frozen.parameters < 6e6, "features and one block of Whisper-base"

    def test_light_sernet_scores_the_window_and_a_missing_file_is_named(
        self, network_folds, untrained_bundle, tmp_path
    ):
        import onnxruntime

        peer = light_sernet(network_folds, 1, 4)
        path = str(network_folds / "fold-1" / NETWORK)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for pcm in (tone(3.0), tone(3.0, frequency=700)):
            (wanted,) = session.run(["logits"], {"mfcc": mfcc(pcm)[np.newaxis]})
            np.testing.assert_allclose(peer.call(pcm)[0], wanted, atol=1e-5)
        with pytest.raises(WrongUseError, match="has windows of 2 s"):
            bundle_peers("student", load_bundle(untrained_bundle))
        with pytest.raises(EdgeemoError, match=re.escape(f"{NETWORK}: is missing")):
            light_sernet(tmp_path, 0, 4)

    def test_pytorch_runs_the_student_of_the_run(self, run_dir):
        from distill.student import Student

        peer, student = pytorch_student(run_dir), Student.from_pretrained(run_dir / "student")
        assert peer.parameters == sum(each.numel() for each in student.parameters())
        logits, statistics = peer.call(tone(2.0))
        assert logits.shape == (1, len(student.config.labels))
        assert statistics.shape == student.reference.shape
        assert peer.macs > 0


class TestRows:
    def test_accuracy_is_that_of_the_folds(self, rows, corpus):
        student, light = decided_by(corpus, "student", 2).predictions, decided_by(corpus, "light-sernet", 9).predictions
        assert rows["studentfp32"].ua == rows["student-pytorchfp32"].ua == pytest.approx(student.accuracy.ua)
        assert rows["light-sernetfp32"].ua == pytest.approx(light.accuracy.ua)
        assert rows["light-sernetfp32"].folds == "3 folds, speakers held out"
        wanted = mean_difference(student.truth, [student.decided], [light.decided], student.speakers)
        found = rows["light-sernetfp32"].difference
        assert (found.to, found.ua.value) == ("student", pytest.approx(wanted.ua, abs=1e-6))
        assert rows["studentfp32"].difference is None
        assert rows["studentint8-cpu"].ua is None, "folds are those of the checkpoint"
        assert rows["hubert-basefp32"].ua is None
        assert rows["hubert-basefp32"].p50_ms == pytest.approx(492, abs=3)

    def test_ratios_are_to_the_int8_graph_with_an_interval(self, rows):
        assert rows["studentint8-cpu"].ratio is None
        for name, times in (("studentfp32", 0.5), ("light-sernetfp32", 2.5), ("hubert-basefp32", 10 / 480)):
            ratio = rows[name].ratio
            assert (ratio.to, ratio.value) == ("student int8-cpu", pytest.approx(times, rel=1e-4))
            assert ratio.low <= ratio.value <= ratio.high
        # Parts stand beside the whole.
        assert rows["light-sernetfp32"].figures == {"light-sernet mfcc ms": pytest.approx(1.025, abs=0.01)}

    def test_graphs_have_the_figures_of_their_exports(self, corpus):
        one = decided_by(corpus, "student", 2)
        folds = "3 folds, speakers held out"
        exports = [
            Row(system="student", corpus="people", classes=2, precision=precision, utterances=COUNT, folds=folds, ua=ua)
            for precision, ua in (("fp32", 0.91), ("int8-cpu", 0.9))
        ]
        known = PeerAccuracy({"student": one}, exports)
        fp32, int8, pytorch, *_ = some_peers()
        assert (known.columns(int8)["ua"], known.columns(fp32)["ua"]) == (0.9, 0.91)
        assert known.columns(pytorch)["ua"] == pytest.approx(one.predictions.accuracy.ua)


class TestReading:
    def test_exports_are_read_renamed_or_refused(self, corpus, tmp_path):
        systems = ("student", "student-pruned")
        rows = [Row(system=each, corpus="people", classes=2, precision="int8-cpu", ua=0.9) for each in systems]
        new_results(rows, seconds=1, seeds=[]).write(tmp_path / "exports.json")
        files = [NamedPath(tmp_path / "exports.json"), NamedPath(tmp_path / "exports.json", "student-small")]
        wanted = [*systems, "student-small", "student-small-pruned"]
        assert [row.system for row in read_accuracy({}, files, corpus).exports] == wanted
        path = tmp_path / "exports.json"
        row = Row(system="student", corpus="others", classes=2, precision="fp32", ua=0.5)
        new_results([row], seconds=1, seeds=[]).write(path)
        with pytest.raises(WrongUseError, match="of another corpus or other folds"):
            read_accuracy({}, [NamedPath(path)], corpus)
        path.write_text("{}")
        with pytest.raises(WrongUseError, match="is no results file"):
            read_accuracy({}, [NamedPath(path)], corpus)

    def test_folds_of_another_corpus_are_refused(self, run_dir, corpus, corpus_dir):
        assert set(read_accuracy({"student": run_dir}, (), read_corpus(corpus_dir)).tested) == {"student"}
        with pytest.raises(WrongUseError, match=re.escape(f"--folds student={run_dir}: is of another corpus")):
            read_accuracy({"student": run_dir}, (), corpus)


class TestShown:
    def test_front(self):
        assert pareto_front([(10, 0.8), (3, 0.5), (12, 0.8), (4, 0.4), (20, 0.9)]) == [1, 0, 4]
        assert pareto_front([(5, 0.5), (5, 0.6)]) == [1]
        assert pareto_front([]) == []

    def test_picture(self, rows):
        picture = peers_plot(list(rows.values()), corpus="people")
        assert picture.startswith("<svg")
        labels = re.findall(r">(\d  [^<]*)<", picture)
        names = ["light-sernet", "student int8-cpu", "student", "student-pytorch", "hubert-base"]
        wanted = [f"{n}  {name}{'' if 'int8' in name else ' fp32'}" for n, name in enumerate(names, 1)]
        assert [each.partition(",")[0] for each in labels] == wanted
        assert [each.endswith("latency only") for each in labels] == [False, True, False, False, True]
        assert "accuracy on people" in picture

    def test_table(self, rows):
        results = new_results(list(rows.values()), seconds=1.0, seeds=[])
        results.timings = [latency(10.0).timing("student int8-cpu", 1)]
        table = VIEWS["peers"](results)
        header, _, *lines = table.splitlines()
        assert "less student's, in points" in header
        assert "time, student int8-cpu = 1" in header
        line = next(each for each in lines if each.startswith("| hubert-base"))
        assert re.search(r"\| 48\.00 \(\d\d\.\d\d to \d\d\.\d\d\) \|", line)
        assert "* light-sernet fp32: ours; light-sernet mfcc alone 1.0" in table
        assert "people, 2 classes, 3 folds, speakers held out. Latency of windows of 3 s, 70 of each" in table


@pytest.mark.slow
def test_the_command(bundle, tmp_path):
    need("opensmile")
    folder, labels = tmp_path / "speech", bundle.manifest.labels
    folder.mkdir()
    for number, label in enumerate(labels):
        soundfile.write(folder / f"{label}.wav", tone(2.0, frequency=150 + 50 * number), 16_000)
    lines = [f"{label}.wav,s{number},{label}" for number, label in enumerate(labels)]
    (folder / "metadata.csv").write_text("\n".join(["file,speaker,emotion", *lines]) + "\n")
    out = tmp_path / "out"
    words = ["made", "--corpus", f"people={folder}", "--bundle", bundle.root, "--rounds", "3", "--out", out]
    done = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = Results.read(out / "made.json")
    assert [row.system for row in found.rows] == ["student", "student", "opensmile-logreg", "probe", "hubert-base"]
    assert {row.ratio.to for row in found.rows if row.ratio} == {"student int8-cpu"}
    assert found.machine is not None
    assert len(found.timings[0].samples_ms) == 3
    assert "latency only" in (out / "made.svg").read_text()

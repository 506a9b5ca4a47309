"""All folds of a recipe, baselines on the same folds, and the comparison of two of them."""

import fcntl
import json
import shutil
import threading
import time

import click
import numpy as np
import pytest

from benchmarks.bench.compare.compare_runs import compare, verdict
from benchmarks.lab.baselines import Baseline, run_baseline
from benchmarks.lab.encoder_statistics import _load, extract_statistics
from distill.corpora import read_corpus
from distill.distill_command import distill_command
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import Difference
from distill.evaluation.predictions import Predictions
from distill.folds import FoldSpec, make_fold
from distill.runs.commands import arguments_of, in_parallel, run_edgeemo
from distill.runs.cross_validation import gather, read_cross_validation
from distill.runs.run_directory import read_report
from edge_runtime.errors import EdgeemoError, StepError, WrongUseError
from edge_runtime.sources.audio import read_audio
from tests.conftest import SHARED, absent, edgeemo, invoke, need

SPEC = FoldSpec(count=3)


@pytest.fixture(scope="module")
def opensmile_run(corpus_dir, cache, tmp_path_factory):
    need("opensmile")
    out = tmp_path_factory.mktemp("opensmile") / "opensmile"
    run_baseline(Baseline("opensmile-logreg"), read_corpus(corpus_dir), SPEC, range(3), out, cache)
    return out


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory):
    need("torch", "transformers")
    from transformers import WhisperConfig, WhisperModel, set_seed

    set_seed(0)
    folder = tmp_path_factory.mktemp("tiny-whisper") / "tiny-whisper"
    sizes = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    sizes |= {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "d_model": 24, "vocab_size": 64}
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    WhisperModel(WhisperConfig(**sizes, **tokens)).save_pretrained(folder)
    return folder


class TestPooling:
    def test_one_fold_gives_the_figures_of_its_report(self, run_dir, tmp_path):
        (tmp_path / "cv").mkdir()
        (tmp_path / "cv" / "fold-0").symlink_to(run_dir)
        found = gather(tmp_path / "cv", [0])
        report = read_report(run_dir)
        systems = {"student": report.student} | report.teachers
        assert set(found.systems) == {"student", "linguistic", "prosodic"}
        for name, pooled in found.systems.items():
            one = systems[name]
            assert pooled.test.confusion == one.test.confusion
            assert (pooled.test.ua_low, pooled.test.ua_high) == (one.test.ua_low, one.test.ua_high)
            assert pooled.test.ece_before == pytest.approx(one.test.ece_before, abs=1e-6)
            assert pooled.folds[0].validation_ua == one.validation.ua
        assert read_cross_validation(tmp_path / "cv") == found

    def test_folds_of_different_runs_are_refused(self, run_dir, tmp_path):
        for fold in (0, 1):
            shutil.copytree(run_dir, tmp_path / "cv" / f"fold-{fold}")
        path = tmp_path / "cv" / "fold-1" / "run.json"
        content = json.loads(path.read_text())
        content["recipe"]["seed"] = 77
        path.write_text(json.dumps(content))
        with pytest.raises(EdgeemoError, match="differ in their recipe"):
            gather(tmp_path / "cv", [0, 1])

    @pytest.mark.parametrize(
        ("fold", "expected"),
        [("some", "neither a fold's number nor 'all'"), ("all", "holds no folds; give another --out")],
    )
    def test_folds_that_do_not_fit_the_directory_of_a_run(self, run_dir, corpus_dir, recipe_file, fold, expected):
        done = invoke("distill", recipe_file, "--corpus", corpus_dir, "--out", run_dir, "--fold", fold, code=2)
        assert expected in done.stderr

    @pytest.mark.slow
    def test_all_folds_are_run_and_resumed(self, corpus_dir, recipe_file, cache, tmp_path):
        out = tmp_path / "cv"
        command = ["distill", recipe_file, "--corpus", corpus_dir, "--cache", cache, "--out", out, "--fold", "all"]
        command += ["--without", "linguistic", "--set", "student.training.epochs=1"]
        done = edgeemo(*command, "--jobs", 2, code=0)
        assert "pooled" in done.stderr
        assert done.stdout == ""
        found = read_cross_validation(out)
        corpus = read_corpus(corpus_dir)
        tested = [item.name for k in range(3) for item in make_fold(corpus, found.spec, k).test]
        assert sorted(tested) == list(found.predictions(out).names)
        assert found.predictions(out, "prosodic").accuracy == found.systems["prosodic"].test
        assert found.systems["student"].test.speakers == 6
        before = (out / "fold-1" / "report.json").stat().st_mtime_ns
        assert "fold 0: finished already" in edgeemo(*command, code=0).stderr
        assert (out / "fold-1" / "report.json").stat().st_mtime_ns == before


class TestBaselines:
    def test_every_utterance_is_tested_by_a_model_trained_without_its_speaker(self, opensmile_run, corpus_dir):
        found = read_cross_validation(opensmile_run)
        corpus = read_corpus(corpus_dir)
        predictions = found.predictions(opensmile_run)
        assert sorted(predictions.names) == sorted(item.name for item in corpus.utterances)
        assert predictions.accuracy.ua > 0.35, "loudness and pitch carry half of the rendered emotions"
        for fold in range(3):
            part = Predictions.read(opensmile_run / f"fold-{fold}" / "predictions.csv")
            assert set(part.speakers) == {item.speaker for item in make_fold(corpus, SPEC, fold).test}
        assert found.systems["opensmile-logreg"].test.ece_before is None

    def test_a_finished_one_is_left_alone_and_another_refused(self, opensmile_run, corpus_dir, cache):
        corpus = read_corpus(corpus_dir)
        before = (opensmile_run / "cross-validation.json").stat().st_mtime_ns
        run_baseline(Baseline("opensmile-logreg"), corpus, SPEC, range(3), opensmile_run, cache)
        assert (opensmile_run / "cross-validation.json").stat().st_mtime_ns == before
        with pytest.raises(WrongUseError, match="folds of another run"):
            run_baseline(Baseline("opensmile-logreg"), corpus, FoldSpec(count=6), range(3), opensmile_run, cache)

    def test_statistics_are_those_of_the_encoders_blocks(self, tiny_whisper, clip, tmp_path):
        import torch

        (path,) = extract_statistics([clip], str(tiny_whisper), tmp_path, workers=1)
        found = np.load(path)
        assert found.shape == (2, 48)
        encoder = _load(str(tiny_whisper))
        pcm = torch.from_numpy(read_audio(clip))[None]
        with torch.inference_mode():
            frames = encoder(pcm)[0][-1][0]
        wanted = np.concatenate([frames.numpy().mean(axis=0), np.sqrt(frames.numpy().var(axis=0) + 1e-5)])
        assert np.allclose(found[1], wanted, atol=1e-4)
        stamp = path.stat().st_mtime_ns
        assert extract_statistics([clip], str(tiny_whisper), tmp_path, workers=1) == [path]
        assert path.stat().st_mtime_ns == stamp

    def test_the_probe(self, tiny_whisper, corpus_dir, cache, tmp_path):
        corpus = read_corpus(corpus_dir)
        probe = Baseline("probe", str(tiny_whisper), (1, 2))
        found = run_baseline(probe, corpus, SPEC, [1], tmp_path / "probe", cache)
        assert found.settings["encoder"] == "tiny-whisper"
        assert found.systems["probe"].test.utterances == len(make_fold(corpus, SPEC, 1).test)
        with pytest.raises(WrongUseError, match="has the layers 1 to 2"):
            Baseline("probe", str(tiny_whisper), (3,)).features(corpus.utterances[:2], cache)

    @pytest.mark.slow
    def test_recorded_speech_gives_the_figure_that_was_measured_elsewhere(self, tmp_path):
        """openSMILE functionals with logistic regression, one fold a speaker, against the data's own description."""
        data = SHARED / "data" / "emodb"
        if not data.is_dir():
            absent("../shared/data")
        corpus = read_corpus(data)
        count = len(corpus.speakers)
        baseline = Baseline("opensmile-logreg")
        found = run_baseline(baseline, corpus, FoldSpec(count=count), range(count), tmp_path / "b", tmp_path / "cache")
        assert found.systems[baseline.name].test.ua == pytest.approx(0.647, abs=0.005)


class TestComparison:
    @pytest.fixture
    def better(self, opensmile_run, tmp_path):
        """The same run, with the truth put in the place of every third decision."""
        folder = tmp_path / "better"
        shutil.copytree(opensmile_run, folder)
        for path in folder.glob("fold-*/predictions.csv"):
            given = Predictions.read(path)
            probabilities = given.probabilities.copy()
            probabilities[::3] = np.eye(len(given.labels))[given.truth[::3]]
            Predictions(given.names, given.speakers, given.emotions, given.labels, probabilities).write(path)
        return folder

    def test_a_better_run_is_called_better(self, opensmile_run, better):
        found = compare(opensmile_run, better)
        difference = found.difference
        assert difference.ua == pytest.approx(found.second_accuracy.ua - found.first_accuracy.ua)
        assert 0 < difference.ua_interval.low <= difference.ua <= difference.ua_interval.high
        assert found.verdict.startswith("better is better than opensmile by ")
        assert compare(better, opensmile_run).verdict == found.verdict
        assert compare(opensmile_run, opensmile_run).verdict.startswith("No difference that these 6 speakers can show")

    def test_the_command(self, opensmile_run, better):
        done = invoke("bench", "--compare", opensmile_run, better, "--json", code=0)
        content = json.loads(done.stdout)
        assert content["schema"] == "edgeemo-comparison/1"
        assert content["difference"]["ua"] > 0
        assert content["verdict"] in done.stderr
        assert invoke("bench").returncode == 2
        invoke("bench", better, "--compare", better, better, code=2)

    def test_signs_of_the_verdict(self):
        interval, none = Interval(low=-0.15, high=-0.02), Interval(low=0, high=0)
        worse = Difference(ua=-0.1, ua_interval=interval, wa=0, wa_interval=none)
        assert "a is better than b by 10.0 points" in verdict("a", "b", worse, 5)
        assert "(95 % interval 2.0 to 15.0, 5 speakers)" in verdict("a", "b", worse, 5)

    def test_one_fold_is_not_compared_with_three(self, opensmile_run, run_dir):
        done = invoke("bench", "--compare", opensmile_run, run_dir, code=2)
        assert "have different folds" in done.stderr

    def test_other_utterances_are_refused(self, opensmile_run, better):
        path = better / "fold-0" / "predictions.csv"
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
        with pytest.raises(WrongUseError, match="different test utterances"):
            compare(opensmile_run, better)

    def test_what_is_no_run(self, opensmile_run, tmp_path):
        done = invoke("bench", "--compare", opensmile_run, tmp_path, code=1)
        assert "is no run directory" in done.stderr


class TestProcesses:
    def test_a_command_is_called_again_as_it_was_called(self):
        words = ["demo", "--corpus=c", "--out=o", "--set", "a.b=1", "--set", "c=2", "--skip-broken", "--jobs=2"]
        with distill_command.make_context("distill", words, resilient_parsing=False) as context:
            again = arguments_of(context, fold=4, out="o/fold-4", jobs=None)
        assert again[0] == "distill"
        with distill_command.make_context("distill", again[1:]) as second:
            changed = {"fold": 4, "jobs": 1}
            for name, value in context.params.items():
                if name != "out":
                    assert second.params[name] == changed.get(name, value), name
            assert str(second.params["out"]) == "o/fold-4"

    def test_a_process_that_outlived_its_caller_is_waited_for(self, tmp_path):
        lock = tmp_path / "lock"
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            thread = threading.Thread(
                target=run_edgeemo, args=(["--version"],), kwargs={"lock": lock, "threads": 1, "log": tmp_path / "log"}
            )
            thread.start()
            time.sleep(1.0)
            assert (tmp_path / "log").read_text() == ""
        thread.join(timeout=60)
        assert "edgeemo" in (tmp_path / "log").read_text()

    def test_a_failure_passes_its_exit_code_on(self, tmp_path):
        with pytest.raises(StepError) as failure:
            run_edgeemo(["distill", "no-such-recipe"], lock=tmp_path / "l", threads=1, log=tmp_path / "log")
        assert failure.value.exit_code == 2

    def test_the_first_failure_starts_no_more(self):
        started = []

        def work(item):
            started.append(item)
            if item == 1:
                raise click.ClickException("one")

        with pytest.raises(click.ClickException, match="one"):
            in_parallel(work, range(50), 1)
        assert started == [0, 1]

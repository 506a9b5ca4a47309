"""Light-SERNet: the published sizes, its MFCC, its graph, and training that never looks at the test part."""

import dataclasses
import os

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers.audio_utils import mel_filter_bank

from benchmarks.lab.baselines import Baseline, run_baseline
from benchmarks.lab.light_sernet.network import (
    COEFFICIENTS,
    FRAME,
    FRAMES,
    HOP,
    SAMPLES,
    LightSerNet,
    count_macs,
    mfcc,
    parameter_count,
    three_seconds,
    write_onnx,
)
from benchmarks.lab.light_sernet.settings import TrainingSettings
from benchmarks.lab.light_sernet.training import NETWORK, RECORD, run_fold, train
from distill.corpora import read_corpus
from distill.corpus import Utterance
from distill.folds import Fold, FoldSpec
from tests.conftest import need, tone

LABELS = ("angry", "calm")


def utterances(part, speakers, each=8):
    return tuple(
        Utterance(path=None, name=f"{part}-{speaker}-{number}", speaker=speaker, emotion=LABELS[number % 2])
        for speaker in speakers
        for number in range(each)
    )


def learnable(items, draw, frames=32):
    """Return MFCC of which one class has more of the third coefficient; the network takes any number of frames."""
    found = draw.normal(size=(len(items), COEFFICIENTS, frames)).astype(np.float32)
    for row, item in zip(found, items, strict=True):
        row[2] += 4.0 * LABELS.index(item.emotion)
    return found


@pytest.fixture
def fold():
    return Fold(utterances("train", "ab"), utterances("validation", "c", 4), utterances("test", "d", 4))


SHORT = TrainingSettings(epochs=15, batch_size=8, learning_rate=3e-3)


class TestSizes:
    def test_parameters_and_multiply_accumulates(self):
        """0.46 million for the four classes of IEMOCAP."""
        assert parameter_count(4) == pytest.approx(0.46e6, rel=0.005)
        network, done = LightSerNet(8).eval(), []

        def count(layer, _, output):
            done.append(output[0].numel() * layer.weight[0].numel())

        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        with torch.no_grad():
            assert network(torch.zeros(1, COEFFICIENTS, FRAMES)).shape == (1, 8)
        assert sum(done) == count_macs(8)

    def test_the_rate_stays_and_then_falls(self):
        settings = TrainingSettings()
        rates = [settings.rate(epoch) for epoch in (0, 49, 50, 69, 70)]
        assert rates == pytest.approx([1e-4, 1e-4, 1e-4 * np.exp(-0.15), 1e-4 * np.exp(-0.15), 1e-4 * np.exp(-0.3)])


class TestMfcc:
    def test_follows_its_definition(self):
        pcm = tone(3.0) + np.random.default_rng(0).normal(0, 0.01, SAMPLES).astype(np.float32)
        frame = 17
        piece = (pcm / np.abs(pcm).max())[frame * HOP :][:FRAME].astype(np.float64)
        at = np.arange(FRAME)
        windowed = piece * (0.54 - 0.46 * np.cos(2 * np.pi * at / FRAME))
        turns = np.exp(-2j * np.pi * np.outer(np.arange(FRAME // 2 + 1), at) / FRAME)
        mel = np.abs(turns @ windowed) ** 2 @ mel_filter_bank(FRAME // 2 + 1, 128, 80.0, 7600.0, 16_000, None, "htk")
        cosines = np.cos(np.pi * np.outer(np.arange(COEFFICIENTS), np.arange(128) + 0.5) / 128) * np.sqrt(2 / 128)
        cosines[0] /= np.sqrt(2)
        found = mfcc(pcm)
        assert found.shape == (COEFFICIENTS, FRAMES)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[:, frame], cosines @ np.log(mel + 1e-6), atol=2e-3)

    def test_level_does_not_matter_and_windows_have_three_seconds(self):
        np.testing.assert_allclose(mfcc(tone(3.0)), mfcc(0.1 * tone(3.0)), atol=1e-2)
        assert np.isfinite(mfcc(np.zeros(SAMPLES, np.float32))).all()
        longer = np.arange(SAMPLES + 100, dtype=np.float32)
        assert three_seconds(longer)[0] == 50
        assert len(three_seconds(longer)) == SAMPLES
        short = three_seconds(np.ones(10, np.float32))
        assert (short.sum(), len(short)) == (10, SAMPLES)


def test_the_graph_gives_what_the_network_gives(tmp_path):
    need("onnx", "onnxscript")
    torch.manual_seed(0)
    network = LightSerNet(8)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    write_onnx(network, tmp_path / NETWORK)
    coefficients = mfcc(tone(3.0))[np.newaxis]
    session = onnxruntime.InferenceSession(str(tmp_path / NETWORK), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"mfcc": coefficients})
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(coefficients)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert (tmp_path / NETWORK).stat().st_size == pytest.approx(4 * parameter_count(8), rel=0.02)


class TestTraining:
    def test_learns_and_never_looks_at_the_test_part(self, fold):
        known = fold.train + fold.validation
        features = learnable(known, np.random.default_rng(0))
        rows = {item.name: row for row, item in enumerate(known)}
        epochs = []
        trained = train(features, rows, fold, LABELS, SHORT, tick=lambda epoch, ua: epochs.append((epoch, ua)))
        assert trained.validation_ua == 1.0
        assert (trained.epoch, trained.validation_ua) == max(epochs, key=lambda each: (each[1], -each[0]))
        assert not trained.network.training
        twice = [train(features, rows, fold, LABELS, dataclasses.replace(SHORT, epochs=2)) for _ in range(2)]
        for one, other in zip(*(each.network.parameters() for each in twice), strict=True):
            assert torch.equal(one, other)

    def test_ends_when_none_is_better(self, fold):
        known = fold.train + fold.validation
        # Without a rate nothing changes but the batch norms' statistics, and all is alike.
        features = np.zeros((len(known), COEFFICIENTS, 32), np.float32)
        rows = {item.name: row for row, item in enumerate(known)}
        patient = dataclasses.replace(SHORT, epochs=50, learning_rate=0.0, patience=2)
        trained = train(features, rows, fold, LABELS, patient)
        assert (trained.epoch, trained.epochs) == (1, 3)
        assert trained.validation_ua == 0.5

    def test_a_finished_fold_is_left_alone_and_another_task_is_trained(self, fold, tmp_path):
        need("onnx", "onnxscript")
        features = learnable(fold.everything, np.random.default_rng(1))
        rows = {item.name: row for row, item in enumerate(fold.everything)}
        once = dataclasses.replace(SHORT, epochs=1)
        record = run_fold(tmp_path, {"fold": 0, "labels": LABELS}, features, rows, fold, LABELS, once)
        assert {path.name for path in tmp_path.iterdir()} == {"predictions.csv", NETWORK, RECORD}
        os.utime(tmp_path / NETWORK, (1, 1))
        assert run_fold(tmp_path, {"fold": 0, "labels": LABELS}, features, rows, fold, LABELS, once) == record
        assert (tmp_path / NETWORK).stat().st_mtime == 1
        run_fold(tmp_path, {"fold": 1, "labels": LABELS}, features, rows, fold, LABELS, once)
        assert (tmp_path / NETWORK).stat().st_mtime > 1


@pytest.mark.slow
def test_as_a_baseline(corpus_dir, tmp_path):
    need("onnx", "onnxscript")
    corpus, out = read_corpus(corpus_dir), tmp_path / "light-sernet"
    baseline = Baseline("light-sernet", training=TrainingSettings(epochs=1))
    messages = []
    found = run_baseline(baseline, corpus, FoldSpec(count=3), [0], out, tmp_path, jobs=1, say=messages.append)
    assert found.system == "light-sernet"
    assert found.parameters == parameter_count(len(corpus.labels))
    assert (found.seed, found.settings["epochs"]) == (0, 1)
    assert all(0 < score.validation_ua <= 1 for score in found.systems["light-sernet"].folds)
    assert len(found.predictions(out).names) == sum(score.utterances for score in found.systems["light-sernet"].folds)
    assert sum("of 1, validation UA" in line for line in messages) == 1

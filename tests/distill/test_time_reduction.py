"""Time reduction: means of neighbouring frames between blocks."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch

from distill.distillation.build_student import build_student
from distill.encoders.load import make_encoder
from distill.encoders.pooling import pool
from distill.encoders.time_reduction import count_after, halved, halved_weights
from distill.recipe import LdaHead, RandomEncoder, StructuredPruning
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from edge_runtime.errors import WrongUseError
from edge_runtime.windows import WindowPolicy
from export.graphs.float_graph import export_graph
from tests.distill.test_encoders import padded, speechlike
from tests.small_models import FAMILIES, save_encoder

PLANS = pytest.mark.parametrize("plan", [(0,), (1,), (2,), (1, 2), (1, 1)])


def student(plan=(), chunk=0, **changes):
    torch.manual_seed(0)
    recipe = StudentRecipe(
        random=RandomEncoder(d_model=32, layers=3, heads=2, feed_forward=64),
        pooled_layers=(2, 3),
        pooled_frames=("all", "loud"),
        pooled_deviation=False,
        frozen="all",
        lda=LdaHead(),
        time_reduction=plan,
        **changes,
    )
    return build_student(recipe, ("a", "b", "c"), chunk=chunk).eval()


@pytest.mark.parametrize("frames", [1, 2, 7, 8])
def test_frames_become_means_of_two_and_a_last_single_one_stays(frames):
    hidden = torch.randn(2, frames, 3)
    means = halved(hidden)
    assert means.shape[1] == count_after(frames, 1)
    for place in range(means.shape[1]):
        assert torch.allclose(means[:, place], hidden[:, 2 * place : 2 * place + 2].mean(dim=1))
    weights = torch.rand(2, frames)
    assert torch.allclose(halved_weights(weights).sum(dim=1), weights.sum(dim=1))


def test_frames_outside_a_waveform_enter_no_mean():
    hidden, valid = torch.randn(1, 8, 3), torch.arange(8)[None] < 5
    assert torch.equal(halved(hidden, valid)[:, :3], halved(hidden[:, :5]))


@PLANS
@pytest.mark.parametrize("lengths", [(16_000, 40_000), (12_345, 33_333, 7_001)])
def test_a_padded_batch_is_the_same_as_each_alone(plan, lengths):
    model = student(plan)
    batch, counts = padded(lengths)
    with torch.no_grad():
        together = model(batch, counts).statistics
        for row, length in enumerate(lengths):
            assert torch.allclose(together[row], model(batch[row : row + 1, :length]).statistics[0], atol=2e-5)


@PLANS
def test_layers_one_after_the_other_are_those_of_the_encoder(plan):
    encoder = student(plan).encoder
    with torch.no_grad():
        states, _ = encoder(speechlike(20_000)[None])
        hidden = states[0]
        for index in range(encoder.depth):
            hidden = encoder.through(index, hidden)
            assert torch.equal(hidden, states[index + 1])
            assert hidden.shape[1] == count_after(states[0].shape[1], encoder.halvings(index + 1))


def test_layers_before_the_reduction_are_as_without():
    whole, reduced = student(), student((2,))
    pcm = speechlike(20_000)[None]
    with torch.no_grad():
        first, second = (
            pool(each.encoder, pcm, None, [2], ("all", "loud"), deviation=False) for each in (whole, reduced)
        )
        later = [pool(each.encoder, pcm, None, [3], ("all",), deviation=False) for each in (whole, reduced)]
    assert torch.allclose(first, second, atol=1e-6)
    assert not torch.allclose(*later, atol=1e-4)
    assert torch.allclose(*later, atol=0.5)


@pytest.mark.parametrize("samples", [16_000, 16_320, 8_123])
def test_the_exported_graph_gives_the_same_for_even_and_odd_numbers_of_frames(samples, tmp_path):
    model = student((1, 2))
    export_graph(copy.deepcopy(model), WindowPolicy(seconds=1.5), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    pcm = speechlike(samples)[None]
    _, found = session.run(None, {"pcm": pcm.numpy(), "reference": model.reference.numpy()})
    with torch.no_grad():
        assert np.allclose(found, model(pcm).statistics, atol=1e-4)


def test_later_blocks_have_half_the_work_and_the_settings_rebuild_it(tmp_path):
    whole, reduced = student(), student((1,))
    before, after = whole.encoder.macs(48_000), reduced.encoder.macs(48_000)
    assert after["blocks.0.feed_forward"] == before["blocks.0.feed_forward"]
    assert after["blocks.1.feed_forward"] == pytest.approx(before["blocks.1.feed_forward"] / 2, rel=0.02)
    assert after["blocks.2.attention"] < before["blocks.2.attention"] / 2
    assert reduced.encoder.minimum_samples == 2 * whole.encoder.minimum_samples
    reduced.save_pretrained(tmp_path)
    loaded = Student.from_pretrained(tmp_path).eval()
    pcm = speechlike(20_000)[None]
    with torch.no_grad():
        assert torch.equal(loaded(pcm).statistics, reduced(pcm).statistics)
    assert make_encoder("whisper", reduced.encoder.settings).time_reduction == (1,)


def test_what_does_not_go_together_is_refused(tmp_path):
    with pytest.raises(WrongUseError, match="no block follows layer 3, since only 3 are kept"):
        student((3,))
    with pytest.raises(WrongUseError, match="a student in chunks"):
        student((1,), chunk=16_000)
    with pytest.raises(ValueError, match="exclude each other"):
        student(
            (1,),
            pruning=StructuredPruning.model_validate(
                {"distillation": {"training": {"epochs": 1, "learning_rate": 1e-3, "keep": "last"}}}
            ),
        )
    other = next(family for family in FAMILIES if family != "whisper")
    recipe = StudentRecipe(
        encoder=str(save_encoder(tmp_path / other, other)), frozen="all", lda=LdaHead(), time_reduction=(1,)
    )
    with pytest.raises(WrongUseError, match=f"frames of a {other} encoder cannot be averaged"):
        build_student(recipe, ("a", "b"))

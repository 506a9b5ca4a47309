"""Structured pruning: counting, taking units out, what makes up for them, the plan, and loading what is left."""

import copy

import numpy as np
import pytest
import torch

from distill.encoders.units import Sizes, Units, keep
from distill.pruning.importance import importance
from distill.pruning.macs import count_macs, total_macs
from distill.pruning.prune import Plan, allocate, prune, reachable, smallest
from distill.pruning.reconstruct import reconstruct
from distill.pruning.sparsity import masked, masks, sparse_layers, two_of_four
from distill.scoring import outputs_of
from distill.student import Student
from edge_runtime.errors import WrongUseError
from export.graphs.float_graph import export_graph
from tests.small_students import POLICY, graph_macs, small_student, windows

FAMILIES = [("whisper", False), ("hubert", False), ("wav2vec2", True), ("wavlm", False)]
NAMES = ["whisper", "hubert", "wav2vec2-stable", "wavlm"]
SAMPLES = POLICY.samples


@pytest.fixture(scope="module", params=FAMILIES, ids=NAMES)
def student(request, tmp_path_factory):
    family, stable = request.param
    # Wide enough that channels go, too.
    wide = {} if family == "whisper" else {"conv_dim": (64, 64, 32), "intermediate_size": 128}
    return small_student(tmp_path_factory.mktemp(family), family, stable=stable, **wide)


def most_of_it(student):
    """Return a share near what can be reached: much of a small student is its front end."""
    return 0.7 * reachable(student, SAMPLES)


def logits(student, count=4):
    return outputs_of(student, windows(count))[0]


class TestCounting:
    def test_equals_what_the_graph_multiplies(self, student, tmp_path):
        """Of a pruned student, the harder case, since its blocks differ."""
        pruned, _ = prune(student, most_of_it(student), windows(4), SAMPLES)
        export_graph(copy.deepcopy(pruned), POLICY, tmp_path / "model.onnx")
        assert graph_macs(tmp_path / "model.onnx", pruned, SAMPLES) == total_macs(pruned, SAMPLES)

    def test_half_the_units_are_half_the_work_of_a_part(self, student):
        sizes = student.encoder.sizes
        half = sizes.replaced("feed_forward", 1, sizes.feed_forward[1] // 2)
        whole, less = (count_macs(student, SAMPLES, each) for each in (sizes, half))
        assert less["blocks.1.feed_forward"] * 2 == whole["blocks.1.feed_forward"]
        assert sum(less.values()) == sum(whole.values()) - less["blocks.1.feed_forward"]


class TestUnits:
    def test_taking_units_out_is_closing_their_gate(self, student):
        """Without least squares: a unit that is gone gives what a unit gives whose reader ignores it."""
        for number, group in enumerate(student.encoder.units()):
            kept = list(range(1, group.count))
            closed, cut = copy.deepcopy(student), copy.deepcopy(student)
            reader = closed.encoder.units()[number].reader
            with torch.no_grad():
                reader.weight[:, group.places([0])] = 0.0
            keep(cut.encoder.units()[number], kept)
            assert torch.allclose(logits(cut), logits(closed), atol=2e-5), group.name
            assert not torch.allclose(logits(cut), logits(student), atol=1e-6), group.name

    def test_sizes_that_do_not_fit_are_refused(self, student):
        sizes = student.encoder.sizes
        for wrong in (sizes.replaced("heads", 0, 99), sizes.model_copy(update={"feed_forward": (32,)})):
            with pytest.raises(ValueError, match="do not fit"):
                copy.deepcopy(student).encoder.resize(wrong)


class TestImportance:
    def test_what_nobody_reads_has_none(self, student):
        changed = copy.deepcopy(student)
        for group in changed.encoder.units():
            with torch.no_grad():
                group.reader.weight[:, group.places([1])] = 0.0
        for name, values in importance(changed, windows(6), 0).items():
            assert values[1] == 0.0, name
            assert (np.delete(values, 1) > 0).any(), name

    def test_predicts_the_change_of_the_outputs(self, student):
        """A gate that closes a little changes the outputs as the measured gradient says."""
        heard = windows(6)
        group = student.encoder.units()[-1]
        measured = np.mean([importance(student, heard, seed)[group.name] for seed in range(30)], axis=0)
        wanted = outputs_of(student, heard)
        step = 0.05
        changes = []
        for unit in range(0, group.count, 8):
            closed = copy.deepcopy(student)
            with torch.no_grad():
                closed.encoder.units()[-1].reader.weight[:, unit] *= 1.0 - step
            total = 0.0
            for now, was in zip(outputs_of(closed, heard), wanted, strict=True):
                relative = (now - was) / was.std(dim=0).clamp(min=1e-6)
                total += float(relative.square().mean()) / step**2
            changes.append(total)
        assert np.corrcoef(np.log(measured[::8]), np.log(changes))[0, 1] > 0.9


class TestAllocation:
    GROUPS = (
        Units("heads", 0, 4, 8, (), torch.nn.Identity()),
        Units("feed_forward", 0, 128, 1, (), torch.nn.Identity()),
    )
    SIZES = Sizes(heads=(4,), feed_forward=(128,))

    @staticmethod
    def macs(sizes):
        return 100 * sizes.heads[0] + 2 * sizes.feed_forward[0]

    def choose(self, heads, units, most):
        values = {"blocks.0.attention": np.array(heads), "blocks.0.feed_forward": np.array(units)}
        return allocate(self.GROUPS, values, self.SIZES, self.macs, most)

    def test_the_least_important_for_their_work_go_and_something_stays(self):
        units = np.arange(128) * 1.0
        kept = self.choose([9.0, 1.0, 5.0, 7.0], units, 656 - 100)
        assert kept["blocks.0.attention"] == [0, 2, 3], "100 multiply-accumulates for an importance of 1"
        assert len(kept["blocks.0.feed_forward"]) == 128
        kept = self.choose([9e9, 9e9, 9e9, 9e9], units, 656 - 64)
        assert kept["blocks.0.feed_forward"] == list(range(32, 128))
        kept = self.choose([1.0] * 4, [0.0] * 128, 164)
        assert (len(kept["blocks.0.attention"]), len(kept["blocks.0.feed_forward"])) == (1, 32)
        with pytest.raises(ValueError, match="smallest"):
            self.choose([1.0] * 4, [0.0] * 128, 163)


class TestReconstruction:
    def test_a_copy_of_a_unit_can_go_without_loss(self, student):
        """Least squares find that the copy that stays has to speak for both."""
        twice = copy.deepcopy(student)
        name = next(group.name for group in twice.encoder.units() if group.kind == "feed_forward")
        group = next(group for group in twice.encoder.units() if group.name == name)
        with torch.no_grad():
            for writer in group.writers:
                writer.weight[0], writer.bias[0] = writer.weight[1], writer.bias[1]
        cut = copy.deepcopy(twice)
        keep(next(each for each in cut.encoder.units() if each.name == name), list(range(1, group.count)))
        before = (logits(cut) - logits(twice)).abs().max()
        reconstruct(twice.encoder, cut.encoder, windows(8), ridge=1e-7)
        assert (logits(cut) - logits(twice)).abs().max() < 0.02 * before

    def test_brings_other_windows_nearer_too(self, student):
        heard, others = windows(24)[::2], windows(24)[1::2]
        pruned, plan = prune(student, most_of_it(student), heard, SAMPLES)
        cut = copy.deepcopy(student)
        cut.encoder.keep({group.name: group.kept for group in plan.groups})
        wanted = outputs_of(student, others)[1]
        errors = [float((outputs_of(each, others)[1] - wanted).square().mean()) for each in (pruned, cut)]
        assert errors[0] < 0.5 * errors[1]
        same = copy.deepcopy(student)
        reconstruct(student.encoder, same.encoder, windows(2))
        assert torch.equal(logits(same), logits(student))


class TestPrune:
    def test_meets_the_target_and_loads_without_surgery(self, student, tmp_path):
        before = logits(student)
        pruned, plan = prune(student, most_of_it(student), windows(6), SAMPLES)
        assert most_of_it(student) <= plan.removed <= reachable(student, SAMPLES)
        assert sum(plan.macs_after.values()) == total_macs(pruned, SAMPLES)
        assert torch.equal(logits(student), before), "the student itself stays as it is"
        again, same = prune(student, most_of_it(student), windows(6), SAMPLES)
        assert same == plan
        assert torch.equal(logits(again), logits(pruned))
        pruned.save_pretrained(tmp_path / "student")
        loaded = Student.from_pretrained(tmp_path / "student").eval()
        assert loaded.encoder.sizes == plan.sizes
        assert torch.equal(logits(loaded), logits(pruned))
        for group in plan.groups:
            assert len(group.kept) == plan.sizes.of(group.kind, group.index)
            assert group.kind == "heads" or len(group.kept) % 32 == 0
        assert Plan.model_validate_json(plan.model_dump_json()) == plan

    def test_what_cannot_be_reached_is_refused(self, student):
        most = reachable(student, SAMPLES)
        with pytest.raises(WrongUseError, match=r"--prune 0\.99: at most 0\.\d+ of the multiply-accumulates"):
            prune(student, 0.99, windows(2), SAMPLES)
        for wrong in (-0.1, 1.0, float("nan")):
            with pytest.raises(WrongUseError, match="no share"):
                prune(student, wrong, windows(2), SAMPLES)
        _, plan = prune(student, most - 1e-6, windows(2), SAMPLES)
        assert plan.sizes == smallest(student.encoder.units(), student.encoder.sizes)


def is_two_of_four(weight):
    """At most two of every four neighbouring weights of each row differ from zero."""
    return (weight.reshape(len(weight), -1, 4) != 0).sum(dim=2).max() <= 2


class TestSparsity:
    def test_two_of_four(self):
        mask = two_of_four(torch.tensor([[4.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 5.0]]))
        assert mask[0, :4].tolist() == [1, 0, 1, 0]
        assert mask[0, 4:].sum() == 2
        assert mask[0, 7] == 1

    def test_the_mask_stays_through_training(self, student):
        sparse = copy.deepcopy(student)
        kept = masks(sparse, windows(4))
        assert set(kept) == set(sparse_layers(sparse))
        assert len(kept) == 6 * sparse.encoder.depth
        with masked(sparse, kept):
            optimiser = torch.optim.AdamW(sparse.parameters(), lr=1e-2)
            pcm = torch.from_numpy(np.stack(windows(2)))
            for _ in range(2):
                optimiser.zero_grad()
                sparse(pcm).logits.square().sum().backward()
                optimiser.step()
        for name in kept:
            weight = sparse.get_submodule(name).weight
            assert is_two_of_four(weight), name
            assert not torch.equal(weight[weight != 0], student.get_submodule(name).weight[weight != 0])
        assert not is_two_of_four(next(iter(sparse_layers(student).values())).weight)

"""The speaker model: its posterior, and the file that a bundle has it in."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import LARGEST_STATISTIC, SPEAKER_MODEL
from edge_runtime.bundles.speaker_model import SpeakerModel, model_size, read_model
from edge_runtime.decision import softmax
from edge_runtime.errors import EdgeemoError
from edge_runtime.speakers.speaker_adaptation import MEMORY, SpeakerAdaptation, Utterance
from tests.conftest import need

need("onnx")

from tests.plain_bundles import LABELS, SIZE, add_file, change, plain_speaker_model, save_speaker_bundle  # noqa: E402

CLASSES, DIRECTIONS, STATISTICS = 4, 3, 6


def random_model(seed=0, softness=8.0):
    random = np.random.default_rng(seed)
    root = random.normal(size=(DIRECTIONS, DIRECTIONS))
    return SpeakerModel(
        projection=random.normal(size=(DIRECTIONS, STATISTICS)).astype(np.float32),
        origin=random.normal(size=STATISTICS),
        class_means=2.0 * random.normal(size=(CLASSES, DIRECTIONS)),
        between=3.0 * root @ root.T + 0.2 * np.eye(DIRECTIONS),
        interaction=np.repeat(random.uniform(0.1, 1.5, size=(1, DIRECTIONS)), CLASSES, axis=0),
        softness=softness,
    )


def conditioned(model, rows, classes):
    """Return means ``[C, k]`` and covariances ``[C, k, k]`` of the class means by conditioning the joint Gaussian.

    Of all class means and all rows, with every covariance written out: no formula of the model is used.
    """
    count, size = model.class_means.shape
    means = np.concatenate([model.class_means.reshape(-1), model.class_means[classes].reshape(-1)])
    whose = np.concatenate([np.arange(count), classes])
    total = len(whose)
    joint = np.zeros((total, size, total, size))
    for one in range(total):
        for other in range(total):
            joint[one, :, other] = model.between
            if whose[one] == whose[other]:
                joint[one, :, other] += np.diag(model.interaction[whose[one]])
            if one == other and one >= count:
                joint[one, :, other] += np.eye(size)
    joint = joint.reshape(total * size, total * size)
    hidden = slice(0, count * size)
    seen = slice(count * size, None)
    gain = joint[hidden, seen] @ np.linalg.inv(joint[seen, seen])
    found = means[hidden] + gain @ (rows.reshape(-1) - means[seen])
    covariance = (joint[hidden, hidden] - gain @ joint[seen, hidden]).reshape(count, size, count, size)
    return found.reshape(count, size), np.stack([covariance[each, :, each] for each in range(count)])


def speech(model, classes, seed=1):
    """Return rows ``[N, k]`` of one speaker."""
    random = np.random.default_rng(seed)
    offset = random.multivariate_normal(np.zeros(DIRECTIONS), model.between)
    own = random.normal(size=model.class_means.shape) * np.sqrt(model.interaction)
    return (model.class_means + offset + own)[classes] + random.normal(size=(len(classes), DIRECTIONS))


class TestPosterior:
    @pytest.mark.parametrize("classes", [[0], [2, 2, 2], [0, 1, 2, 3], [3, 3, 0, 3, 1, 3, 3], [1] * 40])
    def test_it_is_the_joint_gaussian_given_the_clips(self, classes):
        model = random_model()
        rows = speech(model, np.array(classes))
        wanted, covariances = conditioned(model, rows, np.array(classes))
        for found in (
            model.given(rows, np.eye(CLASSES)[classes]),
            model.adapted(np.zeros((0, DIRECTIONS)), rows, np.array(classes)),
        ):
            assert found.means == pytest.approx(wanted, abs=1e-9)
            assert found.covariances == pytest.approx(covariances, abs=1e-9)

    def test_known_is_the_share_of_the_offsets_variance_that_is_gone(self):
        model = random_model()
        precision = np.linalg.inv(model.between)
        found = model.given(np.zeros((3, DIRECTIONS)), np.eye(CLASSES)[[0, 0, 0]])
        inner = np.linalg.inv(precision + np.diag(1 / (model.interaction[0] + 1 / 3)))
        assert found.known == pytest.approx(1.0 - np.trace(precision @ inner) / DIRECTIONS)

    def test_a_latent_class_counts_by_its_probability(self):
        """Utterances of every class, each by half, are as the half of their sums."""
        model = random_model()
        rows = speech(model, np.array([0, 1]))
        both = model.given(np.concatenate([rows, rows]), np.repeat(np.full((1, CLASSES), 0.125), 4, axis=0))
        once = model.given(rows, np.full((2, CLASSES), 0.25))
        assert both.means == pytest.approx(once.means)
        assert both.known == pytest.approx(once.known)

    def test_logits_are_the_log_densities_of_the_predictive_gaussians(self):
        model = random_model()
        rows = speech(model, np.array([0, 0, 1, 2]))
        found = model.given(rows, np.eye(CLASSES)[[0, 0, 1, 2]])
        asked = speech(model, np.arange(CLASSES), seed=5)
        logits = found.logits(asked)
        for number in range(CLASSES):
            covariance = found.covariances[number] + np.eye(DIRECTIONS)
            apart = asked - found.means[number]
            _, log_determinant = np.linalg.slogdet(covariance)
            quadratic = np.einsum("nk,kj,nj->n", apart, np.linalg.inv(covariance), apart)
            assert logits[:, number] == pytest.approx(-0.5 * (quadratic + log_determinant))

    def test_with_nothing_known_they_are_those_of_lda(self):
        model = random_model()
        covariance = np.eye(DIRECTIONS) + model.between + np.diag(model.interaction[0])
        solved = np.linalg.solve(covariance, model.class_means.T)
        asked = 3.0 * np.random.default_rng(3).normal(size=(20, DIRECTIONS))
        lda = asked @ solved - 0.5 * (model.class_means.T * solved).sum(axis=0)
        logits = model.prior().logits(asked)
        # Up to a constant for each utterance.
        assert logits - logits[:, :1] == pytest.approx(lda - lda[:, :1])
        assert model.prior().known == 0.0
        assert model.prior().means == pytest.approx(model.class_means)

    def test_known_grows_with_utterances_and_stays_below_one(self):
        model = random_model()
        rows = speech(model, np.arange(60) % CLASSES)
        known = [model.adapted(rows[:count]).known for count in (0, 1, 2, 5, 20, 60)]
        assert known[0] == 0.0
        assert known == sorted(set(known))
        assert 0.5 < known[-1] < 1.0

    def test_the_order_of_utterances_does_not_matter(self):
        model = random_model()
        rows = speech(model, np.arange(12) % CLASSES)
        clips, classes = speech(model, np.array([0, 2, 2]), seed=2), np.array([0, 2, 2])
        one = model.adapted(rows, clips, classes)
        other = model.adapted(rows[::-1], clips[::-1], classes[::-1])
        assert other.means == pytest.approx(one.means)
        assert other.covariances == pytest.approx(one.covariances)

    def test_many_utterances_move_the_offset_to_the_speakers(self):
        model = random_model()
        offset = np.array([3.0, -2.0, 1.0])
        classes = np.arange(200) % CLASSES
        rows = model.class_means[classes] + offset + np.random.default_rng(0).normal(size=(200, DIRECTIONS))
        moved = model.adapted(rows).means - model.class_means
        assert moved.mean(axis=0) == pytest.approx(offset, abs=0.3)

    def test_labelled_clips_move_their_class_mean_most(self):
        model = random_model()
        place = model.class_means[1] + 4.0
        found = model.adapted(np.zeros((0, DIRECTIONS)), np.repeat(place[None], 30, axis=0), np.full(30, 1))
        moved = np.linalg.norm(found.means - model.class_means, axis=1)
        assert np.linalg.norm(found.means[1] - place) < 0.1
        assert moved[1] == moved.max()
        # The offset is shared: the other classes follow, but less.
        assert (moved > 0.5).all()
        assert np.trace(found.covariances[1]) < 0.5 * min(np.trace(found.covariances[number]) for number in (0, 2, 3))

    @pytest.mark.parametrize("count", [1, 5, 30])
    def test_utterances_of_one_class_do_not_move_the_offset_to_it(self, count):
        """A plain mean would move the offset by the whole class mean; the latent class explains it."""
        means = np.array([[6.0, 0.0], [0.0, 6.0], [-6.0, -6.0]])
        interaction = np.repeat([[0.1, 0.1]], 3, axis=0)
        model = SpeakerModel(np.eye(2, dtype=np.float32), np.zeros(2), means, np.eye(2), interaction, 1.0)
        # The speaker is the average one, and shows the first class only.
        rows = means[0] + np.random.default_rng(0).normal(size=(count, 2))
        plain = np.linalg.norm(model.given(rows, np.full((count, 3), 1 / 3)).means - means, axis=1)
        found = model.adapted(rows)
        assert (plain[1:] > 2.5).all()
        assert (np.linalg.norm(found.means - means, axis=1) < 0.2 * plain).all()
        assert found.logits(means[:1]).argmax() == 0
        assert softmax(found.logits(means))[range(3), range(3)].min() > 0.9

    def test_clips_decide_what_the_classes_of_utterances_are(self):
        """Two readings of the same utterances, of which labelled clips leave one."""
        means = np.array([[3.0], [-3.0]])
        model = SpeakerModel(
            np.ones((1, 1), np.float32), np.zeros(1), means, np.array([[25.0]]), np.full((2, 1), 0.1), 1.0
        )
        rows = np.random.default_rng(0).normal(size=(20, 1))
        first = model.adapted(rows, np.array([[0.0]] * 5), np.zeros(5, int))
        second = model.adapted(rows, np.array([[0.0]] * 5), np.ones(5, int))
        assert first.logits(rows).argmax(axis=1).tolist() == [0] * 20
        assert second.logits(rows).argmax(axis=1).tolist() == [1] * 20

    def test_reduced_statistics_are_of_the_deviation_from_the_origin(self):
        model = random_model()
        assert model.reduced(model.origin) == pytest.approx(np.zeros(DIRECTIONS))
        rows = np.random.default_rng(0).normal(size=(5, STATISTICS))
        assert model.reduced(rows) == pytest.approx((rows - model.origin) @ model.projection.T)
        assert model.reduced(rows.mean(axis=0)) == pytest.approx(model.reduced(rows).mean(axis=0))


class TestMoreClasses:
    def test_none_is_the_same_model(self):
        model = random_model()
        assert model.with_classes(0) is model

    def test_nothing_is_known_of_them(self):
        model = random_model()
        wider = model.with_classes(2)
        assert wider.class_means[:CLASSES] == pytest.approx(model.class_means)
        assert wider.class_means[CLASSES:] == pytest.approx(np.repeat(model.class_means.mean(axis=0)[None], 2, axis=0))
        spread = model.class_means.var(axis=0)
        assert wider.interaction[CLASSES:] == pytest.approx(np.repeat(model.interaction[:1] + spread, 2, axis=0))
        assert wider.interaction[:CLASSES] == pytest.approx(model.interaction)
        assert wider.softness == model.softness

    def test_clips_find_them(self):
        model = random_model()
        wider = model.with_classes(1)
        place = model.class_means.mean(axis=0) + np.array([4.0, 4.0, -4.0])
        clips = place + np.random.default_rng(0).normal(size=(8, DIRECTIONS))
        found = wider.adapted(np.zeros((0, DIRECTIONS)), clips, np.full(8, CLASSES))
        wanted, covariances = conditioned(wider, clips, np.full(8, CLASSES))
        assert found.means == pytest.approx(wanted, abs=1e-9)
        assert found.covariances == pytest.approx(covariances, abs=1e-9)
        assert found.logits(place[None]).argmax() == CLASSES


class TestAdaptation:
    @staticmethod
    def said(rows):
        return [Utterance(row, np.zeros(0)) for row in rows]

    def test_it_is_the_posterior_of_its_utterances_and_clips(self):
        model = random_model()
        rows, clips = speech(model, np.arange(9) % CLASSES), speech(model, np.array([1, 3]), seed=2)
        adaptation = SpeakerAdaptation(model, self.said(rows[:4]), list(clips), [1, 3])
        assert adaptation.posterior.known == pytest.approx(model.adapted(rows[:4], clips, np.array([1, 3])).known)
        before = adaptation.posterior
        more = adaptation.with_utterances(self.said(rows[4:]))
        for row in rows[4:]:
            adaptation.update(Utterance(row, np.zeros(0)))
        wanted = model.adapted(rows, clips, np.array([1, 3]))
        for found in (adaptation, more):
            assert found.count == 9
            assert found.posterior.means == pytest.approx(wanted.means)
            assert found.posterior.known > before.known

    def test_nothing_known_is_the_prior(self):
        model = random_model()
        assert SpeakerAdaptation(model).count == 0
        assert SpeakerAdaptation(model).posterior.means == pytest.approx(model.class_means)

    def test_a_copy_is_independent(self):
        model = random_model()
        rows = speech(model, np.arange(4))
        first = SpeakerAdaptation(model, self.said(rows[:1]))
        second = first.with_utterances(self.said(rows[1:]))
        second.update(Utterance(rows[0], np.zeros(0)))
        assert (first.count, second.count) == (1, 5)

    def test_only_the_most_recent_ones_are_kept(self):
        model = random_model()
        rows = np.random.default_rng(0).normal(size=(MEMORY + 25, DIRECTIONS))
        grown = SpeakerAdaptation(model)
        for row in rows:
            grown.update(Utterance(row, np.zeros(0)))
        whole = SpeakerAdaptation(model, self.said(rows))
        added = SpeakerAdaptation(model, self.said(rows[:40])).with_utterances(self.said(rows[40:]))
        for found in (grown, whole, added):
            assert found.count == MEMORY
            assert np.stack([each.reduced for each in found.utterances]) == pytest.approx(rows[-MEMORY:])

    def test_its_embedding_is_the_mean(self):
        rows = np.random.default_rng(0).normal(size=(4, 5))
        adaptation = SpeakerAdaptation(random_model(), [Utterance(np.zeros(DIRECTIONS), row) for row in rows])
        assert adaptation.embedding == pytest.approx(rows.mean(axis=0))


def content_of(model, **parts):
    """Return the file of a model, with some parts exchanged."""
    named = {
        "projection": model.projection,
        "class_means": model.class_means,
        "between": model.between,
        "interaction": model.interaction[0],
    } | parts
    return b"".join(np.asarray(each, "<f4").tobytes() for each in named.values())


def with_value(array, place, value):
    changed = np.array(array, np.float64)
    changed[place] = value
    return changed


MODEL = plain_speaker_model()


class TestFile:
    def test_there_and_back(self):
        model = random_model()
        content = model.dump()
        assert content == content_of(model)
        assert len(content) == 4 * model_size(DIRECTIONS, STATISTICS, CLASSES)
        again = read_model(content, model.origin, CLASSES, model.softness, "f")
        assert np.array_equal(again.projection, model.projection)
        assert again.class_means == pytest.approx(model.class_means, rel=1e-6)
        assert again.between == pytest.approx(model.between, rel=1e-6)
        assert again.interaction == pytest.approx(model.interaction, rel=1e-6)
        assert again.softness == model.softness
        assert np.array_equal(again.origin, model.origin)
        assert again.dump() == content

    def test_a_bundle_has_it(self, tmp_path):
        bundle = load_bundle(save_speaker_bundle(tmp_path / "bundle"))
        assert bundle.speaker_model is not None
        assert bundle.speaker_model.dump() == MODEL.dump()
        assert bundle.speaker_model.softness == MODEL.softness
        assert bundle.speaker_model.origin == pytest.approx(bundle.reference()[0])

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ({"projection": with_value(MODEL.projection, (1, 2), np.nan)}, "that is not a number"),
            ({"class_means": with_value(MODEL.class_means, (0, 0), np.inf)}, "that is not a number"),
            ({"class_means": with_value(MODEL.class_means, (0, 0), -2 * LARGEST_STATISTIC)}, "is beyond 1e.06"),
            ({"between": [[1.0, 1.0], [1.0, 1.0]]}, "variances are not positive"),
            ({"between": [[1.0, 2.0], [2.0, 1.0]]}, "variances are not positive"),
            ({"between": [[-1.0, 0.0], [0.0, -1.0]]}, "variances are not positive"),
            ({"between": np.zeros((2, 2))}, "variances are not positive"),
            ({"between": [[1.0, 0.0], [0.0, 1e-12]]}, "variances are not positive"),
            ({"between": [[2.0, 0.5], [0.0, 2.0]]}, "variances are not positive"),
            # Nearly symmetric; the factor of its lower half exists, and its mean with the upper half is singular.
            ({"between": [[1.0, 1.0005], [0.9999, 1.0]]}, "variances are not positive"),
            ({"interaction": [0.5, 0.0]}, "variances are not positive"),
            ({"interaction": [-0.5, 0.5]}, "variances are not positive"),
        ],
    )
    def test_values_that_are_refused(self, tmp_path, parts, message):
        folder = save_speaker_bundle(tmp_path / "bundle", content_of(MODEL, **parts))
        with pytest.raises(EdgeemoError, match=rf"speaker-model\.f32: .*{message}.*do not trust this bundle$"):
            load_bundle(folder)

    @pytest.mark.parametrize("size", [0, 4, len(MODEL.dump()) - 4, len(MODEL.dump()) - 1, len(MODEL.dump()) + 4])
    def test_another_size(self, tmp_path, size):
        folder = save_speaker_bundle(tmp_path / "bundle", (MODEL.dump() + bytes(8))[:size])
        with pytest.raises(
            EdgeemoError, match=rf"has {size} bytes, and a model of 2 directions has {len(MODEL.dump())};"
        ):
            load_bundle(folder)

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"directions": 3}, "a model of 3 directions"),
            ({"directions": 0}, "'speaker.directions'"),
            ({"directions": 513}, "'speaker.directions'"),
            ({"directions": 10**30}, "too large|'speaker.directions'"),
            ({"softness": 0.5}, "'speaker.softness'"),
            ({"softness": 1e4}, "'speaker.softness'"),
            ({"softness": None}, "'speaker.softness'"),
        ],
    )
    def test_a_manifest_that_does_not_fit(self, tmp_path, said, message):
        folder = save_speaker_bundle(tmp_path / "bundle", **said)
        with pytest.raises(EdgeemoError, match=message):
            load_bundle(folder)

    def test_a_missing_file(self, tmp_path):
        folder = save_speaker_bundle(tmp_path / "bundle")
        change(folder, lambda content: content["files"].pop())
        with pytest.raises(EdgeemoError, match=r"names no speaker-model\.f32"):
            load_bundle(folder)

    def test_a_changed_file(self, tmp_path):
        folder = save_speaker_bundle(tmp_path / "bundle")
        (folder / SPEAKER_MODEL).write_bytes(content_of(MODEL, interaction=[0.5, 0.75]))
        with pytest.raises(EdgeemoError, match=SPEAKER_MODEL):
            load_bundle(folder)

    def test_without_a_speaker_entry_it_is_not_read(self, tmp_path):
        folder = save_speaker_bundle(tmp_path / "bundle", b"")
        change(folder, lambda content: content.pop("speaker"))
        assert load_bundle(folder).speaker_model is None

    @pytest.mark.parametrize("seed", range(8))
    def test_what_is_accepted_gives_numbers(self, seed):
        """Extreme values, up to those that are refused: the posterior of a hostile model is of numbers still."""
        random = np.random.default_rng(seed)
        root = random.normal(size=(2, 2)) * 10.0 ** random.uniform(-3, 3, size=(2, 1))
        between = np.clip(root @ root.T * 10.0 ** random.uniform(-20, 0), -9e5, 9e5)
        content = content_of(
            MODEL,
            projection=random.uniform(-1e6, 1e6, size=(2, SIZE)),
            class_means=random.uniform(-1e6, 1e6, size=(len(LABELS), 2)),
            between=between,
            interaction=10.0 ** random.uniform(-30, 5, size=2),
        )
        try:
            model = read_model(content, np.zeros(SIZE), len(LABELS), 1.0, "f")
        except EdgeemoError:
            pytest.skip("this one is refused")
        rows = model.reduced(random.uniform(-1e6, 1e6, size=(70, SIZE)))
        found = model.with_classes(1).adapted(rows, rows[:3], np.array([0, 1, len(LABELS)]))
        assert np.isfinite(found.logits(rows)).all()
        assert 0.0 <= found.known <= 1.0


def test_files_of_a_bundle_are_hashed_with_it(tmp_path):
    """The same bundle with another model is another bundle, so that a profile of one is refused by the other."""
    one = load_bundle(save_speaker_bundle(tmp_path / "one"))
    other = load_bundle(save_speaker_bundle(tmp_path / "other", content_of(MODEL, interaction=[0.5, 0.75])))
    assert one.hash != other.hash
    folder = save_speaker_bundle(tmp_path / "two")
    add_file(folder, "more.txt", b"x")
    assert load_bundle(folder).speaker_model is not None

"""A speaker's profile: the file, what is refused of it, and where it is kept."""

import base64
import json
import os
import resource
import stat
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import MAX_DIRECTIONS
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.speakers.profile import MAX_ADDED, MAX_CLIPS, Profile, parse_profile
from edge_runtime.speakers.profile_store import (
    LARGEST_FILE,
    load_profile,
    profile_names,
    profile_path,
    profiles_directory,
    read_profile,
    remove_profile,
    remove_profiles,
    save_profile,
    stamp,
)
from edge_runtime.speakers.speaker_adaptation import MEMORY, Utterance
from tests.command import python
from tests.conftest import need
from tests.fuzzing import FEW, changed, damaged

need("onnx")

from tests.plain_bundles import LABELS, plain_speaker_model, save_plain_bundle, save_speaker_bundle  # noqa: E402

DIRECTIONS = 2


def utterances(count, size=0, seed=0):
    """Return utterances whose numbers float32 holds, so that a file gives the same ones."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, DIRECTIONS + size)).astype(np.float32).astype(np.float64)
    return tuple(Utterance(row[:DIRECTIONS], row[DIRECTIONS:]) for row in rows)


def clips(*values):
    return tuple(np.full(DIRECTIONS, value) for value in values)


HELD = Profile(
    name="anna",
    bundle="0123456789abcdef" * 4,
    created="2026-01-01T00:00:00+00:00",
    updated="2026-01-02T00:00:00+00:00",
    labels=LABELS,
    directions=DIRECTIONS,
    utterances=(Utterance(np.array([1.5, -2.25]), np.zeros(0)), Utterance(np.array([0.0, 1e6]), np.zeros(0))),
    clips=clips(0.5, -1.0, 4.0),
    clip_labels=("sad", "calm", "sad"),
    added=("calm",),
)
CONTENT = json.loads(HELD.dump())


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(save_speaker_bundle(tmp_path_factory.mktemp("speaker") / "bundle"))


def numbers(*values, kind="<f4"):
    return base64.b64encode(np.array(values, kind).tobytes()).decode()


def same(one, other):
    return one.dump() == other.dump()


class TestFile:
    def test_it_is_small(self):
        random = np.random.default_rng(0)
        numbers_of = [random.normal(size=MAX_DIRECTIONS) for _ in range(MEMORY + MAX_CLIPS)]
        large = replace(
            HELD,
            directions=MAX_DIRECTIONS,
            embedding_size=MAX_DIRECTIONS,
            utterances=tuple(Utterance(row, row) for row in numbers_of[:MEMORY]),
            clips=tuple(numbers_of[MEMORY:]),
            clip_labels=("calm",) * MAX_CLIPS,
        )
        raw = large.dump().encode()
        assert len(raw) < LARGEST_FILE / 4
        assert same(parse_profile(raw, "f"), large)

    def test_it_is_readable(self):
        assert {key: value for key, value in CONTENT.items() if not isinstance(value, str)} == {
            "labels": list(LABELS), "added": ["calm"], "directions": 2, "embedding_size": 0,
            "clip_labels": ["sad", "calm", "sad"],
        }  # fmt: skip
        assert CONTENT["utterances"] == numbers(1.5, -2.25, 0.0, 1e6)
        assert CONTENT["clips"] == numbers(0.5, 0.5, -1, -1, 4, 4)
        assert CONTENT["embeddings"] == ""

    def test_embeddings_belong_to_their_utterances(self):
        held = replace(HELD, embedding_size=3, utterances=utterances(4, 3))
        again = parse_profile(held.dump().encode(), "f")
        assert same(again, held)
        for found, wanted in zip(again.utterances, held.utterances, strict=True):
            assert np.array_equal(found.reduced, wanted.reduced)
            assert np.array_equal(found.embedding, wanted.embedding)

    def test_a_newer_minor_version_may_say_more(self):
        content = CONTENT | {"schema_version": "3.9", "more": [1]}
        assert same(parse_profile(json.dumps(content).encode(), "f"), HELD)

    @pytest.mark.parametrize(
        ("edit", "expected"),
        [
            ({"schema_version": "2.0"}, "schema version '2.0'"),
            ({"name": "../anna"}, "'name': must be of letters"),
            ({"bundle": "short"}, "'bundle'"),
            ({"created": "yesterday"}, "'created': is not a date"),
            ({"updated": 5}, "'updated'"),
            ({"labels": ["x"]}, "'labels'"),
            ({"labels": [*LABELS, "x"]}, "its labels are not those of the bundle"),
            ({"labels": list(LABELS[::-1])}, "its labels are not those of the bundle"),
            ({"labels": [*LABELS, LABELS[0]]}, "'labels': names a label twice"),
            ({"added": ["calm", "calm"]}, "'labels': names a label twice"),
            ({"added": ["sad"], "clip_labels": ["sad"] * 3}, "'labels': names a label twice"),
            ({"added": [" calm"]}, "a label must be"),
            ({"added": ["calm", "bored"]}, "'clip_labels': are not its labels"),
            ({"added": []}, "'clip_labels': are not its labels"),
            ({"added": [f"x{n}" for n in range(MAX_ADDED + 1)]}, "'added'"),
            ({"clip_labels": ["sad", "calm", "proud"]}, "'clip_labels': are not its labels"),
            ({"clip_labels": ["sad", "calm"]}, "'clips': are 3, and its labels are 2"),
            ({"clip_labels": ["calm"] * (MAX_CLIPS + 1)}, "'clip_labels'"),
            ({"directions": 0}, "'directions'"),
            ({"directions": 513}, "'directions'"),
            ({"directions": "2"}, "'directions'"),
            ({"directions": 1, "clip_labels": ["sad", "calm"] * 3}, "have 1 and 0 numbers, not 2 and 0"),
            ({"directions": 3}, "'utterances': is 16 bytes, which are not rows of 3 float32"),
            ({"embedding_size": -1}, "'embedding_size'"),
            ({"embedding_size": 513}, "'embedding_size'"),
            ({"embedding_size": 1}, "'utterances': are 2 with 0 embeddings"),
            ({"embedding_size": 1, "embeddings": numbers(1)}, "'utterances': are 2 with 1 embeddings"),
            ({"embedding_size": 1, "embeddings": numbers(1, 2)}, "have 2 and 1 numbers, not 2 and 0"),
            ({"embeddings": numbers(1, 2)}, "'embeddings': is 8 bytes, which are not rows of 0"),
            ({"embedding_size": 1, "embeddings": numbers(1, np.nan)}, "'embeddings': has a value"),
            ({"utterances": "?"}, "'utterances': is not base64"),
            ({"utterances": "\u00e4"}, "'utterances': is not base64"),
            ({"utterances": numbers(1, 2, 3, kind="<f2")}, "'utterances': is 6 bytes"),
            ({"utterances": numbers(1, 2, 3)}, "'utterances': is 12 bytes"),
            ({"utterances": numbers(*[0.0] * DIRECTIONS * (MEMORY + 1))}, f"'utterances': are {MEMORY + 1}"),
            ({"utterances": numbers(*[0.0] * 1_000_000)}, "'utterances'"),
            ({"utterances": numbers(1, np.nan)}, "'utterances': has a value that is not a number"),
            ({"utterances": numbers(np.inf, 1)}, "'utterances': has a value that is not a number"),
            ({"utterances": numbers(1, 1.1e6)}, "beyond 1e+06"),
            ({"clips": numbers(1, 1, 1, 1, 1, np.nan)}, "'clips': has a value"),
            ({"clips": ""}, "'clips': are 0, and its labels are 3"),
        ],
    )
    def test_what_is_wrong_is_refused(self, edit, expected, bundle):
        content = CONTENT | {"bundle": bundle.hash} | edit
        with pytest.raises(EdgeemoError, match=r"^f: ") as refused:
            parse_profile(json.dumps(content).encode(), "f").require(bundle, "f")
        assert expected in refused.value.message
        assert "\n" not in refused.value.message

    @pytest.mark.parametrize("key", sorted(set(CONTENT)))
    def test_nothing_may_lack(self, key):
        content = {name: value for name, value in CONTENT.items() if name != key}
        with pytest.raises(EdgeemoError, match=key.replace("_", ".")):
            parse_profile(json.dumps(content).encode(), "f")

    @pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"null", b"{", b'{"name": NaN}', b'{"a": 1, "a": 2}'])
    def test_what_is_no_profile_at_all(self, raw):
        with pytest.raises(EdgeemoError):
            parse_profile(raw, "f")

    @given(changed(CONTENT))
    @FEW
    def test_changed_content_is_refused_or_harmless(self, content):
        try:
            raw = json.dumps(content).encode()
        except UnicodeEncodeError:
            return
        self._is_harmless(raw)

    @given(damaged(HELD.dump().encode(), longest=400))
    @FEW
    def test_damaged_bytes_are_refused_or_harmless(self, raw):
        self._is_harmless(raw)

    @staticmethod
    def _is_harmless(raw):
        try:
            profile = parse_profile(raw, "f")
        except EdgeemoError:
            return
        if (profile.directions, len(profile.labels)) == (DIRECTIONS, len(LABELS)):
            posterior = profile.adaptation(plain_speaker_model()).posterior
            assert np.isfinite(posterior.logits(np.zeros((1, DIRECTIONS)))).all()
            assert posterior.means.shape == (len(profile.all_labels), DIRECTIONS)
            assert 0 <= posterior.known < 1
        assert same(parse_profile(profile.dump().encode(), "f"), profile)


class TestBundle:
    def test_it_is_begun_with_nothing(self, bundle):
        begun = Profile.new("anna", bundle)
        begun.require(bundle, "f")
        assert same(parse_profile(begun.dump().encode(), "f"), begun)
        prior = begun.adaptation(bundle.speaker_model).posterior
        assert prior.known == 0
        assert prior.means == pytest.approx(bundle.speaker_model.class_means)

    def test_a_student_that_knows_no_speaker(self, tmp_path):
        with pytest.raises(WrongUseError, match="has no speaker model"):
            Profile.new("anna", load_bundle(save_plain_bundle(tmp_path / "bundle")))

    def test_another_bundle(self, bundle):
        with pytest.raises(EdgeemoError, match=r"is for the bundle 0123456789ab, not for .* profile rm anna"):
            HELD.require(bundle, "f")

    def test_a_hash_that_lies(self, bundle):
        fits = replace(HELD, bundle=bundle.hash)
        fits.require(bundle, "f")
        with pytest.raises(EdgeemoError, match="labels"):
            replace(fits, labels=("x", "y", "z")).require(bundle, "f")
        with pytest.raises(EdgeemoError, match="5 and 0 numbers, not 2 and 0"):
            replace(fits, directions=5).require(bundle, "f")
        with pytest.raises(EdgeemoError, match="2 and 7 numbers, not 2 and 0"):
            replace(fits, embedding_size=7).require(bundle, "f")

    def test_what_is_learnt_goes_in_and_comes_out(self, bundle):
        known = Profile.new("anna", bundle).adaptation(bundle.speaker_model)
        for each in utterances(7):
            known.update(each)
        changed_one = Profile.new("anna", bundle).updated_with(known)
        again = parse_profile(changed_one.dump().encode(), "f").adaptation(bundle.speaker_model)
        assert again.count == 7
        assert again.posterior.means == pytest.approx(known.posterior.means, rel=1e-6)
        assert again.posterior.known == pytest.approx(known.posterior.known)


class TestClips:
    def test_they_go_in_and_come_out(self, bundle):
        taught = Profile.new("anna", bundle).taught(clips(1.0, 6.0, -6.0), ("sad", "calm", "proud"))
        taught = taught.taught(clips(7.0), ("calm",))
        assert taught.added == ("calm", "proud")
        assert taught.all_labels == (*LABELS, "calm", "proud")
        again = parse_profile(taught.dump().encode(), "f")
        assert same(again, taught)
        known = again.adaptation(bundle.speaker_model)
        assert known.classes == [2, 3, 4, 3]
        assert len(known.model.class_means) == len(LABELS) + 2
        assert np.stack(known.clips) == pytest.approx(np.stack(clips(1.0, 6.0, -6.0, 7.0)))
        # Clips of a new class make it the nearest one where they are.
        assert known.posterior.logits(np.stack(clips(6.5, -6.0))).argmax(axis=1).tolist() == [3, 4]

    def test_utterances_stay(self):
        assert HELD.taught(clips(1.0), ("happy",)).utterances == HELD.utterances

    def test_no_more_than_there_may_be(self):
        room = MAX_CLIPS - len(HELD.clips)
        full = HELD.taught(clips(*[1.0] * room), ("sad",) * room)
        assert same(parse_profile(full.dump().encode(), "f"), full)
        with pytest.raises(WrongUseError, match=f"more than {MAX_CLIPS} clips"):
            full.taught(clips(1.0), ("sad",))

    def test_no_more_labels_than_there_may_be(self):
        names = tuple(f"x{number}" for number in range(MAX_ADDED - 1))
        full = HELD.taught(clips(*[1.0] * len(names)), names)
        assert same(parse_profile(full.dump().encode(), "f"), full)
        with pytest.raises(WrongUseError, match=f"more than {MAX_ADDED} labels of its own"):
            full.taught(clips(1.0), ("one more",))

    @pytest.mark.parametrize("label", ["", " x", "x\n", "\x1b[2J", "x" * 65])
    def test_labels_are_labels(self, label):
        with pytest.raises(WrongUseError) as refused:
            HELD.taught(clips(1.0), (label,))
        assert refused.value.message.isprintable()

    def test_cleared_is_empty(self, bundle):
        empty = replace(HELD, bundle=bundle.hash).cleared()
        assert same(parse_profile(empty.dump().encode(), "f"), empty)
        assert (empty.utterances, empty.clips, empty.clip_labels, empty.added) == ((), (), (), ())
        assert empty.all_labels == LABELS
        assert empty.adaptation(bundle.speaker_model).posterior.known == 0


def older(profile):
    return replace(profile, updated="2025-06-01T00:00:00+00:00")


class TestMerge:
    def test_utterances_and_clips_of_both(self):
        other = replace(
            older(HELD), name="b", utterances=utterances(4), clips=clips(7.0, 8.0), clip_labels=("proud", "calm"),
            added=("proud", "calm"), created="2025-01-01T00:00:00+00:00",
        )  # fmt: skip
        for both in (HELD.merged(other, "c"), other.merged(HELD, "c")):
            assert (both.name, both.bundle, both.created) == ("c", HELD.bundle, other.created)
            assert both.updated > HELD.updated
            # The most recent ones last.
            assert both.utterances == (*other.utterances, *HELD.utterances)
            assert dict.fromkeys(both.added) == {"proud": None, "calm": None}
            said = sorted((label, float(clip[0])) for label, clip in zip(both.clip_labels, both.clips, strict=True))
            assert said == [("calm", -1.0), ("calm", 8.0), ("proud", 7.0), ("sad", 0.5), ("sad", 4.0)]
            assert same(parse_profile(both.dump().encode(), "f"), both)

    @pytest.mark.parametrize(
        ("first", "second", "kept"),
        [(MEMORY, MEMORY, (MEMORY // 2, MEMORY // 2)), (MEMORY, 5, (MEMORY - 5, 5)), (5, MEMORY, (5, MEMORY - 5)),
         (MEMORY, 0, (MEMORY, 0)), (20, 25, (20, 25))],
    )  # fmt: skip
    def test_no_more_than_the_memory_holds(self, first, second, kept):
        one, two = utterances(first, seed=1), utterances(second, seed=2)
        both = older(replace(HELD, utterances=one)).merged(replace(HELD, utterances=two), "c")
        assert both.utterances == (*one[first - kept[0] :], *two[second - kept[1] :])

    def test_a_clip_of_both_counts_once(self):
        both = HELD.merged(older(replace(HELD, name="b")), "c")
        assert both.clip_labels == HELD.clip_labels
        assert same(replace(both, name=HELD.name, utterances=HELD.utterances, updated=HELD.updated), HELD)

    def test_nothing_and_nothing(self):
        empty = older(HELD.cleared())
        assert empty.merged(empty, "c").utterances == ()
        both = empty.merged(HELD, "c")
        assert both.utterances == HELD.utterances
        assert (both.clip_labels, both.added) == (HELD.clip_labels, HELD.added)

    def test_too_much_together(self):
        many, others = (HELD.taught(clips(*[value] * 150), ("sad",) * 150) for value in (1.0, 2.0))
        with pytest.raises(WrongUseError, match=f"more than {MAX_CLIPS} clips"):
            many.merged(others, "c")
        one, two = (
            HELD.taught(clips(*[1.0] * 15), tuple(f"{name}{number}" for number in range(15))) for name in ("x", "y")
        )
        with pytest.raises(WrongUseError, match=f"more than {MAX_ADDED} labels"):
            one.merged(two, "c")

    @pytest.mark.parametrize(
        "other",
        [{"bundle": "f" * 64}, {"labels": LABELS[::-1]}, {"directions": 3},
         {"embedding_size": 4, "utterances": utterances(3, 4)}],
    )  # fmt: skip
    def test_numbers_that_cannot_be_compared(self, other):
        with pytest.raises(WrongUseError, match="different bundles"):
            HELD.merged(replace(HELD, **other), "c")


class TestStore:
    def test_it_is_kept_for_its_owner_alone(self, tmp_path):
        before = os.umask(0)
        try:
            save_profile(HELD)
            save_profile(HELD)
        finally:
            os.umask(before)
        path = tmp_path / "data/edgeemo/profiles/anna.json"
        assert profile_path("anna") == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert same(load_profile("anna"), HELD)
        assert [each.name for each in path.parent.iterdir()] == ["anna.json"]

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", ".x", "a b", "a\0", "ä", "x" * 65, "a\n"])
    def test_names_are_names(self, name):
        for use in (load_profile, remove_profile, stamp):
            with pytest.raises(WrongUseError, match="name of a profile must be of letters"):
                use(name)

    def test_none_is_there(self):
        assert profile_names() == []
        assert stamp("anna") is None
        assert not remove_profile("anna")
        assert remove_profiles() == 0
        with pytest.raises(EdgeemoError, match="no such profile"):
            load_profile("anna")

    def test_a_link_a_pipe_and_a_directory_are_no_profile(self, tmp_path):
        save_profile(HELD)
        (tmp_path / "elsewhere.json").write_text(HELD.dump())
        folder = profiles_directory()
        (folder / "link.json").symlink_to(tmp_path / "elsewhere.json")
        os.mkfifo(folder / "pipe.json")
        (folder / "folder.json").mkdir()
        for name in ("link", "pipe", "folder"):
            with pytest.raises(EdgeemoError, match="is not a regular file"):
                load_profile(name)
        assert profile_names() == ["anna", "folder", "link", "pipe"]

    def test_a_file_that_is_too_large(self, tmp_path):
        path = tmp_path / "large.json"
        path.write_bytes(HELD.dump().encode() + b" " * LARGEST_FILE)
        with pytest.raises(EdgeemoError, match="larger than 4 MB"):
            read_profile(path)

    def test_a_file_under_another_name(self):
        save_profile(HELD)
        profile_path("anna").rename(profile_path("bob"))
        with pytest.raises(EdgeemoError, match="holds the profile 'anna'"):
            load_profile("bob")

    def test_a_full_disk_keeps_the_older_one(self, tmp_path):
        """The system itself refuses, after a part of the file, as on a full disk (EFBIG of RLIMIT_FSIZE)."""
        save_profile(HELD)
        (tmp_path / "next.json").write_text(HELD.taught(clips(*[1.0] * 150), ("sad",) * 150).dump())
        code = (
            "import sys; from pathlib import Path\n"
            "from edge_runtime.speakers.profile_store import read_profile, save_profile\n"
            "save_profile(read_profile(Path(sys.argv[1])))"
        )
        limit = (resource.RLIMIT_FSIZE, (2_000, 2_000))
        done = python("-c", code, tmp_path / "next.json", preexec_fn=lambda: resource.setrlimit(*limit))
        assert "EdgeemoError" in done.stderr
        assert "cannot be written" in done.stderr
        assert same(load_profile("anna"), HELD)
        assert len(list(profiles_directory().iterdir())) == 1

    def test_removed_is_removed(self):
        for name in ("anna", "anna.json", "bob"):
            save_profile(replace(HELD, name=name))
        # What a process left that was killed while it wrote.
        (profiles_directory() / ".anna.json.abcd_123.json").write_text(HELD.dump())
        (profiles_directory() / ".anna.json.json.abcd_123.json").write_text(HELD.dump())
        assert remove_profile("anna")
        names = sorted(path.name for path in profiles_directory().iterdir())
        assert names == [".anna.json.json.abcd_123.json", "anna.json.json", "bob.json"]
        (profiles_directory() / "no name.json").write_text("")
        assert remove_profiles() == 3
        assert list(profiles_directory().iterdir()) == []

    def test_versions_differ_by_their_stamps(self):
        save_profile(HELD)
        first = stamp("anna")
        assert stamp("anna") == first
        save_profile(HELD)
        assert stamp("anna") != first

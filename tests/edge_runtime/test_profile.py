"""A speaker's profile: the file, what is refused of it, and where it is kept."""

import base64
import json
import os
import resource
import stat
from dataclasses import replace

import numpy as np
import pytest
from edge_runtime.speakers.speaker_mean import MEMORY
from hypothesis import given

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.speakers.profile import Profile, parse_profile
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
from tests.command import python
from tests.conftest import need
from tests.fuzzing import FEW, changed, damaged

need("onnx")

from tests.plain_bundles import LABELS, SIZE, change, save_plain_bundle, save_speaker_bundle  # noqa: E402

HELD = Profile(
    name="anna",
    bundle="0123456789abcdef" * 4,
    created="2026-01-01T00:00:00+00:00",
    updated="2026-01-02T00:00:00+00:00",
    trust=3.0,
    labels=LABELS,
    count=12.0,
    emotion_shares=np.array([0.5, 0.25, 0.25]),
    mean=np.array([1.5, -2.25, 1e-8, 1e6], np.float32),
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
        large = replace(HELD, mean=np.random.default_rng(0).normal(size=4096).astype(np.float32))
        assert len(large.dump()) < 23_000

    def test_a_newer_minor_version_may_say_more(self):
        content = CONTENT | {"schema_version": "2.9", "more": [1]}
        assert same(parse_profile(json.dumps(content).encode(), "f"), HELD)

    @pytest.mark.parametrize(
        ("edit", "expected"),
        [
            ({"schema_version": "1.0"}, "schema version '1.0'"),
            ({"name": "../anna"}, "'name': must be of letters"),
            ({"bundle": "short"}, "'bundle'"),
            ({"created": "yesterday"}, "'created': is not a date"),
            ({"trust": 0.0}, "'trust'"),
            ({"trust": "3"}, "'trust'"),
            ({"count": -1.0}, "'count'"),
            ({"count": MEMORY + 1}, "'count'"),
            ({"count": 0.0}, "'emotion_shares': the probabilities add up to 1"),
            ({"emotion_shares": {"a": 0.5, "b": 0.4}}, "'emotion_shares': the probabilities add up to 0.9"),
            ({"emotion_shares": {"a": 1.5, "b": -0.5}}, "'emotion_shares.a'"),
            ({"emotion_shares": {"a": 1.0}}, "'emotion_shares'"),
            ({"emotion_shares": {" a": 0.5, "b": 0.5}}, "a label must be"),
            ({"mean": "?"}, "'mean': is not base64"),
            ({"mean": ""}, "not a vector of float32"),
            ({"mean": numbers(1, 2, 3, kind="<f2")}, "is 6 bytes"),
            ({"mean": numbers(1, 2, 3)}, "3 numbers, not 4"),
            ({"mean": numbers(*[0.0] * 65_537)}, "not a vector of float32"),
            ({"mean": numbers(1, np.nan, 1, 1)}, "has a value that is not a number"),
            ({"mean": numbers(1, 1.1e6, 1, 1)}, "beyond 1e+06"),
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

    @pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"null", b"{", b'{"count": NaN}', b'{"a": 1, "a": 2}'])
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
        default = np.zeros((1, len(profile.mean)), np.float32)
        assert np.isfinite(profile.speaker_mean(default).reference()).all()
        assert 0 <= profile.weight < 1
        assert same(parse_profile(profile.dump().encode(), "f"), profile)


class TestBundle:
    def test_it_is_begun_with_nothing(self, bundle):
        begun = Profile.new("anna", bundle)
        begun.require(bundle, "f")
        assert same(parse_profile(begun.dump().encode(), "f"), begun)
        assert begun.weight == 0
        assert np.array_equal(begun.speaker_mean(bundle.reference()).reference(), bundle.reference())

    def test_a_student_that_knows_no_speaker(self, tmp_path):
        with pytest.raises(WrongUseError, match="has no speaker normalisation"):
            Profile.new("anna", load_bundle(save_plain_bundle(tmp_path / "bundle")))

    def test_another_bundle(self, bundle):
        with pytest.raises(EdgeemoError, match=r"is for the bundle 0123456789ab, not for .* profile rm anna"):
            HELD.require(bundle, "f")

    def test_a_hash_that_lies(self, bundle):
        fits = replace(HELD, bundle=bundle.hash)
        fits.require(bundle, "f")
        with pytest.raises(EdgeemoError, match="labels"):
            replace(fits, labels=("x", "y", "z")).require(bundle, "f")
        with pytest.raises(EdgeemoError, match=f"5 numbers, not {SIZE}"):
            replace(fits, mean=np.zeros(5, np.float32)).require(bundle, "f")

    def test_what_is_learnt_goes_in_and_comes_out(self, bundle):
        known = Profile.new("anna", bundle).speaker_mean(bundle.reference())
        for row in np.random.default_rng(0).normal(size=(7, SIZE)):
            known.update(row, np.array([0.2, 0.3, 0.5]))
        taught = Profile.new("anna", bundle).updated_with(known)
        again = parse_profile(taught.dump().encode(), "f").speaker_mean(bundle.reference())
        assert again.count == 7
        assert again.reference() == pytest.approx(known.reference(), rel=1e-6)
        assert again.weight == pytest.approx(known.weight)


class TestMerge:
    def test_each_weighs_as_its_utterances(self):
        other = replace(
            HELD, name="b", count=4.0, emotion_shares=np.array([0.0, 0.0, 1.0]), mean=np.full(4, 8.0, np.float32)
        )
        both = HELD.merged(other, "c")
        assert (both.name, both.count) == ("c", 16)
        assert both.mean == pytest.approx((3 * HELD.mean + other.mean) / 4)
        assert both.emotion_shares == pytest.approx((3 * HELD.emotion_shares + other.emotion_shares) / 4)
        assert same(parse_profile(both.dump().encode(), "f"), both)

    def test_no_more_than_the_memory_holds(self):
        assert HELD.merged(replace(HELD, count=MEMORY), "c").count == MEMORY

    def test_nothing_and_nothing(self):
        empty = HELD.cleared()
        assert empty.merged(empty, "c").count == 0
        assert same(parse_profile(empty.dump().encode(), "f"), empty)
        assert empty.merged(HELD, "c").mean == pytest.approx(HELD.mean)


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
        (tmp_path / "next.json").write_text(replace(HELD, mean=np.zeros(4096, np.float32)).dump())
        code = (
            "import sys; from pathlib import Path\n"
            "from edge_runtime.speakers.profile_store import read_profile, save_profile\n"
            "save_profile(read_profile(Path(sys.argv[1])))"
        )
        limit = (resource.RLIMIT_FSIZE, (8_000, 8_000))
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


def test_the_bundle_itself_bounds_its_trust(tmp_path):
    folder = save_speaker_bundle(tmp_path / "bundle")
    change(folder, lambda content: content.update(speaker={"trust": 0}))
    with pytest.raises(EdgeemoError, match=r"speaker\.trust"):
        load_bundle(folder)

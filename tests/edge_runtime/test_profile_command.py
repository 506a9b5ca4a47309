"""`edgeemo profile`: listing, showing, moving and removing profiles of speakers."""

import json
import stat
from dataclasses import replace

import pytest
from click.testing import CliRunner

from edge_runtime.cli import main
from edge_runtime.speakers.profile import MAX_CLIPS
from edge_runtime.speakers.profile_store import load_profile, profile_names, profile_path, read_profile, save_profile
from tests.edge_runtime.test_profile import HELD as SHORT
from tests.edge_runtime.test_profile import clips, utterances

HELD = replace(SHORT, utterances=utterances(12))


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    save_profile(HELD)
    save_profile(replace(HELD.cleared(), name="bob", utterances=utterances(4, seed=1)))


def profile(*arguments, code=0, prints=""):
    done = CliRunner().invoke(main, ["profile", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    content = done.stderr.replace("\n", " ")
    assert prints in content
    if code:
        # One sentence, and no traceback.
        assert isinstance(done.exception, SystemExit)
        assert "Error: " in done.stderr
        assert done.stdout == ""
    return done.stdout


def test_list_has_all_fields():
    anna, bob = json.loads(profile("list", "--json"))
    assert anna == {
        "name": "anna", "utterances": 12, "clips": {"sad": 2, "calm": 1}, "bundle": HELD.bundle,
        "updated": HELD.updated,
    }  # fmt: skip
    assert (bob["name"], bob["utterances"], bob["clips"]) == ("bob", 4, {})
    assert "anna" in profile("list")


def test_list_goes_on_where_one_is_damaged():
    profile_path("bob").write_text("{")
    (profile_path("bob").parent / "[red] x.json").write_text("{")
    broken, anna, bob = json.loads(profile("list", "--json"))
    assert "the name of a profile must be" in broken["problem"]
    assert "problem" not in anna
    assert "is not valid JSON" in bob["problem"]
    assert "[red] x" in profile("list", prints="is not valid JSON")


def test_list_of_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    assert json.loads(profile("list", "--json")) == []
    profile("list", prints="no profiles in")
    assert not (tmp_path / "none").exists()


def test_show():
    content = json.loads(profile("show", "anna", "--json"))
    assert content["labels"] == ["angry", "happy", "sad", "calm"]
    assert content["added"] == ["calm"]
    assert content["clips"] == {"sad": 2, "calm": 1}
    assert content["created"] == HELD.created
    assert content["file"] == str(profile_path("anna"))
    assert "sad 2, calm 1" in profile("show", "anna")
    assert "none" in profile("show", "bob")
    profile("show", "carl", code=1, prints="no such profile")
    profile("show", "../carl", code=2, prints="name of a profile must be")


def test_export_and_import(tmp_path):
    file = tmp_path / "out.json"
    profile("export", "anna", file, prints="describe a voice")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_profile(file).dump() == HELD.dump()
    profile("export", "bob", file, code=2, prints="--replace")
    profile("export", "anna", tmp_path, code=2, prints="is a directory")
    profile("import", file, code=2, prints="a profile 'anna' already")
    profile("import", file, "--name", "a/b", code=2, prints="name of a profile must be")
    profile("import", file, "--name", "carl", prints="'carl' is saved: 12 utterances, 3 clips")
    assert load_profile("carl").dump() == replace(HELD, name="carl").dump()
    profile("export", "bob", file, "--replace")
    profile("import", file, "--replace")
    assert len(load_profile("bob").utterances) == 4


def test_a_poisoned_file_is_not_kept(tmp_path):
    file = tmp_path / "poisoned.json"
    file.write_text(HELD.dump().replace('"directions": 2', '"directions": 1e9').replace("anna", "carl"))
    profile("import", file, code=1, prints="'directions'")
    profile("import", tmp_path / "none.json", code=1, prints="none.json: there is no such file; check the path")
    assert profile_names() == ["anna", "bob"]


@pytest.mark.parametrize("content", ["RIFF", '{"schema_version": "3.0", "name": "carl", "bundle": "x"}'])
def test_an_unusable_file_ends_with_the_next_step(tmp_path, content):
    (tmp_path / "file").write_text(content)
    profile("import", tmp_path / "file", code=1, prints="; give a file that edgeemo profile export wrote")
    profile("import", tmp_path / "file" / "x", code=1, prints="(Not a directory); a file stands where a directory is")
    profile_path("bob").write_text(content)
    profile("show", "bob", code=1, prints="; begin a new one: edgeemo profile rm NAME, then edgeemo teach NAME")


def test_merge():
    profile("merge", "anna", "bob", "--into", "both")
    both = load_profile("both")
    assert (both.name, len(both.utterances), both.clip_labels) == ("both", 16, HELD.clip_labels)
    profile("merge", "anna", "bob", "--into", "both", code=2, prints="a profile 'both' already")
    profile("merge", "anna", "both", "--into", "anna")
    merged = load_profile("anna")
    assert (len(merged.utterances), merged.clip_labels, merged.added) == (28, HELD.clip_labels, ("calm",))
    profile("merge", "anna", "anna", "--into", "c", code=2, prints="name two")
    save_profile(replace(HELD, name="other", bundle="f" * 64))
    profile("merge", "anna", "other", "--into", "c", code=2, prints="different bundles")
    assert "c" not in profile_names()
    save_profile(replace(HELD, name="full").cleared().taught(clips(*[1.0] * MAX_CLIPS), ("sad",) * MAX_CLIPS))
    profile("merge", "anna", "full", "--into", "c", code=2, prints=f"more than {MAX_CLIPS} clips")


def test_reset_forgets_and_keeps_the_name():
    profile("reset", "anna")
    emptied = load_profile("anna")
    assert (emptied.name, emptied.bundle, emptied.labels) == ("anna", HELD.bundle, HELD.labels)
    assert (emptied.utterances, emptied.clips, emptied.clip_labels, emptied.added) == ((), (), (), ())


def test_rm():
    profile_path("bob").write_text("damaged")
    profile("rm", code=2, prints="or give --all")
    profile("rm", "anna", "--all", code=2, prints="or give --all")
    profile("rm", "anna", "x/y", code=2, prints="name of a profile must be")
    assert profile_names() == ["anna", "bob"]
    profile("rm", "bob", prints="1 deleted")
    profile("rm", "bob", code=1, prints="no such profile")
    save_profile(replace(HELD, name="carl"))
    profile("rm", "--all", prints="2 deleted")
    assert list(profile_path("anna").parent.iterdir()) == []

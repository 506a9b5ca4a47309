"""Bundles and profiles of version 0.1 open, or are refused in a sentence that says what to do; doctor finds stale ones.

`written_by_0_1` has manifests and profiles of each major schema version, written by the code of that time. The files
that manifests name are made anew, since the bytes of an ONNX file depend on the version of its library.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.bundles.manifest import SCHEMA_VERSION
from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.stale import bundles_in
from edge_runtime.errors import EdgeemoError
from edge_runtime.speakers.profile import SCHEMA_VERSION as PROFILE_VERSION
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_keeper import ProfileKeeper
from edge_runtime.speakers.profile_store import load_profile, profile_path, save_profile
from tests.conftest import invoke, tone
from tests.laid_out_systems import by_name
from tests.plain_bundles import change, save_plain_bundle, save_speaker_bundle

WRITTEN = Path(__file__).parent / "written_by_0_1"
EXPORT = "export its run again with this edgeemo: edgeemo export RUN --int8 --out BUNDLE"
BEGIN = "begin a new one: edgeemo profile rm NAME, then edgeemo teach NAME"


def versions(kind, major):
    """Return the versions of a kind of file that this edgeemo reads, and the older ones."""
    found = [path.stem.partition("-")[2] for path in sorted(WRITTEN.glob(f"{kind}-*.json"))]
    return [each for each in found if each[0] == major[0]], [each for each in found if each[0] != major[0]]


OPENS, REFUSED = versions("bundle", SCHEMA_VERSION)
PROFILE_OPENS, PROFILE_REFUSED = versions("profile", PROFILE_VERSION)


@pytest.fixture(autouse=True)
def _data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def bundle_of(version, folder):
    """Save a bundle with the manifest of a version."""
    save_speaker_bundle(folder)
    files = json.loads((folder / "bundle.json").read_text())["files"]
    shutil.copy(WRITTEN / f"bundle-{version}.json", folder / "bundle.json")
    change(folder, lambda content: content.update(files=files))
    return folder


def profile_of(version, bundle=None, name="anna"):
    """Save a profile of a version, for a bundle."""
    content = json.loads((WRITTEN / f"profile-{version}.json").read_text()) | {"name": name}
    if bundle is not None:
        content["bundle"] = bundle.hash
    path = profile_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def doctor(*arguments):
    done = invoke("doctor", *arguments, "--json")
    return done, by_name(Finding(**entry) for entry in json.loads(done.stdout)["findings"])


def test_there_is_a_file_of_each_version():
    assert {"1.5", "2.0", "3.0", "3.1"} <= {*OPENS, *REFUSED}
    assert {"1.0", "2.0", "3.0"} <= {*PROFILE_OPENS, *PROFILE_REFUSED}
    assert "3.1" in OPENS
    assert "3.0" in PROFILE_OPENS


class TestBundles:
    @pytest.mark.parametrize("version", OPENS)
    def test_one_of_this_major_version_runs(self, version, tmp_path):
        root = bundle_of(version, tmp_path / "bundle")
        loaded = load_bundle(root)
        assert loaded.manifest.schema_version == version
        assert loaded.speaker_model is not None
        soundfile.write(tmp_path / "clip.wav", tone(3.0), 16_000)
        done = invoke("listen", root, "--source", tmp_path / "clip.wav", "--no-vad", "--json")
        assert done.returncode == 0, done.stderr
        assert {json.loads(line).get("label") for line in done.stdout.splitlines()} & set(loaded.manifest.labels)

    @pytest.mark.parametrize("version", REFUSED)
    def test_an_older_one_is_refused_with_the_command_that_makes_it_anew(self, version, tmp_path):
        root = bundle_of(version, tmp_path / "bundle")
        sentence = f"Error: {root}/bundle.json: has schema version '{version}', and this edgeemo reads 3.x; {EXPORT}"
        done = invoke("listen", root, "--source", "x.wav")
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, sentence)

    def test_a_newer_one_asks_for_a_newer_edgeemo(self, tmp_path):
        root = save_plain_bundle(tmp_path / "bundle")
        for version in ("4.0", "10.2"):
            change(root, lambda content, version=version: content.update(schema_version=version))
            with pytest.raises(EdgeemoError, match=r"and this edgeemo reads 3\.x; install a newer edgeemo$"):
                load_bundle(root)


class TestProfiles:
    @pytest.mark.parametrize("version", PROFILE_OPENS)
    def test_one_of_this_major_version_is_used(self, version, tmp_path):
        bundle = load_bundle(bundle_of("3.0", tmp_path / "bundle"))
        profile_of(version, bundle)
        keeper = ProfileKeeper(bundle, "anna")
        assert keeper.added == ("calm",)
        adaptation = keeper.adaptation()
        assert np.array_equal(adaptation.utterances[0].reduced, [1.0, 2.0])
        assert adaptation.posterior.known > 0

    @pytest.mark.parametrize("version", PROFILE_REFUSED)
    def test_an_older_one_is_refused_and_its_remedy_works(self, version, tmp_path):
        root = save_speaker_bundle(tmp_path / "bundle")
        path = profile_of(version, load_bundle(root))
        soundfile.write(tmp_path / "clip.wav", tone(3.0), 16_000)
        listen = ("listen", root, "--source", tmp_path / "clip.wav", "--profile", "anna", "--json")
        sentence = f"{path}: has schema version '{version}', and this edgeemo reads 3.x; {BEGIN}"
        done = invoke(*listen)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"Error: {sentence}")
        (listed,) = json.loads(invoke("profile", "list", "--json").stdout)
        assert listed == {"name": "anna", "problem": sentence}
        assert invoke("profile", "rm", "anna").returncode == 0
        assert invoke(*listen).returncode == 0


class TestDoctor:
    def test_profiles_of_an_older_schema_and_for_another_bundle(self):
        default = load_bundle(DEFAULT_BUNDLE)
        save_profile(Profile.new("ben", default))
        profile_of("2.0", default, "old")
        profile_of("3.0", name="carl")
        profile_path("x").with_name("two words.json").write_text("{}")
        done, found = doctor()
        assert done.returncode == 0, done.stderr
        assert found["profiles"].found == f"{profile_path('ben').parent}: ben"
        assert found["profile old"].found.endswith(f"and this edgeemo reads 3.x; {BEGIN}")
        assert f"is for the bundle {load_profile('carl').bundle[:12]}, not for {default.hash[:12]}" in (
            found["profile carl"].found
        )
        for name in ("old", "carl"):
            finding = found[f"profile {name}"]
            assert (finding.state, finding.exit_code) == ("can be better", 0)
            assert finding.remedy == f"edgeemo profile rm {name}, then a new one with: edgeemo teach {name}"
        assert found["profile two words"].remedy == f"remove its file from {profile_path('x').parent}"

    def test_no_profile_is_no_finding(self):
        assert not [what for what in doctor()[1] if what.startswith("profile")]

    @pytest.mark.parametrize("stale", ["old schema", "another bundle", "no speaker model", ""])
    def test_a_stale_profile_of_the_settings_ends_as_listen_does(self, stale, tmp_path):
        save = save_plain_bundle if stale == "no speaker model" else save_speaker_bundle
        root = save(tmp_path / "bundle")
        if stale != "no speaker model":
            profile_of(
                "2.0" if stale == "old schema" else "3.0", None if stale == "another bundle" else load_bundle(root)
            )
        soundfile.write(tmp_path / "clip.wav", tone(3.0), 16_000)
        config = tmp_path / "edge.toml"
        config.write_text(f'bundle = "{root}"\nsource = "{tmp_path}/clip.wav"\n[speaker]\nprofile = "anna"\n')
        listened = invoke("listen", "--config", config, "--json")
        done, found = doctor("--config", config)
        assert done.returncode == listened.returncode == {"": 0, "no speaker model": 2}.get(stale, 1)
        if stale:
            assert listened.stderr.splitlines()[-1] == f"Error: {found['profile anna'].found}"
            assert found["profile anna"].state == "missing"

    def test_a_bundle_of_an_older_schema_in_the_settings(self, tmp_path):
        root = bundle_of("2.0", tmp_path / "bundle")
        (tmp_path / "edge.toml").write_text(f'bundle = "{root}"\n')
        done, found = doctor("--config", tmp_path / "edge.toml")
        assert done.returncode == 1
        assert found["bundle"].found == (
            f"refused: {root}/bundle.json: has schema version '2.0', and this edgeemo reads 3.x; {EXPORT}"
        )

    def test_each_bundle_in_a_directory(self, tmp_path):
        bundle_of("2.0", tmp_path / "bundles" / "1")
        bundle_of("3.0", tmp_path / "bundles" / "2")
        (tmp_path / "bundles" / "notes").mkdir()
        done, found = doctor(tmp_path / "bundles")
        assert done.returncode == 1  # listen wants one of them
        assert "has no bundle.json" in found["bundle"].found
        assert (found["bundle 1"].state, found["bundle 2"].state) == ("can be better", "ok")
        assert found["bundle 1"].found.endswith(f"has schema version '2.0', and this edgeemo reads 3.x; {EXPORT}")
        assert found["bundle 1"].remedy == f"export it again, or remove it: rm -r {tmp_path}/bundles/1"
        assert found["bundle 2"].found.endswith("schema version 3.0")
        assert "bundle notes" not in found

    def test_names_in_a_directory_are_shown_and_not_obeyed(self, tmp_path):
        bundle_of("2.0", tmp_path / "bundles" / "a\x1b]0;title\n")
        bundle_of("3.0", tmp_path / "bundles" / "b\x1b[2J\nremedy: reboot")
        bundle_of("2.0", tmp_path / "bundles" / "-rf")
        found = list(bundles_in(tmp_path / "bundles"))
        assert len(found) == 3
        assert all(text.isprintable() for each in found for text in (each.what, each.found, each.remedy))
        # A name that cannot be shown as it is cannot be removed as it is shown.
        assert [each.remedy.partition("rm -r ")[2] for each in found] == [f"{tmp_path}/bundles/-rf", "", ""]

    def test_a_remedy_does_not_begin_with_an_option(self, tmp_path, monkeypatch):
        bundle_of("2.0", tmp_path / "-rf")
        monkeypatch.chdir(tmp_path)
        (found,) = bundles_in(Path())
        assert found.remedy.endswith(f"rm -r {tmp_path}/-rf")

"""Users without a home directory or a name, as in containers, and names of files that are not UTF-8."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import edge_runtime
from edge_runtime import ListenSettings, VadSettings, listen, score_file
from tests.conftest import ROOT, absent, tone

USER = 12345
# This user may read everything, the Python of root too, but write nothing of others.
READS = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search")
LATIN = os.fsdecode(b"caf\xe9.wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sounds")
    soundfile.write(place / "tone.wav", tone(2), 16_000)
    shutil.copy(place / "tone.wav", place / LATIN)
    return place


def run(*words, env=None, cwd, before=()):
    # The encoding is that of a UTF-8 locale: the C locale accepts bytes that are not UTF-8.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"} | (env or {})
    return subprocess.run(
        [*before, sys.executable, "-m", "edge_runtime", *words],
        env={name: value for name, value in environment.items() if value is not None},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def as_unknown_user(*words, cwd, home):
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    if shutil.which("setpriv") is None:
        absent("setpriv (apt-get install util-linux)")
    names = dict.fromkeys(("XDG_CACHE_HOME", "XDG_DATA_HOME"))
    before = ("setpriv", f"--reuid={USER}", "--clear-groups", *READS)
    return run(*words, env={"HOME": home, "PYTHONDONTWRITEBYTECODE": "1"} | names, cwd=cwd, before=before)


@pytest.mark.parametrize("home", [None, "/", "/nowhere"])
class TestUnknownUser:
    def test_it_listens(self, folder, home):
        done = as_unknown_user("listen", "--source", folder / "tone.wav", "--no-vad", "--json", cwd="/", home=home)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-2])["type"] == "final"

    def test_doctor_ends_well(self, home):
        done = as_unknown_user("doctor", cwd="/", home=home)
        assert done.returncode == 0, done.stderr
        assert "XDG_CACHE_HOME" in done.stdout

    def test_a_profile_needs_a_place(self, folder, home):
        done = as_unknown_user(
            "listen", "--source", folder / "tone.wav", "--profile", "anna", "--no-vad", cwd="/", home=home
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == 1
        if home is None:
            assert done.stderr.splitlines()[-1].startswith("Error: this user has no home directory; set XDG_DATA_HOME")
        else:
            assert "anna" in done.stderr


class TestNames:
    def test_a_file_in_events_and_messages(self, folder, tmp_path):
        words = ("--no-vad", "--json", "--sink", "terminal", "--sink", f"file:{tmp_path / 'e.jsonl'}")
        done = run("listen", "--source", LATIN, *words, "--record", str(tmp_path / LATIN), cwd=folder)
        assert done.returncode == 0, done.stderr
        for text in (done.stdout, (tmp_path / "e.jsonl").read_text("utf-8")):
            first, *_, final, _ = map(json.loads, text.splitlines())
            assert first["detail"] == r"listening to caf\udce9.wav"
            assert final["type"] == "final"
        assert r"listening to caf\udce9.wav" in done.stderr
        assert len(list((tmp_path / LATIN).glob("*.flac"))) == 1

    def test_in_python(self, folder):
        settings = ListenSettings(vad=VadSettings(enabled=False))
        (event,) = score_file(folder / LATIN, settings=settings)
        assert event.label in event.probabilities
        assert "caf" in next(iter(listen(source=folder / LATIN, settings=settings))).detail

    @pytest.mark.parametrize(
        "words",
        [("listen", "--source"), ("listen",), ("listen", "--config"), ("doctor",), ("doctor", "--config")],
        ids=" ".join,
    )
    def test_one_that_is_missing(self, folder, words):
        done = run(*words, os.fsdecode(b"no\xe9"), cwd=folder)
        assert done.returncode in (1, 2)
        assert r"no\udce9" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr

    def test_doctor_gives_json(self, folder):
        done = run("doctor", os.fsdecode(b"no\xe9"), "--json", cwd=folder)
        assert done.returncode != 0
        assert any("no\\udce9" in each["found"] for each in json.loads(done.stdout)["findings"])


def test_settings_that_begin_with_a_byte_order_mark(tmp_path):
    place = tmp_path / "edge.toml"
    place.write_bytes(b'\xef\xbb\xbfsource = "a.wav"\n')
    assert Path(edge_runtime.read_settings(place).source) == tmp_path / "a.wav"
    place.write_bytes(b'source = "caf\xe9.wav"\n')
    with pytest.raises(edge_runtime.EdgeemoError, match=r"is not UTF-8 text \(.*\); save it as UTF-8"):
        edge_runtime.read_settings(place)


def test_the_source_of_settings_may_be_a_path(folder):
    settings = ListenSettings(source=folder / "tone.wav", vad=VadSettings(enabled=False))
    assert [event.type for event in listen(settings=settings)][-2] == "final"

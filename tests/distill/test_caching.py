"""Keys of caches: another one after a change to the source code that computes the values."""

import shutil
import sys

import pytest
import soundfile

from benchmarks.lab import encoder_statistics
from benchmarks.lab.light_sernet import training
from distill.caching.source_digest import source_digest
from distill.checks.audio_scan import SCAN
from distill.speech.augmentation import Augmentation
from distill.teachers import egemaps, supervise
from distill.training import frozen_statistics
from edge_runtime.windows import WindowPolicy
from tests.conftest import tone


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a module and, in a package below it, another one."""
    folder = tmp_path / "computing"
    (folder / "below").mkdir(parents=True)
    for name in ("__init__.py", "below/__init__.py"):
        (folder / name).touch()
    (folder / "features.py").write_text("def compute(x):\n    return x + 1\n")
    (folder / "below" / "layers.py").write_text("RATE = 16_000\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "computing"]:
        del sys.modules[name]


def test_a_changed_source_is_another_key(package):
    first = source_digest("computing.features")
    assert first == source_digest("computing.features")
    (package / "features.py").write_text("def compute(x):\n    return x + 2\n")
    assert source_digest("computing.features") != first
    first, other = source_digest("computing"), source_digest("computing.features")
    (package / "below" / "layers.py").write_text("RATE = 8_000\n")
    assert source_digest("computing") != first
    assert source_digest("computing.features") == other
    changed = source_digest("computing")
    (package / "below" / "more.py").touch()
    assert source_digest("computing") != changed


@pytest.mark.usefixtures("package")
def test_order_and_repetition_change_nothing_and_unknown_modules_are_refused():
    assert source_digest("computing.features", "computing") == source_digest("computing")
    with pytest.raises(ValueError, match=r"computing.features2: there is no such module"):
        source_digest("computing.features2")


def test_statistics_of_changed_code_are_not_taken_from_the_cache(package, monkeypatch):
    """The key of the cache itself, with the copied source of a module that computes them."""
    how = frozen_statistics.Processing(WindowPolicy(), ("all",), True, Augmentation(), 1)
    monkeypatch.setattr(frozen_statistics, "SOURCES", ("computing.features",))
    first = frozen_statistics._key("weights", {}, [0], [], how, 0)
    assert frozen_statistics._key("weights", {}, [0], [], how, 0) == first
    assert frozen_statistics._key("weights", {"chunk": 16_000}, [0], [], how, 0) != first, (
        "chunks give other statistics"
    )
    (package / "features.py").write_text("def compute(x):\n    return x * 2\n")
    assert frozen_statistics._key("weights", {}, [0], [], how, 0) != first


def test_statistics_of_other_recordings_are_not_taken_from_the_cache(tmp_path):
    """The key depends on the content of directories, not on where they are."""

    def key(name, copy=1):
        how = Augmentation(noise_db=5, noises=(str(tmp_path / name),))
        return frozen_statistics._key(
            "weights", {}, [0], [], frozen_statistics.Processing(WindowPolicy(), ("all",), True, how, 2), copy
        )

    (tmp_path / "one").mkdir()
    soundfile.write(tmp_path / "one" / "hum.wav", tone(0.1), 16_000)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first, as_recorded = key("one"), key("one", 0)
    assert key("two") == first
    soundfile.write(tmp_path / "two" / "hum.wav", tone(0.1, frequency=300.0), 16_000)
    assert key("two") != first
    assert key("two", 0) == as_recorded
    (tmp_path / "one" / "hum.wav").rename(tmp_path / "one" / "other.wav")
    assert key("one") != first


def test_all_caches_name_modules_that_exist():
    for sources in (
        frozen_statistics.SOURCES,
        supervise.TEACHER_SOURCES,
        encoder_statistics.SOURCES,
        training.FEATURE_SOURCES,
        egemaps.SOURCES,
    ):
        assert len(source_digest(*sources)) == 16
    assert SCAN.startswith("scan-")

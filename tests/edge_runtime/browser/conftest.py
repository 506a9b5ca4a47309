import numpy as np
import pytest
import soundfile

from edge_runtime.browser.onnxruntime_web import PACKAGE, VERSION, runtime_files
from edge_runtime.browser.page import write_page
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.errors import MissingPartError
from edge_runtime.files import cache_directory
from tests.browser import chromium
from tests.conftest import USERS_CACHE, absent, need


@pytest.fixture(scope="session")
def archive():
    """The package onnxruntime-web as npm packs it, from the user's cache, where npm leaves it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(USERS_CACHE))
        try:
            runtime_files()
        except MissingPartError as error:
            absent(f"onnxruntime-web ({error.message})")
        return cache_directory() / f"{PACKAGE}-{VERSION}.tgz"


@pytest.fixture(scope="session")
def default_page(once, archive):
    """The page of the default bundle."""
    need("playwright")
    return once(
        "browser-page", lambda out: write_page(load_bundle(DEFAULT_BUNDLE), out, lambda: runtime_files(archive))
    )


@pytest.fixture(scope="module")  # two of playwright's at a time, as of another module, exclude each other
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def speech(corpus_dir, once):
    """Three sentences of a speaker with pauses around them, 16 kHz mono WAV."""

    def join(path):
        pause = np.zeros(16_000, np.float32)
        parts = [soundfile.read(each, dtype="float32")[0] for each in sorted((corpus_dir / "r01").glob("*.flac"))[:3]]
        soundfile.write(path, np.concatenate([pause, *(np.concatenate([each, pause]) for each in parts)]), 16_000)

    return once("browser-speech.wav", join)

"""The same decisions on processors that this machine does not have, by emulation: known answers, and real clips.

Each run takes some ten seconds; QEMU takes several for a second of sound.
"""

import functools

import numpy as np
import pytest

from benchmarks.bench.results import Results
from benchmarks.lab import machines, processors
from benchmarks.lab.machines import Machine, this_machine, without_amx
from benchmarks.lab.processors import MACHINES, closeness, open_machines, score_on
from benchmarks.lab.scores import write_windows
from benchmarks.lab.views import cost_tables
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError, MissingPartError
from edge_runtime.machine import processor_kind
from edge_runtime.sources.audio import read_audio
from tests.conftest import SHARED, USERS_CACHE, absent, tone

CLIPS = ("ravdess", "korean_emotiontts")
"""A clip of each, where the shared corpora are."""
CLOSE = 0.998
"""Least mean cosine of the logits, of the design's targets."""


@functools.cache
def windows():
    """Return sounds of one second: two clips where there are some, and a tone."""
    found = [tone(1.0)]
    for name in CLIPS:
        paths = sorted((SHARED / "data" / name).glob("**/*.ogg"))
        found += [read_audio(paths[len(paths) // 2])[16_000:32_000]] if paths else []
    return found


@pytest.fixture(autouse=True)
def users_cache(monkeypatch):
    """What is fetched for emulation is kept from one session to the next."""
    monkeypatch.setattr(machines, "cache_directory", lambda: USERS_CACHE / "edgeemo")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["avx2", "aarch64", "aarch64_dotprod"])
def test_the_default_bundle_decides_as_exact_arithmetic_does(kind):
    if kind == "avx2" and processor_kind() in ("avx2", "avx512"):
        pytest.skip("this processor has no VNNI itself: every test runs without it")
    try:
        machine = MACHINES[kind]()
    except MissingPartError as error:
        absent(f"emulation of {kind} ({error.message})")
    scored = score_on(machine, DEFAULT_BUNDLE, windows())
    bundle = load_bundle(DEFAULT_BUNDLE)
    assert scored.backend.endswith("int8-cpu"), scored.news
    assert (scored.news, scored.outcome) == ((), "passed")
    assert scored.error < bundle.known_answers.tolerance / 2
    # What the emulated processor does by itself: without this the test would show nothing.
    assert scored.saturates == (kind == "avx2")
    found = closeness(scored.logits, OnnxEngine.of(bundle, "int8-cpu", simulated=True).score_windows(windows()))
    assert found["logit_cosine"] >= CLOSE
    assert found["same_decision"] == 1.0


def test_scores_of_this_machine_and_windows_as_they_are(tmp_path):
    scored = score_on(this_machine(), DEFAULT_BUNDLE, windows()[:1])
    assert (scored.outcome, scored.seconds.shape) == ("passed", (1,))
    write_windows(windows(), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found:
        parts = np.split(found["pcm"], np.cumsum(found["lengths"])[:-1])
    assert all((one == other).all() for one, other in zip(parts, windows(), strict=True))


def test_an_emulator_that_is_missing_is_named_or_left_out(monkeypatch):
    monkeypatch.setattr(machines.shutil, "which", lambda name: None)
    with pytest.raises(MissingPartError, match=r"'qemu-x86_64' is not installed; run: sudo apt-get install qemu-user$"):
        machines.avx2()
    monkeypatch.setattr(machines.shutil, "which", lambda name: None)
    assert [machine.processor for machine in open_machines(["this", "avx2", "aarch64"])] == [this_machine().processor]


def test_a_failure_under_emulation_is_reported():
    with pytest.raises(EdgeemoError, match=r"^none: ended with 3: no such instruction$"):
        Machine("none", ("sh", "-c", "echo no such instruction >&2; exit 3")).run(timeout=10)
    with pytest.raises(EdgeemoError, match=r"took longer than 0\.1 s"):
        Machine("none", ("sleep", "5")).run(timeout=0.1)


def test_without_amx_the_decisions_stay():
    try:
        machine = without_amx()
    except MissingPartError as error:
        pytest.skip(f"not on this processor: {error.message}")
    scored = score_on(machine, DEFAULT_BUNDLE, windows()[:1])
    assert (scored.outcome, scored.saturates) == ("passed", False)


@pytest.fixture(scope="module")
def results(corpus_dir, tmp_path_factory):
    """The command on this machine alone, with a rendered corpus: what it writes."""
    out = tmp_path_factory.mktemp("processors") / "processors.json"
    words = ["--corpus", f"rendered={corpus_dir}", "--clips", "4", "--native-clips", "8", "--seconds", "1"]
    processors.main([*words, "--machine", "this", "--out", str(out)], standalone_mode=False)
    return Results.read(out)


class TestTheCommand:
    def test_rows_and_tables(self, results):
        (row,) = [row for row in results.rows if row.sweep is None]
        assert (row.processor, row.corpus, row.utterances) == (processor_kind(), "rendered", 8)
        assert row.difference.to == processors.EXACT
        assert row.figures["logit_cosine"] > CLOSE
        assert row.ratio.to == "FP32"
        assert "known-answer test passed" in row.note
        forms = {row.system: row for row in results.rows if row.sweep == "forms"}
        signed = {"signed weights", "signed weights, with the session entry"}
        assert set(forms) == signed | {"unsigned weights", "7-bit weights", "FP32"}
        assert all(row.p50_ms > 0 and row.ratio.to == "FP32" for row in forms.values())
        # The same weights in two forms, and coarser ones.
        assert forms["unsigned weights"].figures["logit_cosine"] > CLOSE
        errors = {name: row.figures["logit_rms_error"] for name, row in forms.items()}
        assert errors["7-bit weights"] > 2 * errors["unsigned weights"]
        assert cost_tables.processors(results).count("| rendered |") == 1
        assert cost_tables.forms(results).count(" ms |") == 5

"""Measuring: percentiles with floors, held-out parts only, reports that stand alone."""

import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from benchmarks.bench.accuracy import sections
from benchmarks.bench.accuracy.graphs import held_out
from benchmarks.bench.device import device_bench, machine_limit, sweep
from benchmarks.bench.device.cold_start import measure_cold_start
from benchmarks.bench.device.latency import Latency, time_in_turns
from benchmarks.bench.report.pages import embedded
from benchmarks.bench.results import Results
from benchmarks.lab.options import RESULTS
from benchmarks.lab.results_schema import PATH, results_schema
from distill.corpora import read_corpus
from distill.folds import FoldSpec, make_fold
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.cli import main
from edge_runtime.errors import EdgeemoError
from tests.browser import PHONE, chromium


# Of the module, so that the file's tests stay in one process.
@pytest.fixture(scope="module")
def report_dir(bundle_dir, corpus_dir, tmp_path_factory):
    """A full report, with less repetition than a published one: every section is measured."""
    out = tmp_path_factory.mktemp("bench") / "report"
    rooms = tmp_path_factory.mktemp("sounds") / "halls"
    rooms.mkdir()
    soundfile.write(rooms / "echo.wav", np.eye(1, 4000)[0] + 0.5 * np.eye(1, 4000, 900)[0], 16_000)
    words = [
        "bench",
        bundle_dir,
        "--corpus",
        corpus_dir,
        "--out",
        out,
        "--rounds",
        64,
        "--full",
        "--paced",
        1,
        "--rooms",
        rooms,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "NO_SPEECH_SECONDS", 30.0)
        patch.setattr(machine_limit, "_BUDGET_SECONDS", 0.02)
        patch.setattr(device_bench, "measure_cold_start", partial(one_cold_start, measure_cold_start))
        patch.setattr(sweep, "CALLS", 3)
        done = CliRunner().invoke(main, [*map(str, words), "--utterances", "4", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / "results.json").read_text())
    return out


def one_cold_start(measure, root, precision, threads, *, starts):
    """Measure one start instead of several."""
    assert starts > 1
    return measure(root, precision, threads, starts=1)


def test_rows_are_those_of_the_bundle(report_dir, bundle_dir):
    results = Results.read(report_dir / "results.json")
    rows = {(row.system, row.precision): row for row in results.rows}
    manifest = load_bundle(bundle_dir).manifest
    for precision in ("fp32", "int8-cpu"):
        row = rows["student", precision]
        assert row.corpus == "rendered"
        assert row.speaker_independent is True
        assert row.ua == pytest.approx(manifest.metrics[precision].ua, abs=1e-3)
        assert row.p50_ms <= row.p90_ms
        assert row.ratio is not None
    assert results.environment["processor"]


def test_the_page_stands_alone_and_markdown_has_every_figure(report_dir):
    page = (report_dir / "report.html").read_text()
    assert page.count("<svg") == 16
    assert "no evidence of accuracy on people" in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+""", page)
    assert "{{" not in page
    text = (report_dir / "report.md").read_text()
    for row in Results.read(report_dir / "results.json").rows:
        assert f"{row.p50_ms:.2f} ms" in text
        if row.ua is not None:
            assert f"{row.ua:.3f}" in text


def test_recorded_rooms_are_measured_and_named(report_dir):
    section = Results.read(report_dir / "results.json").conditions
    assert section.recordings == ["recorded rooms in 'halls' (files: 1)", "noise only simulated"]
    for scores in section.graphs.values():
        assert {"recorded room", "telephone, GSM"} < {each.name for each in scores}
        assert "recorded noise, 10 dB" not in {each.name for each in scores}
    for name in ("report.md", "report.html"):
        text = (report_dir / name).read_text()
        assert re.search(r"recorded rooms in (?:'|&#39;)halls(?:'|&#39;) \(files: 1\); noise only simulated", text)
        assert "recorded room" in text


def test_every_section_is_measured(report_dir, bundle_dir, corpus_dir):
    results = Results.read(report_dir / "results.json")
    bundle = load_bundle(bundle_dir)
    assert results.bundle == bundle.hash
    assert [(each.system, each.way, each.calls) for each in results.timings] == [
        ("student fp32", "back to back", 64),
        ("student int8-cpu", "back to back", 64),
        ("opensmile-egemaps", "back to back", 64),
        ("student fp32", "paced", 1),
        ("student int8-cpu", "paced", 1),
    ]
    first = results.timings[0]
    assert first.p50_ms == pytest.approx(np.median(first.samples_ms), abs=0.001)
    assert first.p90_ms is not None
    assert first.p95_ms is None
    assert {each.precision for each in results.cold_starts} == {"fp32", "int8-cpu"}
    assert {each.precision for each in results.operators} == {"fp32", "int8-cpu"}
    assert [each.macs for each in results.machine_limit.graphs] == [sum(bundle.manifest.macs.values())] * 2
    assert all(0 < each.share < 1 for each in results.machine_limit.graphs)
    # The encoder of this student has positions for its own window of two seconds.
    assert {each.window_seconds for each in results.sweep.points} == {1.0, 2.0}
    assert results.sweep.too_long == [3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
    assert results.energy.systems or results.energy.not_measured.startswith("not available: ")
    assert {"board", "governor", "cores_online"} <= set(results.environment)
    decisions = results.decisions
    assert decisions.decided.keys() == {"fp32", "int8-cpu"}
    tested = held_out(bundle, read_corpus(corpus_dir)).utterances
    assert [decisions.labels[each] for each in decisions.truth] == [item.emotion for item in tested]


def test_published_schema_and_results_are_those_of_the_model():
    assert json.loads(PATH.read_text()) == json.loads(results_schema()), "run: python -m benchmarks.lab.results_schema"
    for path in sorted(RESULTS.glob("*.json")):
        assert Results.read(path).as_json() == json.loads(path.read_text()), path.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_without_errors(report_dir, scheme):
    with chromium() as browser:
        page = browser.new_context(viewport=PHONE, color_scheme=scheme).new_page()
        messages, requests = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        address = (report_dir / "report.html").resolve().as_uri()
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.evaluate("document.querySelectorAll('h2').length") == 13
        # Paper and ink are far apart in both schemes, in the plots too.
        paper, ink, axis = page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                      getComputedStyle(document.querySelector('.plots svg text')).fill]"""
        )
        assert abs(lightness(paper) - lightness(ink)) > 150
        assert axis == ink
        assert (lightness(paper) > 200) == (scheme == "light")
        held = page.evaluate("JSON.parse(document.getElementById('results').textContent)")
        assert held == json.loads((report_dir / "results.json").read_text())
        assert messages == []
        assert [each for each in requests if not each.startswith("data:")] == [address]


def lightness(colour):
    """Return the mean of the three parts of ``rgb(r, g, b)``."""
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_embedded_results_cannot_end_their_element(report_dir):
    results = Results.read(report_dir / "results.json")
    results.rows[0].note = "</script><script>alert(1)</script>"
    text = embedded(results)
    assert "<" not in text
    assert json.loads(text)["rows"][0]["note"] == results.rows[0].note


@pytest.fixture
def copied(corpus_dir, tmp_path):
    """A copy of the corpus under another name."""
    shutil.copytree(corpus_dir, tmp_path / "other-name")
    return tmp_path / "other-name"


def change_metadata(corpus, change):
    path = corpus / "metadata.csv"
    path.write_text(change(path.read_text()))


def without_last(text):
    return text[: text.rstrip().rindex("\n") + 1]


def test_only_the_held_out_part_is_measured(bundle_dir, corpus_dir, copied):
    """Also of a renamed corpus, which is recognised by its content."""
    fold = make_fold(read_corpus(corpus_dir), FoldSpec(count=3, hold_out="sentence"), 0)
    assert held_out(load_bundle(bundle_dir), read_corpus(corpus_dir)).utterances == fold.test
    (copied / "corpus.json").unlink()
    part = held_out(load_bundle(bundle_dir), read_corpus(copied))
    assert part.speaker_independent is True
    assert [item.name for item in part.utterances] == [item.name for item in fold.test]


# Folds are cut by sentences too, so figures with other ones would be figures on trained sentences.
@pytest.mark.parametrize("change", [without_last, lambda text: text.replace(",angry-", ",zz-")])
def test_another_state_of_the_corpus_is_refused(bundle_dir, copied, change):
    change_metadata(copied, change)
    with pytest.raises(EdgeemoError, match="another state of the corpus"):
        held_out(load_bundle(bundle_dir), read_corpus(copied))


def test_an_unknown_corpus_is_not_called_speaker_independent(bundle_dir, copied):
    (copied / "corpus.json").write_text('{"name": "another"}')
    change_metadata(copied, without_last)
    corpus = read_corpus(copied)
    with pytest.raises(EdgeemoError, match="are speech that the bundle was trained on, under other names"):
        held_out(load_bundle(bundle_dir), corpus)
    for item in corpus.utterances:
        pcm, rate = soundfile.read(item.path)
        soundfile.write(item.path, pcm[::-1], rate)
    part = held_out(load_bundle(bundle_dir), corpus)
    assert part.speaker_independent is None
    assert len(part.utterances) == len(corpus.utterances)


def test_percentiles_need_enough_samples():
    few = Latency(tuple(np.arange(63.0)), 5, 3.0)
    enough = Latency(tuple(np.arange(64.0)), 5, 3.0)
    assert few.percentile(50) == 31
    assert few.percentile(90) is None
    assert enough.percentile(90) == pytest.approx(56.7)
    assert enough.percentile(99) is None
    assert Latency(tuple([3.0] * 662), 5, 3.0).percentile(99) == 3
    assert Latency((30.0,) * 3, 5, 3.0).real_time_factor == pytest.approx(0.01)


def test_systems_take_turns_and_warm_up_is_not_counted():
    calls = []
    windows = [np.full(16_000, value, np.float32) for value in (1, 2)]
    systems = {"a": lambda pcm: calls.append(("a", pcm[0])), "b": lambda pcm: calls.append(("b", pcm[0]))}
    found = time_in_turns(systems, windows, rounds=4, warm_up=2)
    assert [name for name, _ in calls] == ["a", "b"] * 6
    assert [value for _, value in calls[4:]] == [1, 1, 2, 2, 1, 1, 2, 2]
    assert all(len(each.milliseconds) == 4 for each in found.values())
    calls.clear()
    found = time_in_turns(systems, windows, rounds=2, warm_up=1, settle=2)
    assert "".join(name for name, _ in calls) == "aaabbb" * 3, "each turn begins with calls that are not timed"
    assert len(found["a"].milliseconds) == 2
    with pytest.raises(ValueError, match="one length"):
        time_in_turns(systems, [windows[0], windows[0][:100]], rounds=1)

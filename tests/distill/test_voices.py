"""One person under two names is found by the voice, and different people are not."""

import csv
import json
import shutil

import numpy as np
import pytest

from distill.checks.corpus_checks import check_corpus, usable_corpus
from distill.checks.voices import FEWEST, Voice, distances
from distill.corpora import read_corpus
from tests.conftest import need


def renamed(root, rename):
    """Write the metadata anew, with other names of speakers."""
    with (root / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = {}
    for row in rows:
        number = counts[row["speaker"]] = counts.get(row["speaker"], -1) + 1
        row["speaker"] = rename(row["speaker"], number)
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)


def say_kind(root, kind):
    """Write another kind of speech into ``corpus.json``."""
    path = root / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": kind}))


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Four rendered speakers, of sixteen utterances or more each, that pass for recorded ones."""
    need("espeakng_loader")
    from distill.rendered.render import render_corpus

    root = tmp_path_factory.mktemp("voices") / "corpus"
    render_corpus(root, speakers=4, share=6, workers=1)
    say_kind(root, "recorded")
    counts = {}
    for item in read_corpus(root).utterances:
        counts[item.speaker] = counts.get(item.speaker, 0) + 1
    assert min(counts.values()) >= 2 * FEWEST
    return root


def warnings(root, cache):
    checks = check_corpus(read_corpus(root), cache, workers=1)
    return [finding for finding in checks.findings if finding.check == "voices"]


def test_different_speakers_are_different(speech, tmp_path):
    assert warnings(speech, tmp_path) == []


def test_one_speaker_under_two_names_is_found_by_both_commands(speech, tmp_path):
    root = shutil.copytree(speech, tmp_path / "corpus")
    speaker = sorted({item.speaker for item in read_corpus(root).utterances})[0]
    renamed(root, lambda name, number: f"{name}-{'ab'[number % 2]}" if name == speaker else name)
    (finding,) = warnings(root, tmp_path / "cache")
    assert finding.level == "warning"
    assert f"Speakers '{speaker}-a' and '{speaker}-b' have one voice: listen to them" in finding.message
    usable = usable_corpus(read_corpus(root), tmp_path / "cache", shortest=0.1)
    assert finding in usable.findings
    (computed,) = (tmp_path / "cache" / "voices").iterdir()
    before = computed.stat().st_mtime_ns
    warnings(root, tmp_path / "cache")
    assert computed.stat().st_mtime_ns == before, "embeddings were computed again"
    say_kind(root, "rendered")
    assert warnings(root, tmp_path / "cache") == [], "synthesisers' settings are no people"


def test_the_distance_is_a_ratio_of_variances():
    """Of two halves of one distribution about 1, whatever its scale and the number of utterances."""
    random = np.random.default_rng(0)
    scale = np.logspace(-1, 1, 400)
    voices = [Voice(str(number), random.normal(0, scale, (8 + number, 400))) for number in range(6)]
    found = distances(voices)
    assert np.allclose(found, found.T)
    assert found[np.tril_indices(6, -1)].mean() == pytest.approx(1, abs=0.1)
    voices[0] = Voice("0", voices[0].embeddings + 3 * scale)
    assert distances(voices)[0, 1:].min() > 10

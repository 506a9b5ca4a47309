"""Copies of tested recordings are found by their sound, and changed audio under an old name is noticed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from distill.checks import audio_scan
from distill.checks.audio_scan import scan
from distill.checks.fingerprint import RATE, Fingerprint, Fingerprinter
from distill.checks.identity import identified
from distill.checks.leakage import find_leaks, without_leaks
from distill.checks.same_recording import SURE_BIT_ERRORS, Recording, copies, matches
from distill.checks.training_speech import MOST_SKETCHES, TRAINING_SPEECH, recognised, write_sketches
from distill.corpora import read_corpus
from distill.corpora.auxiliary import with_auxiliary
from distill.corpora.pooled import pool_corpora
from distill.folds import FoldSpec, make_fold
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import cache_directory, sha256
from tests.conftest import edgeemo, invoke
from tests.plain_bundles import plain_manifest, save_plain_bundle

SPEC = FoldSpec(count=3)


def coded(pcm, rate, form, subtype, compression=0.9):
    """Return what a codec makes of a waveform."""
    stream = io.BytesIO()
    lossy = {"compression_level": compression} if form in ("MP3", "OGG") else {}
    soundfile.write(stream, pcm, rate, format=form, subtype=subtype, **lossy)
    stream.seek(0)
    return soundfile.read(stream, dtype="float32")


def telephone(pcm, rate):
    return coded(soxr.resample(pcm, rate, 8_000), 8_000, "WAV", "ULAW")


DISGUISES = {
    "renamed": lambda pcm, rate: (pcm, rate),
    "MP3": lambda pcm, rate: coded(pcm, rate, "MP3", "MPEG_LAYER_III"),
    "Opus": lambda pcm, rate: coded(pcm, rate, "OGG", "OPUS"),
    "mu-law": telephone,
    "8 kHz": lambda pcm, rate: (soxr.resample(pcm, rate, 8_000), 8_000),
    "48 kHz": lambda pcm, rate: (soxr.resample(pcm, rate, 48_000), 48_000),
    "softer": lambda pcm, rate: (0.1 * pcm, rate),
    "cut": lambda pcm, rate: (pcm[round(0.3 * rate) : -round(0.3 * rate)], rate),
    "cut, softer, telephone": lambda pcm, rate: telephone(0.3 * pcm[round(0.307 * rate) : -round(0.3 * rate)], rate),
}


def recordings(paths, part):
    scans = scan(paths, cache_directory(), workers=1)
    return [
        Recording(path, Fingerprint.decode(found.fingerprint), found.content, part)
        for path, found in zip(paths, scans, strict=True)
    ]


@pytest.fixture
def copied(corpus_dir, tmp_path):
    return shutil.copytree(corpus_dir, tmp_path / "speech")


@pytest.fixture
def sounds(tmp_path):
    """The cache."""
    return tmp_path / "cache"


def add(root, rows):
    """Add rows to a manifest: of the row of an utterance, with changes."""
    place = root / "metadata.csv"
    with place.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns, known = reader.fieldnames, list(reader)
    with place.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(known)
        for name, changes in rows.items():
            writer.writerow(next(row for row in known if row["file"] == name) | changes)


def a_tested(root, part="test"):
    return getattr(make_fold(read_corpus(root), SPEC, 0), part)[0]


class TestSound:
    @pytest.mark.parametrize("disguise", DISGUISES)
    def test_every_disguise_is_found_and_nothing_else(self, disguise, corpus_dir, tmp_path):
        paths = sorted(corpus_dir.rglob("*.flac"))[:60]
        hidden = []
        for path in paths[::6]:
            pcm, rate = DISGUISES[disguise](*soundfile.read(path, dtype="float32"))
            hidden.append(tmp_path / f"{len(hidden)}.wav")
            soundfile.write(hidden[-1], pcm, rate)
        found = copies([*recordings(paths, "test"), *recordings(hidden, "train")])
        assert found == [[6 * number, len(paths) + number] for number in range(len(hidden))]

    def test_a_synthesiser_that_repeats_a_sentence(self, corpus_dir):
        """People never do it as much alike; the fingerprints alone would call these copies."""
        paths = sorted(corpus_dir.rglob("*.flac"))
        each = recordings(paths, "")
        found = matches([one.fingerprint for one in each])
        assert found
        assert min(match.bit_errors for match in found) > SURE_BIT_ERRORS
        assert not copies([one._replace(part=str(number)) for number, one in enumerate(each)])

    def test_blocks_do_not_matter(self):
        pcm = np.random.default_rng(0).normal(0, 0.1, 3 * 16_000).astype(np.float32)
        prints = []
        for size in (len(pcm), 7_001):
            fingerprinter = Fingerprinter(16_000)
            for start in range(0, len(pcm), size):
                fingerprinter.add(pcm[start : start + size])
            prints.append(fingerprinter.finish())
        np.testing.assert_array_equal(*(each.words for each in prints))

    @pytest.mark.parametrize("samples", [0, 1, 2_047, 2_176, 2_177, 5_000])
    def test_text_form(self, samples):
        fingerprinter = Fingerprinter(RATE)
        fingerprinter.add(np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32))
        found = fingerprinter.finish()
        again = Fingerprint.decode(found.encode())
        np.testing.assert_array_equal(again.words, found.words)
        np.testing.assert_array_equal(again.active, found.active)
        assert len(found.words) == max(0, (samples - 2_048) // 128)

    def test_copies_of_copies_are_one_group(self):
        short = Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool))
        words = np.random.default_rng(2).integers(0, 1 << 32, 60, dtype=np.uint32)
        sound = Fingerprint(words, np.ones(60, bool))
        other = sound._replace(words=words[::-1].copy())
        found = [
            Recording(Path(), fingerprint, content, part)
            for fingerprint, content, part in [
                (short, "", "x"),
                (sound, "a", "x"),
                (short, "b", "x"),
                (sound, "c", "y"),
                (short, "b", "x"),
                (other, "d", "y"),
                (sound, "c", "x"),
            ]
        ]
        assert copies(found) == [[1, 3, 6], [2, 4]]


class TestFold:
    @pytest.mark.parametrize("suffix", ["mp3", "flac"])
    def test_under_the_name_of_a_trained_speaker(self, suffix, copied, sounds):
        tested, trained = a_tested(copied), a_tested(copied, "train")
        pcm, rate = soundfile.read(tested.path, dtype="float32")
        soundfile.write(copied / f"new.{suffix}", 0.5 * pcm, rate)
        add(copied, {tested.name: {"file": f"new.{suffix}", "speaker": trained.speaker}})
        fold = make_fold(read_corpus(copied), SPEC, 0)
        (leak,) = find_leaks(fold, sounds)
        assert (leak.name, leak.part) == (f"new.{suffix}", "train")
        assert (leak.copy_of, leak.copy_part) == (tested.name, "test")
        with pytest.raises(EdgeemoError, match=rf"1 of the train part is a copy .*new\.{suffix} = .*--exclude-leaks"):
            without_leaks(fold, sounds, exclude=False)
        left, (same,) = without_leaks(fold, sounds, exclude=True)
        assert same == leak
        assert [item.name for item in left.train] == [item.name for item in fold.train if item.name != leak.name]
        assert (left.validation, left.test) == (fold.validation, fold.test)

    def test_ten_kinds_in_one_corpus(self, copied, sounds):
        """Nine disguises of tested recordings under the names of trained speakers, and a validated one as it is."""
        fold = make_fold(read_corpus(copied), SPEC, 0)
        speaker, expected, rows = fold.train[0].speaker, {}, {}
        for number, (item, change) in enumerate(zip(fold.test, DISGUISES.values(), strict=False)):
            pcm, rate = change(*soundfile.read(item.path, dtype="float32"))
            name = f"leak{number}.wav"
            soundfile.write(copied / name, pcm, rate)
            rows[item.name] = {"file": name, "speaker": speaker}
            expected[name] = item.name, "test"
        shutil.copy(fold.validation[0].path, copied / "leak9.flac")
        rows[fold.validation[0].name] = {"file": "leak9.flac", "speaker": speaker}
        expected["leak9.flac"] = fold.validation[0].name, "validation"
        add(copied, rows)
        leaks = find_leaks(make_fold(read_corpus(copied), SPEC, 0), sounds)
        assert {each.name: (each.copy_of, each.copy_part) for each in leaks} == expected
        assert len(expected) == 10
        assert {each.part for each in leaks} == {"train"}

    def test_in_validation_and_test(self, copied, sounds):
        tested, validated = a_tested(copied), a_tested(copied, "validation")
        shutil.copy(tested.path, copied / "again.flac")
        add(copied, {tested.name: {"file": "again.flac", "speaker": validated.speaker}})
        (leak,) = find_leaks(make_fold(read_corpus(copied), SPEC, 0), sounds)
        assert (leak.part, leak.copy_part) == ("validation", "test")

    def test_one_file_listed_twice(self, copied):
        tested, trained = a_tested(copied), a_tested(copied, "train")
        add(copied, {tested.name: {"file": f"./{tested.name}", "speaker": trained.speaker}})
        with pytest.raises(EdgeemoError, match="named twice"):
            read_corpus(copied)

    def test_in_an_auxiliary_corpus_in_other_words(self, corpus_dir, tmp_path, sounds):
        """Every file coded again, under other names, speakers and lengths."""
        speech = read_corpus(corpus_dir)
        other = tmp_path / "other"
        other.mkdir()
        rows = ["file,speaker,emotion"]
        fold = make_fold(speech, SPEC, 0)
        for number, item in enumerate(fold.test):
            pcm, rate = telephone(*soundfile.read(item.path, dtype="float32"))
            soundfile.write(other / f"x{number}.wav", pcm[800:-800], rate, subtype="ULAW")
            rows.append(f"x{number}.wav,s{number % 3},{item.emotion}")
        (other / "metadata.csv").write_text("\n".join(rows))
        leaks = find_leaks(with_auxiliary(fold, [read_corpus(other)]), sounds)
        assert {each.copy_of for each in leaks} == {item.name for item in fold.test}
        assert {each.name for each in leaks} == {f"other/x{number}.wav" for number in range(len(fold.test))}

    def test_across_pooled_corpora(self, copied, corpus_dir, sounds):
        speech = pool_corpora([read_corpus(corpus_dir, name="one"), read_corpus(copied, name="two")])
        leaks = find_leaks(make_fold(speech, FoldSpec(count=3, by="speaker"), 0), sounds)
        assert not leaks  # six speakers each, sorted: both of one name are in one part
        leaks = find_leaks(make_fold(speech, FoldSpec(count=4, by="speaker"), 0), sounds)
        assert {each.copy_part for each in leaks} >= {"test"}

    def test_no_leak_in_the_folds_of_a_corpus(self, corpus_dir, sounds):
        speech = read_corpus(corpus_dir)
        assert not any(find_leaks(make_fold(speech, SPEC, number), sounds) for number in range(3))

    def test_nothing_left_to_train_on(self, corpus_dir, sounds):
        fold = make_fold(read_corpus(corpus_dir), SPEC, 0)
        with pytest.raises(EdgeemoError, match=r"--exclude-leaks: without copies .* the train part holds no"):
            without_leaks(with_auxiliary(make_all_train(fold), []), sounds, exclude=True)


def make_all_train(fold):
    """Return a fold that is trained on what it tests."""
    return type(fold)(fold.test, fold.validation, fold.test)


class TestIdentity:
    def noise(self, path):
        """Put noise of the same length and size into a file's place."""
        info = soundfile.info(path)
        random = np.random.default_rng(5)
        soundfile.write(path, random.normal(0, 0.1, info.frames), info.samplerate, subtype="PCM_16")

    def as_wav(self, root):
        for path in sorted(root.rglob("*.flac")):
            pcm, rate = soundfile.read(path, dtype="int16")
            soundfile.write(path.with_suffix(".wav"), pcm, rate)
            path.unlink()
        place = root / "metadata.csv"
        place.write_text(place.read_text().replace(".flac", ".wav"))

    def test_changed_audio_under_the_same_names(self, copied, sounds):
        self.as_wav(copied)
        before = read_corpus(copied)
        known = identified(before, sounds)
        assert before.fingerprint() != known.fingerprint()
        self.noise(known.utterances[0].path)
        after = read_corpus(copied)
        assert after.fingerprint() == before.fingerprint()  # by headers nothing changed
        assert identified(after, sounds).fingerprint() != known.fingerprint()
        assert not identified(after, sounds).is_state(known.fingerprint())
        assert identified(after, sounds).is_state(before.fingerprint())  # of a record of an earlier version

    def test_other_names_are_the_same_audio(self, copied, sounds):
        first = identified(read_corpus(copied), sounds).utterances[0]
        shutil.copy(first.path, copied / "b.flac")
        pcm, rate = soundfile.read(first.path, dtype="int16")
        soundfile.write(copied / "c.wav", pcm, rate)
        paths = [first.path, copied / "b.flac", copied / "c.wav"]
        assert {each.identity for each in scan(paths, sounds)} == {first.content}

    def test_lossy_formats_are_identified_by_the_file(self, copied, sounds):
        """Their decoders differ in the last bits between processors."""
        pcm, rate = soundfile.read(next(copied.rglob("*.flac")))
        soundfile.write(copied / "x.mp3", pcm, rate)
        (found,) = scan([copied / "x.mp3"], sounds)
        assert found.identity == sha256(copied / "x.mp3")

    def test_a_file_is_hashed_once_in_a_process_unless_it_changes(self, copied, sounds, monkeypatch):
        path = next(copied.rglob("*.flac"))
        (before,) = scan([path], sounds)
        with monkeypatch.context() as patch:
            patch.setattr(audio_scan, "sha256", None)
            assert scan([path], sounds) == [before]
        self.noise(path)
        assert scan([path], sounds) != [before]

    def test_statistics_of_changed_audio_are_not_taken_from_the_cache(self, copied, sounds):
        from distill.caching.contents import contents_of

        self.as_wav(copied)
        items = read_corpus(copied).utterances[:3]
        before = contents_of(items)
        self.noise(items[1].path)
        assert [a == b for a, b in zip(before, contents_of(items), strict=True)] == [True, False, True]


class TestCommands:
    def test_distill_refuses_and_leaves_out(self, copied, recipe_file, tmp_path, cache):
        fold = make_fold(read_corpus(copied), FoldSpec(count=3, hold_out="sentence"), 0)
        tested, trained = fold.test[0], fold.train[0]
        pcm, rate = soundfile.read(tested.path, dtype="float32")
        soundfile.write(copied / "copy.mp3", pcm, rate)
        sentence = {"file": "copy.mp3", "speaker": trained.speaker, "sentence": trained.extra["sentence"]}
        add(copied, {tested.name: sentence})
        words = ("distill", recipe_file, "--corpus", copied, "--cache", cache, "--out", tmp_path / "run")
        words += ("--without", "linguistic", "--without", "prosodic", "--set", "student.training.epochs=1")
        refused = invoke(*words)
        assert refused.returncode == 1, refused.stderr
        assert "copy.mp3 = " in " ".join(refused.stderr.split())
        assert not (tmp_path / "run" / "run.json").exists()
        done = edgeemo(*words, "--exclude-leaks")
        assert done.returncode == 0, done.stderr
        assert "Left out: 1 of the train part" in " ".join(done.stderr.split())
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert [each["name"] for each in report["leaks"]] == ["copy.mp3"]
        assert json.loads((tmp_path / "run" / "run.json").read_text())["left_out_copies"] == ["copy.mp3"]

    def test_export_refuses_changed_audio(self, copied, run_dir, tmp_path):
        from export.loaded_run import load_run

        run = shutil.copytree(run_dir, tmp_path / "run")
        record = json.loads((run / "run.json").read_text())
        record["corpus"]["root"] = str(copied)
        (run / "run.json").write_text(json.dumps(record))
        assert load_run(run).corpus.utterances
        path = next(copied.rglob("*.flac"))
        seconds = soundfile.info(path).duration
        TestIdentity().noise(path)
        assert soundfile.info(path).duration == seconds
        with pytest.raises(EdgeemoError, match="has changed since"):
            load_run(run)


class TestBench:
    def held_out(self, bundle_dir, root):
        from benchmarks.bench.accuracy.graphs import held_out
        from edge_runtime.bundles.bundle import load_bundle

        return held_out(load_bundle(bundle_dir), read_corpus(root))

    @pytest.mark.parametrize("disguise", ["renamed", "mu-law"])
    def test_training_speech_under_other_names(self, disguise, bundle_dir, corpus_dir, tmp_path):
        rows = ["file,speaker,emotion"]
        for number, item in enumerate(read_corpus(corpus_dir).utterances):
            pcm, rate = DISGUISES[disguise](*soundfile.read(item.path, dtype="float32"))
            soundfile.write(tmp_path / f"x{number}.wav", pcm, rate)
            rows.append(f"x{number}.wav,s{number % 3},{item.emotion}")
        (tmp_path / "metadata.csv").write_text("\n".join(rows))
        with pytest.raises(EdgeemoError, match=r"utterances are speech that the bundle was trained on"):
            self.held_out(bundle_dir, tmp_path)

    def test_other_speech_is_taken(self, bundle_dir, tmp_path):
        from distill.rendered.render import render_corpus

        render_corpus(tmp_path / "other", seed=7, speakers=6, share=40, workers=1)
        (tmp_path / "other" / "corpus.json").write_text('{"name": "another"}')
        assert self.held_out(bundle_dir, tmp_path / "other").utterances

    def test_a_bundle_without_sketches_does_not_claim_that_the_speech_is_new(self, tmp_path):
        bundle = save_plain_bundle(tmp_path / "bundle")
        (tmp_path / "corpus").mkdir()
        rows = ["file,speaker,emotion"]
        for number, label in enumerate(plain_manifest()["labels"]):
            soundfile.write(tmp_path / "corpus" / f"{number}.wav", np.full(16_000, 0.1 * number), 16_000)
            rows.append(f"{number}.wav,s{number},{label}")
        (tmp_path / "corpus" / "metadata.csv").write_text("\n".join(rows))
        assert "copies of its training speech are not found" in self.held_out(bundle, tmp_path / "corpus").folds

    def test_bytes_are_few(self, bundle_dir):
        assert (bundle_dir / TRAINING_SPEECH).stat().st_size < 30_000

    def test_a_long_list_is_shortened(self, tmp_path):
        words = np.random.default_rng(0).integers(0, 1 << 32, (2 * MOST_SKETCHES, 2), dtype=np.uint32)
        write_sketches(tmp_path, words)
        content = (tmp_path / TRAINING_SPEECH).read_bytes()
        assert len(content) == 8 * MOST_SKETCHES
        assert recognised(content, words) == MOST_SKETCHES
        assert recognised(content, words + 1) == 0
        assert recognised(b"", words) == 0

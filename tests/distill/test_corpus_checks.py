"""What `edgeemo corpus` finds wrong, each with a corpus that has it; and what training refuses."""

import dataclasses
import json
import re
import time
import tracemalloc

import numpy as np
import pytest
import soundfile

from distill.checks import audio_scan
from distill.checks.acceptance import ACCEPTABLE
from distill.checks.audio_scan import SCAN, scan, scan_file
from distill.checks.corpus_checks import check_corpus, usable_corpus
from distill.checks.giveaway import PERMUTATIONS, probe
from distill.corpora import read_corpus
from edge_runtime.errors import EdgeemoError
from tests.conftest import SHARED, TINY_RECIPE, absent, edgeemo, invoke, need, tone

SPEAKERS, EMOTIONS, TAKES = "abcdef", ("angry", "sad"), 2


def speech(number, seconds=1.0, rate=16_000):
    """Return something unlike any other number's: a tone in noise."""
    noise = np.random.default_rng(number).standard_normal(round(seconds * rate)).astype(np.float32)
    return tone(seconds, rate, 120 + 3 * number) + 0.005 * noise


@pytest.fixture
def made(tmp_path):
    """A corpus of 24 clips of which nothing is wrong; a test breaks what it is about."""
    root = tmp_path / "made"
    root.mkdir()
    rows = ["file,speaker,emotion,language,transcript,session"]
    number = 0
    for speaker in SPEAKERS:
        for emotion in EMOTIONS:
            for take in range(TAKES):
                name = f"{speaker}-{emotion}-{take}.wav"
                soundfile.write(root / name, speech(number, 1.0 + 0.01 * (number * 7 % 24)), 16_000)
                rows.append(f"{name},{speaker},{emotion},en,words,{'xyz'[SPEAKERS.index(speaker) // 2]}")
                number += 1
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def found(root, tmp_path, check):
    checks = check_corpus(read_corpus(root), tmp_path / "cache", workers=1)
    return [finding for finding in checks.findings if finding.check == check]


class TestFindings:
    def test_nothing_is_found_where_nothing_is(self, made, tmp_path):
        checks = check_corpus(read_corpus(made), tmp_path / "cache", workers=1)
        assert [finding for finding in checks.findings if finding.level != "information"] == []
        assert [(fold.train, fold.validation, fold.test) for fold in checks.folds] == [
            (16, 4, 4) if 0 < fold.index < 4 else (12, 4, 8) if fold.index == 0 else (12, 8, 4) for fold in checks.folds
        ]

    @pytest.mark.parametrize(
        ("check", "level", "expected", "samples"),
        [
            ("broken", "problem", "not numbers", np.append(speech(1), np.float32("nan"))),
            ("broken", "problem", "not numbers", np.append(speech(1), np.float32("inf"))),
            ("silence", "problem", "digital silence", np.zeros(16_000, np.float32)),
            ("silence", "warning", "as good as silent", 1e-5 * speech(1)),
            ("short", "problem", "shorter than 0.1 s", speech(1, 0.05)),
            ("clipping", "warning", "at full scale", np.clip(20 * speech(1), -1, 1)),
            ("clipping", "warning", "clipped before they were made softer", 0.5 * np.clip(20 * speech(1), -1, 1)),
        ],
    )
    def test_one_bad_file(self, check, level, expected, samples, made, tmp_path):
        soundfile.write(made / "c-sad-1.wav", samples, 16_000, subtype="FLOAT")
        (finding,) = found(made, tmp_path, check)
        assert finding.level == level
        assert expected in finding.message
        assert finding.files == ("c-sad-1.wav",)

    def test_formats_are_reported_as_information(self, made, tmp_path):
        soundfile.write(made / "a-sad-0.wav", speech(1, rate=8_000), 8_000, subtype="PCM_U8")
        soundfile.write(made / "a-sad-1.wav", speech(2, rate=96_000), 96_000)
        soundfile.write(made / "b-sad-1.wav", speech(3, rate=17_123), 17_123)
        findings = found(made, tmp_path, "format")
        assert {finding.level for finding in findings} == {"information"}
        text = " ".join(finding.message for finding in findings)
        for part in ("8 bits a sample", "less than 16000 Hz", "17123 Hz (1 files)", "96000 Hz (1)"):
            assert part in text

    def test_the_same_sound_in_another_file(self, made, tmp_path):
        samples, rate = soundfile.read(made / "a-sad-0.wav", dtype="float32")
        soundfile.write(made / "copy.flac", samples, rate)
        with (made / "metadata.csv").open("a") as stream:
            stream.write("copy.flac,a,sad,en,words,x\n")
        (finding,) = found(made, tmp_path, "duplicates")
        assert finding.level == "warning"
        assert "a-sad-0.wav = copy.flac" in finding.message
        text = (made / "metadata.csv").read_text().replace("copy.flac,a,sad", "copy.flac,b,angry")
        (made / "metadata.csv").write_text(text)
        (finding,) = found(made, tmp_path, "duplicates")
        assert finding.level == "problem"
        assert "at most one of them can be right" in finding.message

    def test_a_cut_copy(self, made, tmp_path):
        for path in sorted(made.glob("*.wav"))[:12]:
            samples, rate = soundfile.read(path, dtype="float32")
            soundfile.write(path, np.resize(samples, 20_000), rate)
        (finding,) = found(made, tmp_path, "cut")
        assert "12 of 24 files are exactly 1.250 s long" in finding.message

    @pytest.mark.parametrize(("place", "cut"), [("end", 3), ("begin", 3), ("end", 2), ("whole", 24)])
    def test_words_that_are_cut(self, place, cut, made, tmp_path):
        """Speech in the middle of noise; a file is cut in its middle, or, as most of them, is not."""
        for number, path in enumerate(sorted(made.glob("*.wav"))):
            noise = 0.0005 * np.random.default_rng(number).standard_normal(8_000).astype(np.float32)
            parts = [noise, speech(number, 1 + number / 100), noise]
            if number < cut and place != "whole":
                parts = parts[:2] if place == "end" else parts[1:]
            soundfile.write(path, np.concatenate(parts), 16_000)
        findings = found(made, tmp_path, "cut")
        if place == "whole" or cut == 2:
            assert findings == []
            return
        (finding,) = findings
        assert finding.level == "warning"
        assert f"3 of 24 files (12%) {place} within speech" in finding.message
        assert finding.files == ("a-angry-0.wav", "a-angry-1.wav", "a-sad-0.wav")
        _, reported = usable_corpus(read_corpus(made), tmp_path / "cache", shortest=0.025)
        assert finding in reported, "distill shows it, and trains"

    @pytest.mark.parametrize(
        ("one", "other"),
        [("a", "A"), ("Actor_01", "actor 1"), ("1", "1.0"), ("anna-m", "Anna M"), ("spk 7", "spk7"), ("7", "07")],
    )
    def test_one_person_under_two_names(self, one, other, made, tmp_path):
        lines = (
            (made / "metadata.csv").read_text().replace(",a,sad", f",{other},sad").replace(",a,angry", f",{one},angry")
        )
        (made / "metadata.csv").write_text(lines)
        (finding,) = found(made, tmp_path, "speakers")
        assert finding.level == "problem"
        names = ", ".join(sorted([repr(one), repr(other)]))
        assert f"{names} differ in spelling only" in finding.message

    def test_one_person_under_three_names(self, made, tmp_path):
        text = (made / "metadata.csv").read_text()
        for old, new in (("a", "spk1"), ("b", "SPK 1"), ("c", "spk01"), ("d", "spk10"), ("e", "spk2")):
            text = text.replace(f",{old},", f",{new},")
        (made / "metadata.csv").write_text(text)
        (finding,) = found(made, tmp_path, "speakers")
        assert "The speakers 'SPK 1', 'spk01', 'spk1' differ in spelling only" in finding.message
        with pytest.raises(EdgeemoError, match=r"refused by the check speakers .*'SPK 1', 'spk01', 'spk1' .* --accept"):
            usable_corpus(read_corpus(made), tmp_path / "cache", shortest=0.025)

    @pytest.mark.parametrize("column", ["sentence", "transcript"])
    def test_sentences_that_should_be_held_out(self, column, made, tmp_path):
        """Everybody says two sentences angrily and two sadly."""
        text = (made / "metadata.csv").read_text()
        lines = [
            line.split(",")
            for line in text.replace("session", "sentence" if column == "sentence" else "session").splitlines()
        ]
        place = lines[0].index(column)
        for line in lines[1:]:
            line[place] = line[0][2:-4]
        (made / "metadata.csv").write_text("\n".join(map(",".join, lines)))
        (finding,) = found(made, tmp_path, "sentences")
        assert finding.level == "warning"
        assert f"The sentence alone (column '{column}') predicts the emotion of other speakers" in finding.message
        assert "a UA of 1.00 (chance 0.50): a model may recognise the words; hold sentences out" in finding.message
        given = {"cache": tmp_path / "cache", "shortest": 0.025}
        for hold_out, tested, expected in ((None, True, [finding]), (column, True, []), (None, False, [])):
            _, reported = usable_corpus(read_corpus(made), **given, hold_out=hold_out, tested=tested)
            assert [each for each in reported if each.check == "sentences"] == expected

    @pytest.mark.parametrize("said", ["sentence {third}", "only {number}"])
    def test_sentences_in_all_emotions_or_of_one_speaker(self, said, made, tmp_path):
        first, *rows = (made / "metadata.csv").read_text().splitlines()
        rows = [row.replace("words", said.format(third=number % 3, number=number)) for number, row in enumerate(rows)]
        (made / "metadata.csv").write_text("\n".join([first, *rows]))
        assert found(made, tmp_path, "sentences") == []

    def test_names_of_numbers_are_apart(self, made, tmp_path):
        names = {"a": "1-1", "b": "11", "c": "1.5", "d": "15", "e": "10", "f": "1"}
        text = (made / "metadata.csv").read_text()
        for old, new in names.items():
            text = text.replace(f",{old},", f",{new},")
        (made / "metadata.csv").write_text(text)
        assert found(made, tmp_path, "speakers") == []

    def test_one_label_under_two_names(self, made, tmp_path):
        text = (made / "metadata.csv").read_text()
        (made / "metadata.csv").write_text(text.replace(",a,sad", ",a,Sad").replace(",b,sad", ",b,Sad"))
        (finding,) = found(made, tmp_path, "labels")
        assert (finding.level, "'Sad', 'sad' differ in spelling only" in finding.message) == ("problem", True)

    def test_one_emotion_a_speaker(self, made, tmp_path):
        lines = (made / "metadata.csv").read_text().splitlines()
        wanted = {speaker: EMOTIONS[place % 2] for place, speaker in enumerate(SPEAKERS)}
        rows = [line for line in lines[1:] if line.split(",")[2] == wanted[line.split(",")[1]]]
        (made / "metadata.csv").write_text("\n".join([lines[0], *rows]))
        (finding,) = found(made, tmp_path, "one-emotion")
        assert finding.level == "problem"
        assert "Every one of 6 speakers shows one emotion only" in finding.message
        (made / "metadata.csv").write_text("\n".join([lines[0], *rows[::TAKES]]))
        (finding,) = found(made, tmp_path, "one-emotion")
        assert finding.level == "warning", "of one utterance each it cannot be otherwise"
        text = "\n".join([*dict.fromkeys([lines[0], *rows, *lines[1:5]])])
        (made / "metadata.csv").write_text(text)
        (finding,) = found(made, tmp_path, "one-emotion")
        assert (finding.level, finding.message[:15]) == ("warning", "5 of 6 speakers")

    def test_a_length_that_is_not_the_headers(self, made, tmp_path):
        corpus = read_corpus(made)
        first, *rest = corpus.utterances
        corpus = dataclasses.replace(corpus, utterances=(dataclasses.replace(first, seconds=2.5), *rest))
        (finding,) = [each for each in check_corpus(corpus, tmp_path).findings if each.check == "length"]
        assert (finding.level, finding.files) == ("problem", (first.name,))
        assert "another length than the header says" in finding.message

    def test_too_few_speakers_for_folds(self, made, tmp_path):
        lines = (made / "metadata.csv").read_text().splitlines()
        (made / "metadata.csv").write_text("\n".join(line for line in lines if line[1] == "i" or line[0] in "ab"))
        checks = check_corpus(read_corpus(made), None)
        assert checks.folds == ()
        assert "Only 2 speaker(s)" in checks.findings[0].message

    def test_a_label_that_some_folds_do_not_test(self, made, tmp_path):
        lines = (made / "metadata.csv").read_text().splitlines()
        (made / "metadata.csv").write_text("\n".join(each for each in lines if "sad" not in each or each[0] in "ab"))
        messages = [finding.message for finding in check_corpus(read_corpus(made), None).findings]
        assert any("Fold 2, 3, 4 of 5: The test part holds no sad" in message for message in messages)


class TestGiveaway:
    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("length", lambda samples, sad: samples[: 12_000 if sad else 16_000]),
            ("level", lambda samples, sad: samples * (0.2 if sad else 1.0)),
            ("noise floor", lambda samples, sad: np.append(samples, np.full(8_000, 1e-4 if sad else 2e-3, np.float32))),
        ],
    )
    def test_what_gives_the_label_away_is_named(self, name, change, made, tmp_path):
        need("sklearn")
        for path in made.glob("*.wav"):
            samples, rate = soundfile.read(path, dtype="float32")
            # Levels and lengths differ from clip to clip, but less than from label to label.
            random = np.random.default_rng(sum(path.name.encode()))
            samples = samples[: 16_000 - random.integers(400)] * random.uniform(0.8, 1.2)
            soundfile.write(path, change(samples, "sad" in path.name), rate, subtype="FLOAT")
        (finding,) = found(made, tmp_path, "giveaway")
        assert finding.level == "problem", "nothing but the recording is needed"
        assert f"SUSPICIOUS: {name}" in finding.message

    def test_the_bound_holds_where_labels_mean_nothing(self, made, tmp_path):
        need("sklearn")
        corpus = read_corpus(made)
        scans = scan([item.path for item in corpus.utterances], tmp_path / "cache", workers=1)
        for seed in range(3):
            assert not [each for each in probe(corpus.utterances, scans, seed=seed) if each.suspicious]
        assert PERMUTATIONS >= 40

    @pytest.mark.slow
    def test_published_facts_of_real_corpora(self, tmp_path):
        need("sklearn")
        root = SHARED / "data"
        if not root.is_dir():
            absent("the shared corpora")
        (cut,) = [each for each in check_corpus(read_corpus(root / "emodb"), None).findings if each.check == "cut"]
        assert "409 of 535 files are exactly 2.000 s long" in cut.message
        *_, words = found(root / "emodb", tmp_path, "cut")
        assert re.search(r"of 535 files \(4\d%\) end within speech", words.message)
        for whole in ("emodb_whole", "korean_emotiontts"):
            assert found(root / whole, tmp_path, "cut") == []
        (finding,) = found(root / "korean_emotiontts", tmp_path, "giveaway")
        assert "SUSPICIOUS" in finding.message


class TestScan:
    def test_what_it_measures(self, tmp_path):
        path = tmp_path / "a.wav"
        half = np.concatenate([0.5 * np.sin(np.arange(16_000) * 0.1), 0.001 * np.ones(16_000)]).astype(np.float32)
        soundfile.write(path, half, 16_000, subtype="FLOAT")
        result = scan_file(path)
        assert (result.seconds, result.peak) == (2.0, pytest.approx(0.5, abs=1e-3))
        assert result.level_db == pytest.approx(10 * np.log10(0.125 / 2), abs=0.05)
        assert result.floor_db == pytest.approx(-60, abs=0.1)
        assert result.full_scale == result.flat_tops == 0
        assert result.first_db == pytest.approx(10 * np.log10(np.mean(half[:320].astype(float) ** 2)))
        assert result.last_db == pytest.approx(-60, abs=1e-3)

    def test_long_files_do_not_grow_memory(self, tmp_path):
        path = tmp_path / "long.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1) as file:
            for number in range(120):
                file.write(speech(number, 5.0))
        tracemalloc.start()
        assert scan_file(path).seconds == 600
        assert tracemalloc.get_traced_memory()[1] < 8e6, "ten minutes are 38 MB as float32"
        tracemalloc.stop()

    def test_results_are_kept_by_content(self, made, tmp_path):
        paths = sorted(made.glob("*.wav"))
        first = scan(paths, tmp_path / "cache", workers=2)
        kept = list((tmp_path / "cache" / SCAN).iterdir())
        assert len(kept) == len(paths)
        before = {path: path.stat().st_mtime_ns for path in kept}
        paths[0].rename(made / "renamed.wav")
        assert scan([made / "renamed.wav", *paths[1:]], tmp_path / "cache") == first
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / SCAN).iterdir()} == before
        kept[0].write_text("half a res")
        assert scan([made / "renamed.wav", *paths[1:]], tmp_path / "cache") == first

    def test_in_processes_as_in_one(self, tmp_path, monkeypatch):
        paths = []
        for number in range(70):
            paths.append(tmp_path / f"{number}.wav")
            soundfile.write(paths[-1], speech(number, 0.2), 16_000)
        ticks = []
        parallel = scan(paths, tmp_path / "p", workers=2, progress=lambda: ticks.append(1))
        assert len(ticks) == 70
        assert parallel == scan(paths, tmp_path / "s", workers=1)
        monkeypatch.setattr(audio_scan, "ProcessPoolExecutor", None)
        assert scan(paths, tmp_path / "p", workers=2, progress=lambda: ticks.append(1)) == parallel, "only hashed"
        assert len(ticks) == 140


class TestUsableCorpus:
    def test_refused_before_training(self, made, tmp_path):
        soundfile.write(made / "c-sad-1.wav", np.append(speech(1), np.float32("nan")), 16_000, subtype="FLOAT")
        soundfile.write(made / "d-sad-1.wav", speech(2, 0.01), 16_000)
        corpus = read_corpus(made)
        expected = r"c-sad-1\.wav: holds samples that are not numbers .* 1 more such files"
        with pytest.raises(EdgeemoError, match=expected):
            usable_corpus(corpus, tmp_path, shortest=0.025)
        whole, _ = usable_corpus(corpus, tmp_path, shortest=0.025, skip_broken=True)
        assert whole.left_out == ("c-sad-1.wav", "d-sad-1.wav")
        assert "10 ms long, too short for training" in whole.skipped[1]
        assert len(whole.utterances) == 22

    def test_what_the_other_command_calls_a_problem(self, made, tmp_path):
        soundfile.write(made / "c-sad-1.wav", np.zeros(16_000, np.float32), 16_000)
        soundfile.write(made / "d-sad-1.wav", np.zeros(16_000, np.float32), 16_000)
        soundfile.write(made / "e-sad-1.wav", speech(2, 0.05), 16_000)
        text = (made / "metadata.csv").read_text().replace(",a,sad", ",A,sad")
        (made / "metadata.csv").write_text(text)
        corpus = read_corpus(made)
        problems = {each.check for each in check_corpus(corpus, tmp_path).findings if each.level == "problem"}
        assert problems == {"silence", "short", "speakers"}
        expected = (
            r"refused by the checks speakers \(1 finding\), short \(1 file\), silence \(2 files\): The speakers .*; "
            "repair it or accept it with --accept speakers,short,silence$"
        )
        with pytest.raises(EdgeemoError, match=expected):
            usable_corpus(corpus, tmp_path, shortest=0.025)
        smaller, findings = usable_corpus(corpus, tmp_path, shortest=0.025, skip_broken=True, accept=["speakers"])
        assert smaller.left_out == ("c-sad-1.wav", "d-sad-1.wav", "e-sad-1.wav")
        assert [each.check for each in findings if each.level == "problem"] == ["speakers"]
        whole, findings = usable_corpus(corpus, tmp_path, shortest=0.025, accept=problems)
        assert (whole, {each.check for each in findings if each.level == "problem"}) == (corpus, problems)

    def test_the_same_sound_with_two_labels(self, made, tmp_path):
        (made / "b-sad-0.wav").write_bytes((made / "a-angry-0.wav").read_bytes())
        with pytest.raises(
            EdgeemoError, match=r"refused by the check duplicates \(2 files\): 1 recording.* --accept dupl"
        ):
            usable_corpus(read_corpus(made), tmp_path, shortest=0.025)

    def test_speech_for_training_only_may_have_a_label_of_one_speaker(self, made, tmp_path):
        lines = (made / "metadata.csv").read_text().splitlines()
        (made / "metadata.csv").write_text("\n".join(each for each in lines if "sad" not in each or each[0] == "a"))
        with pytest.raises(EdgeemoError, match="Only the speaker 'a' shows the emotion 'sad'"):
            usable_corpus(read_corpus(made), tmp_path, shortest=0.025)
        usable_corpus(read_corpus(made), tmp_path, shortest=0.025, tested=False)

    def test_names_to_accept(self, made, tmp_path):
        done = invoke(
            "distill", "demo", "--corpus", made, "--out", tmp_path / "run", "--accept", "silence,noise", code=2
        )
        assert f"'noise' is no check to accept; they are {', '.join(ACCEPTABLE)}" in " ".join(done.stderr.split())

    def test_the_command_refuses_in_one_sentence(self, made, tmp_path):
        need("torch", "transformers", "opensmile")
        soundfile.write(made / "c-sad-1.wav", np.append(speech(1), np.float32("nan")), 16_000, subtype="FLOAT")
        recipe = tmp_path / "r.toml"
        recipe.write_text(TINY_RECIPE.replace('hold_out = "sentence"', ""))
        given = ("--corpus", made, "--out", tmp_path / "run", "--cache", tmp_path, "--without", "linguistic")
        done = edgeemo("distill", recipe, *given, code=1)
        assert done.stderr.count("\n") == 1
        assert "c-sad-1.wav: holds samples that are not numbers" in done.stderr
        assert "--skip-broken" in done.stderr
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_what_was_accepted_is_in_the_report(self, made, tmp_path):
        need("torch", "transformers", "opensmile")
        (made / "b-sad-0.wav").write_bytes((made / "b-angry-0.wav").read_bytes())
        recipe = tmp_path / "r.toml"
        recipe.write_text(TINY_RECIPE.replace('hold_out = "sentence"', ""))
        given = ("--corpus", made, "--out", tmp_path / "run", "--cache", tmp_path, "--without", "linguistic")
        done = edgeemo("distill", recipe, *given, "--accept", "duplicates", code=0)
        assert "accepted problem: made: 1 recording(s) stand there several times" in " ".join(done.stderr.split())
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert report["accepted"] == ["duplicates"]
        assert "accepted by --accept duplicates." in report["note"]
        assert [each["check"] for each in report["findings"] if each["level"] == "problem"] == ["duplicates"]


class TestCommand:
    def test_json_has_everything(self, made):
        done = invoke("corpus", made, "--json", code=0)
        summary = json.loads(done.stdout)
        assert summary["speakers_per_label"] == {"angry": 6, "sad": 6}
        assert summary["sample_rates"] == {"16000": 24}
        assert summary["folds"][0]["speakers"] == ["a", "f"]
        assert {tuple(each["features"]) for each in summary["probes"]} >= {("level", "noise floor")}
        assert summary["columns"] == ["session"]
        quick = json.loads(invoke("corpus", made, "--json", "--quick").stdout)
        assert quick["probes"] == []
        assert quick["folds"] == summary["folds"]

    def test_people_read_the_error_stream(self, made):
        soundfile.write(made / "c-sad-1.wav", np.zeros(16_000, np.float32), 16_000)
        done = edgeemo("corpus", made, "--workers", 1, code=0)
        assert done.stdout == ""
        assert "problem: c-sad-1.wav: digital silence." in done.stderr
        assert "5 folds by speaker" in done.stderr

    @pytest.mark.slow
    def test_a_quarter_of_ravdess_in_a_quarter_of_a_minute_on_one_core(self, tmp_path):
        root = SHARED / "data" / "ravdess"
        if not root.is_dir():
            absent("the corpus ravdess")
        need("sklearn")
        corpus = read_corpus(root)
        some = tuple(item for item in corpus.utterances if item.speaker in corpus.speakers[::4])
        quarter = dataclasses.replace(corpus, utterances=some)
        before = time.process_time()
        check_corpus(quarter, tmp_path, workers=1)
        assert time.process_time() - before < 60 / 4

"""Corpora as they lie on disks: renamed, nested, linked, half downloaded, mixed, and with tables of any program."""

import json

import numpy as np
import pytest
import soundfile

from distill.checks.metadata import check_contents
from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, READER, readers_of
from distill.folds import FoldSpec, make_fold
from edge_runtime.errors import EdgeemoError, WrongUseError
from tests.conftest import TINY_RECIPE, edgeemo, invoke, need, tone
from tests.distill.test_corpora import MELD_HEADER, TREES, by_name, files, iemocap, meld, sound, tree

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146a0\nsize 12345\n"


def labels(corpus):
    return {stem: (item.speaker, item.emotion) for stem, item in by_name(corpus).items()}


class TestFolders:
    @pytest.mark.parametrize("name", TREES)
    def test_renamed_nested_and_in_capitals(self, name, tmp_path):
        usual = labels(read_corpus(tree(name, tmp_path / "usual")))
        for number, path in enumerate(sorted((tmp_path / "usual").rglob("*.wav"))):
            target = tmp_path / "other" / "My copy (2)" / f"part {number}" / f"{path.stem}.WAV"
            target.parent.mkdir(parents=True)
            path.rename(target)
        assert labels(read_corpus(tmp_path / "other")) == usual

    def test_companions_of_macos_and_windows(self, tmp_path):
        root = tree("emodb", tmp_path / "emodb")
        for path in list(root.rglob("*.wav")):
            path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00")
        for name in (".DS_Store", "Thumbs.db", "wav/.DS_Store", "wav/desktop.ini"):
            (root / name).write_bytes(b"\x00\x00\x00\x01Bud1")
        (root / "__MACOSX").mkdir()
        (root / "__MACOSX" / "._03a01Fa.wav").write_bytes(b"\x00\x05\x16\x07")
        corpus = read_corpus(root)
        assert (len(corpus.utterances), corpus.unread) == (3, ())

    def test_links(self, tmp_path):
        root = tree("emodb", tmp_path / "emodb")
        usual = labels(read_corpus(root))
        away = tmp_path / "away" / "wav"
        away.parent.mkdir()
        (root / "wav").rename(away)
        (root / "wav").symlink_to(away)
        (root / "again").symlink_to(away)
        (root / "loop").symlink_to(root)
        (root / "up").symlink_to(tmp_path)
        (away / "back").symlink_to(away.parent)
        corpus = read_corpus(root)
        assert labels(corpus) == usual
        (tmp_path / "linked").symlink_to(root)
        assert labels(read_corpus(tmp_path / "linked")) == usual

    def test_a_link_to_nothing(self, tmp_path):
        root = tree("emodb", tmp_path)
        (root / "wav" / "09a01Fa.wav").symlink_to(tmp_path / "annex" / "09a01Fa.wav")
        with pytest.raises(EdgeemoError, match=r"09a01Fa\.wav: is a link to .*annex.*, which does not exist"):
            read_corpus(root)
        assert len(read_corpus(root, skip_broken=True).utterances) == 3

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (LFS, "is a Git LFS pointer, not audio; run in its repository: git lfs pull"),
            ("/annex/objects/MD5E-s12--1.wav\n", "is a git-annex pointer, not audio; .* git annex get"),
            ("<!DOCTYPE html><title>403</title>", "is a web page, not audio; download it again"),
        ],
    )
    def test_what_is_no_audio(self, content, expected, tmp_path):
        root = tree("ravdess", tmp_path)
        (root / "Actor_01" / "03-01-05-02-01-02-01.wav").write_text(content)
        with pytest.raises(EdgeemoError, match=rf"03-01-05-02-01-02-01\.wav: {expected}"):
            read_corpus(root)

    def test_folders_around_a_corpus_of_tables(self, tmp_path):
        iemocap(tmp_path / "data" / "IEMOCAP_full_release")
        (tmp_path / "data" / "IEMOCAP_full_release" / "README.txt").write_text("read me")
        assert len(read_corpus(tmp_path).utterances) == 20
        meld(tmp_path / "data" / "MELD.Raw")
        with pytest.raises(EdgeemoError, match=r"data: is laid out like meld, and .*IEMOCAP_full_release like iemocap"):
            read_corpus(tmp_path / "data")
        for name in ("one", "two"):
            files(tmp_path / "tables" / name, "a.wav")
            (tmp_path / "tables" / name / "metadata.csv").write_text("file,speaker,emotion\na.wav,s,sad\n")
        with pytest.raises(EdgeemoError, match=r"holds 2 corpora \(one, two\); give one of them, or each by --corpus"):
            read_corpus(tmp_path / "tables")

    def test_iemocap_in_capitals(self, tmp_path):
        root = iemocap(tmp_path, sessions=("1",))
        for path in list(root.rglob("*.wav")):
            path.rename(path.with_suffix(".WAV"))
        assert len(read_corpus(root).utterances) == 10


class TestMixtures:
    def test_two_corpora_in_one_folder(self, tmp_path):
        tree("ravdess", tree("crema-d", tmp_path))
        expected = r"holds 3 files named as those of ravdess and 3 files named as those of crema-d; move each corpus"
        with pytest.raises(EdgeemoError, match=expected):
            read_corpus(tmp_path)
        corpus = read_corpus(tmp_path, reader="crema-d")
        assert len(corpus.utterances) == 3
        (finding,) = [each for each in check_contents(corpus) if "not read" in each.message]
        assert finding.message.startswith("3 files (Actor_01/03-01-05-02-01-02-01.wav")

    def test_many_files_of_the_first_do_not_hide_the_second(self, tmp_path):
        names = (
            f"Actor_01/03-01-0{emotion}-01-0{s}-0{r}-01.wav" for emotion in range(1, 9) for s in (1, 2) for r in (1, 2)
        )
        files(
            tmp_path,
            *names,
            *(f"Actor_02/03-01-0{emotion}-01-01-0{r}-02.wav" for emotion in range(1, 9) for r in (1, 2)),
        )
        files(tmp_path, *(f"Actor_03/03-01-0{emotion}-01-01-0{r}-03.wav" for emotion in range(1, 9) for r in (1, 2)))
        assert len(read_corpus(tmp_path).utterances) == 64
        sound(tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav")
        with pytest.raises(
            EdgeemoError, match="holds 64 files named as those of ravdess and 1 files named as those of"
        ):
            read_corpus(tmp_path)

    def test_a_few_files_of_a_corpus_among_others(self, tmp_path):
        files(tmp_path, "wav/03a01Fa.wav", *(f"song {number}.wav" for number in range(3)))
        with pytest.raises(EdgeemoError, match="only 1 of 4 audio files are named as those of emodb"):
            read_corpus(tmp_path)
        assert len(read_corpus(tmp_path, reader="emodb").unread) == 3


def mixed(root):
    """Write six speakers each of RAVDESS and EMO-DB, angry and neutral, into one folder."""
    random = np.random.default_rng(0)
    names = [
        f"03-01-{code}-01-01-0{take}-0{actor}" for code in ("05", "01") for take in (1, 2) for actor in range(1, 7)
    ]
    names += [f"{speaker:02}a0{text}{code}a" for code in "WN" for text in (1, 2) for speaker in (3, 8, 9, 10, 11, 12)]
    for name in names:
        pcm = tone(0.8 + 0.2 * random.random(), frequency=random.uniform(100, 500))
        soundfile.write(root / f"{name}.wav", pcm + random.normal(0, 0.01, len(pcm)), 16_000)
    return root


class TestReadersOfDistill:
    @pytest.mark.slow
    def test_two_corpora_out_of_one_folder(self, tmp_path, cache):
        need("torch", "transformers")
        (tmp_path / "mixed").mkdir()
        root = mixed(tmp_path / "mixed")
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(TINY_RECIPE.replace('hold_out = "sentence"', ""))
        words = ["distill", recipe, "--without", "linguistic", "--without", "prosodic", "--cache", cache]
        words += ["--set", "student.training.epochs=1", "--out", tmp_path / "runs", "--fold", "all"]
        done = invoke(*words, "--corpus", root, code=1)
        assert "or read one where it lies by --reader ravdess" in " ".join(done.stderr.split())
        both = [f"--corpus=en={root}", f"--corpus=de={root}", "--reader", "en=ravdess", "--reader", "de=emodb"]
        edgeemo(*words, *both, code=0)
        from export.loaded_run import load_run

        corpus = load_run(tmp_path / "runs" / "fold-0").corpus
        assert [(part.corpus.facts.name, part.corpus.reader) for part in corpus.parts] == [
            ("en", "ravdess"),
            ("de", "emodb"),
        ]
        assert {item.emotion for item in corpus.utterances} == {"angry", "neutral"}

    @pytest.mark.parametrize(
        ("readers", "expected"),
        [
            (["emodb"], "--reader emodb: there are 2 corpora; name the one .* --corpus NAME=PATH --reader NAME=emodb"),
            (["c=emodb"], "--reader c=emodb: no corpus is called 'c'; name it: --corpus c=PATH"),
            (["a=emodb", "a=cafe"], "--reader a=cafe: a=X has the reader emodb already; give one of them"),
        ],
    )
    def test_a_reader_that_belongs_to_no_single_corpus(self, readers, expected):
        given = [CORPUS.convert(each, None, None) for each in ("a=X", "b=X")]
        with pytest.raises(WrongUseError, match=expected):
            readers_of(given, [READER.convert(each, None, None) for each in readers])

    def test_a_reader_without_a_name_is_that_of_the_only_corpus(self):
        (only,) = given = [CORPUS.convert("X", None, None)]
        assert readers_of(given, [READER.convert("emodb", None, None)]) == {only: "emodb"}

    def test_both_commands_refuse_an_unknown_reader_alike(self, tmp_path):
        sentences = [
            " ".join(invoke(*words, "--reader", "emo", code=2).stderr.split()).partition("Error: ")[2]
            for words in (("corpus", tmp_path), ("distill", "demo", "--corpus", tmp_path, "--out", tmp_path / "run"))
        ]
        assert sentences[0] == sentences[1]
        assert "'emo' is not one of 'manifest'" in sentences[0]


class TestTablesOfPublishedCorpora:
    @pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16"])
    def test_demographics_in_any_encoding(self, encoding, tmp_path):
        root = tree("crema-d", tmp_path)
        text = "ActorID,Age,Sex,Race\r\n1001,51,Male,Café\r\n1002,21,Female,\r\n"
        (root / "VideoDemographics.csv").write_bytes(text.encode(encoding))
        assert [item.column("sex") for item in read_corpus(root).utterances] == ["male", "female", ""]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Actor;Age;Sex\n1001;51;Male\n", r"lacks the columns ActorID and Sex.* \(it has: Actor;Age;Sex\)"),
            ("", r"\(it has: none\)"),
            (LFS, "is a Git LFS pointer, not the table"),
        ],
    )
    def test_another_demographics_table(self, text, expected, tmp_path):
        root = tree("crema-d", tmp_path)
        (root / "VideoDemographics.csv").write_text(text)
        with pytest.raises(EdgeemoError, match=rf"VideoDemographics\.csv: .*{expected}"):
            read_corpus(root)

    def test_demographics_of_other_columns_and_actors(self, tmp_path):
        root = tree("crema-d", tmp_path)
        (root / "VideoDemographics.csv").write_text("Sex, ActorID\nMale\nFemale,1002\n")
        assert by_name(read_corpus(root))["1002_IEO_HAP_HI"].column("sex") == "female"

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ("3,Hm.,Ross", "whose Dialogue_ID and Utterance_ID are no numbers but '' and ''"),
            ("3,Hm.,Ross,joy,positive,x,2,8,21,a,b", "no numbers but 'x' and '2'"),
            ("3,Hm.,,joy,positive,0,2,8,21,a,b", "has a row without Speaker"),
            ("3,Hm.,Ross,,positive,0,2,8,21,a,b", "has a row without Emotion"),
            ("3,Hm, no.,Ross,joy,positive,0,2,8,21,a,b", "no numbers but 'positive' and '0'"),
            ("3,Hm.,Ross,joy,positive,0,2,8,21,a,b,c", "has a row with more values than columns"),
        ],
    )
    def test_malformed_rows_of_meld(self, row, expected, tmp_path):
        root = meld(tmp_path)
        with (root / "dev_sent_emo.csv").open("a") as stream:
            stream.write(row + "\n")
        with pytest.raises(EdgeemoError, match=rf"dev_sent_emo\.csv: .*{expected}.* \(dev_sent_emo\.csv, line 4\)"):
            read_corpus(root)
        assert len(read_corpus(root, skip_broken=True).utterances) == 6

    def test_meld_as_spreadsheets_save_it(self, tmp_path):
        usual = [(item.name, item.emotion) for item in read_corpus(meld(tmp_path)).utterances]
        table = tmp_path / "train_sent_emo.csv"
        table.write_bytes(table.read_text().replace("\x92", "’").replace("\n", "\r\n").encode("cp1252"))
        corpus = read_corpus(tmp_path)
        assert [(item.name, item.emotion) for item in corpus.utterances] == usual
        assert corpus.utterances[0].transcript == "It’s train, really."


def meld_with_groups(root):
    """Six speakers in all splits but one, and a group."""
    meld(root)
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    for split, folder in folders.items():
        people = ["Joey", "Rachel", "Ross", "Monica", "All", "Phoebe and Ross"]
        rows = []
        for number, (speaker, emotion) in enumerate((name, label) for name in people for label in ("joy", "anger")):
            rows.append(f'{number},"Hm.",{speaker},{emotion},positive,1,{number},8,21,"0","1"')
            sound(root / folder / f"dia1_utt{number}.wav")
        (root / f"{split}_sent_emo.csv").write_text(MELD_HEADER + "\n".join(rows) + "\n")
    return root


class TestPublishedDivision:
    SPEC = FoldSpec(by="split", count="published", speaker_mixed=True)

    def test_groups_are_in_no_fold_by_speaker(self, tmp_path):
        corpus = read_corpus(meld_with_groups(tmp_path))
        fold = make_fold(corpus, FoldSpec(count=3), 0)
        assert {item.speaker for item in fold.everything} == {"Joey", "Rachel", "Ross", "Monica"}
        assert fold.notes == ("12 utterances of groups of speakers (All, Phoebe and Ross) are in no part.",)

    def test_the_split_of_meld(self, tmp_path):
        corpus = read_corpus(meld_with_groups(tmp_path))
        assert self.SPEC.fold_count(corpus) == 1
        fold = make_fold(corpus, self.SPEC, 0)
        parts = [{item.extra["split"] for item in part} for part in (fold.train, fold.validation, fold.test)]
        assert parts == [{"train"}, {"dev"}, {"test"}]
        assert len(fold.test) == 12, "groups too, as published"
        assert self.SPEC.describe(0).startswith("published division by split; SPEAKER-MIXED")
        with pytest.raises(EdgeemoError, match="the speaker 'Joey' falls into two parts"):
            make_fold(corpus, FoldSpec(by="split", count="published"), 0)
        with pytest.raises(EdgeemoError, match="fold 1 does not exist"):
            make_fold(corpus, self.SPEC, 1)

    def test_a_column_of_a_manifest(self, tmp_path):
        rows = [("a", "Train"), ("b", "validation"), ("c", "eval")]
        names = [f"{speaker}-{emotion}.wav" for speaker, _ in rows for emotion in ("joy", "fear")]
        files(tmp_path, *names)
        lines = [
            f"{name},{speaker},{name[2:-4]},{part}" for speaker, part in rows for name in names if name[0] == speaker
        ]
        (tmp_path / "metadata.csv").write_text("file,speaker,emotion,part\n" + "\n".join(lines))
        spec = FoldSpec(by="part", count="published")
        fold = make_fold(read_corpus(tmp_path), spec, 0)
        assert [{item.speaker for item in part} for part in (fold.train, fold.validation, fold.test)] == [
            {"a"},
            {"b"},
            {"c"},
        ]
        assert FoldSpec.recorded({"by": "part", "count": spec.fold_count(read_corpus(tmp_path))}) == spec
        (tmp_path / "metadata.csv").write_text((tmp_path / "metadata.csv").read_text().replace("eval", "unused"))
        with pytest.raises(EdgeemoError, match="which also holds 'unused'"):
            make_fold(read_corpus(tmp_path), spec, 0)

    def test_goes_with_a_column_of_parts_only(self):
        for wrong in ({}, {"by": "split", "hold_out": "sentence"}, {"by": "split", "validation": 2}):
            with pytest.raises(ValueError, match="goes with by = 'split'"):
                FoldSpec(count="published", **wrong)


class TestAudformat:
    @pytest.fixture
    def database(self, tmp_path):
        need("audformat")
        import audformat

        self.names = ["wav/a.wav", "wav/b.wav", "wav/c.wav"]
        files(tmp_path, *self.names)
        db = audformat.Database("mine", source="here", usage="research", languages=["deu"], license="CC0-1.0")
        db.schemes["emotion"] = audformat.Scheme(labels=["joy", "anger"])
        db.schemes["speaker"] = audformat.Scheme(labels=["s1", "s2"])
        self.add(db, "files", {"speaker": ["s1", "s2", "s1"]})
        return db

    def add(self, database, name, columns, scheme="", **options):
        import audformat

        database[name] = audformat.Table(audformat.filewise_index(self.names), **options)
        for column, values in columns.items():
            database[name][column] = audformat.Column(scheme_id=scheme or column)
            database[name][column].set(values)

    def test_two_tables_of_labels(self, database, tmp_path):
        self.add(database, "anna", {"emotion": ["joy", "anger", "joy"]})
        self.add(database, "ben", {"emotion": ["joy", "joy", "joy"]})
        database.save(str(tmp_path), storage_format="csv")
        expected = r"tables 'anna' and 'ben' give wav/b\.wav the emotion 'anger' and 'joy'; choose one .*db\.ben\.csv"
        with pytest.raises(EdgeemoError, match=expected):
            read_corpus(tmp_path)
        chosen = read_corpus(tmp_path / "db.anna.csv")
        assert [item.emotion for item in chosen.utterances] == ["joy", "anger", "joy"]
        assert (chosen.reader, chosen.source, chosen.facts.name) == ("audformat", tmp_path / "db.anna.csv", "mine")
        assert read_corpus(chosen.source, reader=chosen.reader) == chosen, "as an export reads it again"
        done = invoke("corpus", tmp_path / "db.ben.csv", "--quick", "--json", code=0)
        assert json.loads(done.stdout)["labels"] == {"joy": 3}
        with pytest.raises(EdgeemoError, match="the table 'files' gives no emotion"):
            read_corpus(tmp_path / "db.files.csv")
        (tmp_path / "db.other.csv").write_text("file,emotion\n")
        with pytest.raises(
            EdgeemoError, match=r"db\.other\.csv: is no table of its database \(it has: anna, ben, files\)"
        ):
            read_corpus(tmp_path / "db.other.csv")

    def test_tables_that_agree_or_share_no_file(self, database, tmp_path):
        self.add(database, "one", {"emotion": ["joy", None, None]})
        self.add(database, "two", {"emotion": ["joy", "anger", None]})
        database.save(str(tmp_path))
        assert {item.name: item.emotion for item in read_corpus(tmp_path).utterances} == {
            "wav/a.wav": "joy",
            "wav/b.wav": "anger",
        }

    def test_raters_vote(self, database, tmp_path):
        ratings = {"r1": ["joy", "anger", "joy"], "r2": ["joy", None, "joy"], "r3": ["anger", None, "anger"]}
        self.add(database, "raters", ratings, scheme="emotion")
        database.save(str(tmp_path))
        assert [item.emotion for item in read_corpus(tmp_path).utterances] == ["joy", "anger", "joy"]
        ratings["r3"] = ["anger", "joy", "anger"]
        self.add(database, "raters", ratings, scheme="emotion")
        database.save(str(tmp_path))
        with pytest.raises(EdgeemoError, match=r"b\.wav: its raters disagree \(anger, joy have as many votes\)"):
            read_corpus(tmp_path)
        assert len(read_corpus(tmp_path, skip_broken=True).utterances) == 2

    def test_splits(self, database, tmp_path):
        import audformat

        database.splits["dev"] = audformat.Split("dev")
        self.add(database, "labels", {"emotion": ["joy", "anger", "joy"]}, split_id="dev")
        database.save(str(tmp_path))
        assert {item.column("split") for item in read_corpus(tmp_path).utterances} == {"dev"}


class TestManifests:
    TEXT = "file,speaker,emotion,transcript\na.wav,s1,sad,Grüße\nb.wav,s2,joy,nein\n"

    def read(self, root, text, encoding="utf-8", name="metadata.csv"):
        files(root, "a.wav", "b.wav", "wav/c.wav")
        (root / name).write_bytes(text.encode(encoding))
        return [(item.name, item.speaker, item.emotion, item.transcript) for item in read_corpus(root).utterances]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_encodings_and_ends_of_lines(self, encoding, end, tmp_path):
        rows = self.read(tmp_path, self.TEXT.replace("\n", end), encoding)
        assert rows == [("a.wav", "s1", "sad", "Grüße"), ("b.wav", "s2", "joy", "nein")]

    def test_json_lines_with_crlf_in_utf_16(self, tmp_path):
        lines = [
            {"file": "a.wav", "speaker": "s ", "emotion": "sad"},
            {"file": "b.wav", "speaker": 2, "emotion": "joy"},
        ]
        text = "\r\n".join(map(json.dumps, lines))
        rows = self.read(tmp_path, text, "utf-16", "metadata.jsonl")
        assert [row[:3] for row in rows] == [("a.wav", "s", "sad"), ("b.wav", "2", "joy")]

    @pytest.mark.parametrize(
        ("encoding", "expected"), [("latin-1", "invalid"), ("utf-16-le", "null characters|invalid")]
    )
    def test_other_encodings_are_refused(self, encoding, expected, tmp_path):
        with pytest.raises(EdgeemoError, match=rf"metadata\.csv: is not UTF-8 text \(.*({expected})"):
            self.read(tmp_path, self.TEXT, encoding)

    def test_blanks_and_blank_rows(self, tmp_path):
        text = "file, speaker ,emotion ,transcript\n a.wav ,s1 , sad\t,\n\n,,,\n  \nb.wav,\u00a0s2,joy,nein \n"
        assert self.read(tmp_path, text) == [("a.wav", "s1", "sad", ""), ("b.wav", "s2", "joy", "nein")]

    @pytest.mark.parametrize("value", ["nan", "NaN", "<NA>", "None", "null"])
    def test_missing_values_of_tables(self, value, tmp_path):
        with pytest.raises(EdgeemoError, match=rf"metadata\.csv, line 3: the column 'speaker' is '{value}', a missing"):
            self.read(tmp_path, self.TEXT.replace("s2", value))
        assert self.read(tmp_path, self.TEXT.replace("nein", "None"))[1][3] == "None", "a word"
        assert self.read(tmp_path, self.TEXT.replace("nein", "nan"))[1][3] == ""

    def test_not_a_number_in_json(self, tmp_path):
        row = {"file": "a.wav", "speaker": np.nan, "emotion": "sad"}
        with pytest.raises(EdgeemoError, match="line 1: the column 'speaker' is 'NaN'"):
            self.read(tmp_path, json.dumps(row), name="metadata.jsonl")

    def test_paths_of_windows(self, tmp_path):
        assert self.read(tmp_path, "file,speaker,emotion\nwav\\c.wav,s,sad\n.\\a.wav,t,joy\n")[0][0] == "wav/c.wav"
        for path in ("C:\\data\\a.wav", "d:/data/a.wav", "\\\\server\\share\\a.wav"):
            with pytest.raises(EdgeemoError, match=r"metadata\.csv, line 2: .* is a path on a Windows drive"):
                self.read(tmp_path, f"file,speaker,emotion\n{path},s,sad\n")

    def test_one_file_under_two_spellings(self, tmp_path):
        with pytest.raises(EdgeemoError, match=r"a\.wav: is named twice in metadata\.csv, line 3"):
            self.read(tmp_path, "file,speaker,emotion\na.wav,s,sad\n./a.wav,t,joy\n")

    def test_a_file_that_is_called_otherwise(self, tmp_path):
        files(tmp_path, "d.WAV", "e.flac")
        for name, other in (("d.wav", "d.WAV"), ("e.wav", "e.flac")):
            with pytest.raises(
                EdgeemoError, match=rf"{name}: is missing \(metadata\.csv, line 2\) \(there is {other}\); rep"
            ):
                self.read(tmp_path, f"file,speaker,emotion\n{name},s,sad\n")

    def test_a_pointer_of_git_lfs(self, tmp_path):
        with pytest.raises(EdgeemoError, match=r"metadata\.csv: is a Git LFS pointer, not the table"):
            self.read(tmp_path, LFS)

    def test_suffixes_in_capitals(self, tmp_path):
        files(tmp_path, "a.wav", "b.wav")
        (tmp_path / "ALL.CSV").write_text(self.TEXT, encoding="utf-8")
        assert len(read_corpus(tmp_path / "ALL.CSV").utterances) == 2

    def test_semicolons_name_the_remedy(self, tmp_path):
        with pytest.raises(EdgeemoError, match="columns are separated by commas"):
            self.read(tmp_path, self.TEXT.replace(",", ";"))

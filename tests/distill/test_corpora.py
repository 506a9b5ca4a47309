"""Every reader, on a small tree in the corpus' own layout; and the error of a broken tree."""

import json
import shutil
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile

from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS
from distill.folds import FoldSpec, make_fold
from edge_runtime.errors import EdgeemoError, WrongUseError
from tests.conftest import SHARED, absent, invoke, need, tone


def sound(path, seconds=0.3, rate=16_000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    # Every file its own pitch, so that none is another's double.
    frequency = 100 + sum(path.as_posix().encode()) % 400
    soundfile.write(path, tone(seconds, rate, frequency), rate, **options)
    return path


def by_name(corpus):
    return {item.name.rpartition("/")[2].partition(".")[0]: item for item in corpus.utterances}


def files(root, *names):
    for name in names:
        sound(root / name)
    return root


TREES = {
    "ravdess": (
        # The last one is a song.
        ("Actor_01/03-01-05-02-01-02-01.wav", "Actor_02/03-01-01-01-02-01-02.wav", "Actor_02/03-02-03-01-02-01-02.wav"),
        "03-01-05-02-01-02-01",
        "speaker=Actor_01 emotion=angry language=en sex=male intensity=strong statement=01 repetition=02",
        "Kids are talking by the door.",
        2,
    ),
    "emodb": (
        ("wav/03a01Fa.wav", "wav/08b10Wc.wav", "wav/16a02Lb.wav"),
        "08b10Wc",
        "speaker=08 emotion=anger language=de sex=female sentence=b10",
        "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
        3,
    ),
    "emovo": (
        ("f1/dis-f1-b1.wav", "m3/gio-m3-n5.wav", "f2/tri-f2-d1.wav"),
        "gio-m3-n5",
        "speaker=m3 emotion=joy language=it sex=male sentence=n5",
        "Uno quarantatré dieci mille cinquantasette venti.",
        3,
    ),
    "crema-d": (
        ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_HAP_HI.wav", "AudioWAV/1040_ITH_SAD_X.wav"),
        "1002_IEO_HAP_HI",
        "speaker=1002 emotion=happy language=en sex=female intensity=high sentence=IEO",
        "It's eleven o'clock.",
        3,
    ),
    "cafe": (
        ("Colère/Fort/01-C-2-1.wav", "Neutre/02-N-1-6.wav", "Dégoût/Faible/03-D-1-4.wav"),
        "01-C-2-1",
        "speaker=01 emotion=anger language=fr sex=male intensity=high sentence=1",
        "Un cheval fou dans mon jardin",
        3,
    ),
    "korean_emotiontts": (
        (
            "plain-to-emotional/ema/wav/ema00001.wav",
            "plain-to-emotional/ema/wav/ema00101.wav",
            "emotional-to-emotional/neo/wav/neo00201.wav",
            "emotional-to-emotional/neo/wav/neo00400.wav",
        ),
        "neo00400",
        "speaker=neo emotion=angry language=ko sex=male script=emotional",
        "도대체 몇 번을 더",
        4,
    ),
    "urdu": (
        ("Angry/SM1_F1_A01.wav", "Happy/SF2_F3_H04.wav", "Sad/SM12_F10_S11.wav"),
        "SF2_F3_H04",
        "speaker=SF2 emotion=happy language=ur sex=female",
        "",
        3,
    ),
}


def tree(name, root):
    files(root, *TREES[name][0])
    if name == "crema-d":
        (root / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n1002,21,Female\n")
    if name == "korean_emotiontts":
        folder = root / "emotional-to-emotional" / "neo" / "transcript"
        folder.mkdir()
        (folder / "neo00400.txt").write_text("도대체 몇 번을 더\n", encoding="utf-8-sig")
    return root


class TestNamedFiles:
    @pytest.mark.parametrize("name", TREES)
    def test_the_published_layout(self, name, tmp_path):
        _, stem, columns, transcript, count = TREES[name]
        corpus = read_corpus(tree(name, tmp_path / "unpacked"))
        assert corpus.reader == corpus.facts.name == name
        assert corpus.facts.citation
        assert corpus.facts.language
        assert len(corpus.utterances) == count
        item = by_name(corpus)[stem]
        for key, _, wanted in (column.partition("=") for column in columns.split()):
            assert item.column(key) == wanted, key
        assert item.transcript == transcript
        assert item.seconds == pytest.approx(0.3)
        assert (item.sample_rate, item.encoding) == (16_000, "PCM_16")

    @pytest.mark.parametrize("name", TREES)
    def test_a_manifest_comes_first(self, name, tmp_path):
        root = tree(name, tmp_path)
        file = TREES[name][0][0]
        (root / "metadata.csv").write_text(f"file,speaker,emotion\n{file},me,cross\n", encoding="utf-8")
        assert read_corpus(root).labels == ("cross",)
        assert len(read_corpus(root, reader=name).utterances) == TREES[name][4]

    def test_copies_in_another_format_keep_the_stems(self, tmp_path):
        for name in ("03a01Fa", "08b10Wc"):
            sound(tmp_path / f"{name}.ogg", format="OGG", subtype="OPUS")
        assert by_name(read_corpus(tmp_path))["03a01Fa"].emotion == "happiness"

    @pytest.mark.parametrize("name", ["ravdess", "emodb", "emovo", "korean_emotiontts"])
    def test_agrees_with_the_metadata_of_real_copies(self, name):
        root = SHARED / "data" / name
        if not root.is_dir():
            absent(f"the corpus {name}")
        reported = {item.name: item for item in read_corpus(root).utterances}
        read = read_corpus(root, reader=name).utterances
        assert len(read) == len(reported)
        for item in read:
            other = reported[item.name]
            assert (item.speaker, item.emotion, item.language) == (other.speaker, other.emotion, other.language)
            if item.transcript and other.transcript:
                assert item.transcript == other.transcript

    def test_korean_blocks_follow_the_words_not_the_readme(self, tmp_path):
        numbers = {1: "neutral", 100: "neutral", 101: "happy", 201: "sad", 300: "sad", 301: "angry", 400: "angry"}
        files(tmp_path, *(f"nea{number:05d}.wav" for number in numbers))
        found = by_name(read_corpus(tmp_path))
        assert {number: found[f"nea{number:05d}"].emotion for number in numbers} == numbers

    @pytest.mark.parametrize(
        ("name", "file", "expected"),
        [
            ("ravdess", "Actor_01/03-01-09-02-01-02-01.wav", "the emotion '09', which the corpus does not define"),
            ("emodb", "wav/03a01Xa.wav", "the emotion 'X'"),
            ("emodb", "wav/03a03Fa.wav", "the sentence 'a03'"),
            ("emovo", "f1/abc-f1-b1.wav", "the emotion 'abc'"),
            ("crema-d", "AudioWAV/1001_DFA_ABC_XX.wav", "the emotion 'ABC'"),
            ("cafe", "01-X-2-1.wav", "the emotion 'X'"),
            ("korean_emotiontts", "ema00401.wav", "the number 401"),
            ("urdu", "Angry/SM1_F1_X01.wav", "the emotion 'X'"),
            ("emodb", "copy/03a01Fa.wav", "is a second copy of"),
        ],
    )
    def test_a_name_that_the_corpus_does_not_define(self, name, file, expected, tmp_path):
        root = tree(name, tmp_path)
        sound(root / file)
        with pytest.raises(EdgeemoError, match=expected):
            read_corpus(root)
        corpus = read_corpus(root, skip_broken=True)
        assert len(corpus.utterances) == TREES[name][4]
        assert expected in corpus.skipped[0]


def iemocap(root, *, sessions=("1", "5")):
    codes = {"F000": "neu", "F001": "exc", "M000": "hap", "M001": "ang", "M002": "fru", "F002": "xxx", "M003": "sad"}
    for session in sessions:
        for dialogue in (f"Ses0{session}F_impro01", f"Ses0{session}M_script02_2"):
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            words = []
            for number, (turn, code) in enumerate(codes.items()):
                name = f"{dialogue}_{turn}"
                lines += [f"[{number}.2901 - {number + 1}.2357]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]"]
                lines += ["C-E2:\tNeutral;\t()", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
                words.append(f"{name} [00{number}.2901-00{number + 1}.2357]: Excuse me, {number}.")
                sound(root / f"Session{session}/sentences/wav/{dialogue}/{name}.wav")
            words.append(f"{dialogue}_MXX0 [009.2901-010.2357]: A turn without a label.")
            dialog = root / f"Session{session}" / "dialog"
            for folder, content in (("EmoEvaluation", lines), ("transcriptions", words)):
                (dialog / folder).mkdir(parents=True, exist_ok=True)
                (dialog / folder / f"{dialogue}.txt").write_text("\n".join(content) + "\n")
            # Archives made on a Mac carry such files.
            (dialog / "EmoEvaluation" / f"._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07")
            (dialog / "EmoEvaluation" / "Categorical").mkdir(exist_ok=True)
    return root


class TestIemocap:
    def test_the_four_classes(self, tmp_path):
        corpus = read_corpus(iemocap(tmp_path))
        assert (corpus.reader, corpus.published) == ("iemocap", 5531)
        assert Counter(item.emotion for item in corpus.utterances) == {"neutral": 4, "happy": 8, "angry": 4, "sad": 4}
        assert corpus.speakers == ("Ses01F", "Ses01M", "Ses05F", "Ses05M")
        item = by_name(corpus)["Ses01F_impro01_M000"]
        assert item.speaker == "Ses01M", "the turn's letter speaks, the dialogue's wears the markers"
        assert item.transcript == "Excuse me, 2."
        columns = [item.column(key) for key in ("session", "scenario", "sex", "category")]
        assert columns == ["Session1", "improvised", "male", "hap"]
        assert by_name(corpus)["Ses05M_script02_2_F001"].extra["scenario"] == "scripted"
        root = iemocap(tmp_path)
        (root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav").unlink()
        with pytest.raises(EdgeemoError, match=r"Ses01F_impro01_F000\.wav: is missing"):
            read_corpus(root)
        assert len(read_corpus(root, skip_broken=True).utterances) == 19

    def test_sessions_share_no_speaker(self, tmp_path):
        corpus = read_corpus(iemocap(tmp_path, sessions=("1", "2", "3", "4", "5")))
        spec = FoldSpec(by="session", count="all")
        assert spec.fold_count(corpus) == 5
        fold = make_fold(corpus, spec, 4)
        assert {item.speaker for item in fold.test} == {"Ses05F", "Ses05M"}
        assert {item.extra["session"] for item in fold.validation} == {"Session1"}


MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def meld(root):
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    for split, folder in folders.items():
        rows = [
            f'1,"It\x92s {split}, really.",Joey,joy,positive,0,0,8,21,"00:16:16,059","00:16:21,731"',
            '2,No.,Rachel,Anger,negative,0,1,8,21,"00:16:21,940","00:16:23,442"',
        ]
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{split}_sent_emo.csv").write_text(MELD_HEADER + "\n".join(rows) + "\n", encoding="utf-8")
        for number in (0, 1):
            sound(root / folder / f"dia0_utt{number}.wav")
    return root


class TestMeld:
    def test_the_official_split(self, tmp_path):
        corpus = read_corpus(meld(tmp_path))
        assert corpus.reader == "meld"
        found = [(item.extra["split"], item.speaker, item.emotion) for item in corpus.utterances]
        pair = (("Joey", "joy"), ("Rachel", "anger"))
        assert found == [(split, *each) for split in ("train", "dev", "test") for each in pair]
        assert corpus.utterances[0].transcript == "It’s train, really."
        assert corpus.utterances[4].name == "output_repeated_splits_test/dia0_utt0.wav"

    def test_speakers_of_the_split_overlap(self, tmp_path):
        done = invoke("corpus", meld(tmp_path), "--quick", "--json", code=0)
        messages = [finding["message"] for finding in json.loads(done.stdout)["findings"]]
        assert any("2 of 2 speakers are in more than one 'split'" in message for message in messages)

    def test_videos_alone_name_the_command(self, tmp_path):
        root = meld(tmp_path)
        for path in list(root.rglob("*.wav")):
            path.rename(path.with_suffix(".mp4"))
        with pytest.raises(EdgeemoError, match=r"ffmpeg -i .*\.wav"):
            read_corpus(root)

    def test_a_missing_clip_and_a_missing_column(self, tmp_path):
        root = meld(tmp_path)
        (root / "dev_splits_complete" / "dia0_utt1.wav").unlink()
        with pytest.raises(EdgeemoError, match=r"dia0_utt1\.wav: is missing"):
            read_corpus(root)
        assert len(read_corpus(root, skip_broken=True).utterances) == 5
        (root / "dev_sent_emo.csv").write_text("Utterance,Speaker\nNo.,Joey\n")
        with pytest.raises(EdgeemoError, match="lacks the column Emotion"):
            read_corpus(root)


class TestAudformat:
    @pytest.fixture
    def database(self, tmp_path):
        need("audformat")
        import audformat

        files(tmp_path, "wav/a.wav", "wav/b.wav", "wav/c.wav")
        db = audformat.Database("mine", source="here", usage="research", languages=["deu"], license="CC0-1.0")
        db.schemes["emotion"] = audformat.Scheme(labels=["joy", "anger"])
        db.schemes["speaker"] = audformat.Scheme(labels={"s1": {"gender": "female"}, "s2": {"gender": "male"}})
        db.schemes["transcription"] = audformat.Scheme(labels={"a01": "Der Lappen liegt auf dem Eisschrank."})
        index = audformat.filewise_index(["wav/a.wav", "wav/b.wav", "wav/c.wav"])
        db["emotion"] = audformat.Table(index)
        db["emotion"]["emotion"] = audformat.Column(scheme_id="emotion")
        db["emotion"]["emotion"].set(["joy", "anger", "joy"])
        db["files"] = audformat.Table(index)
        for column, values in (("speaker", ["s1", "s2", "s1"]), ("transcription", ["a01", None, "a01"])):
            db["files"][column] = audformat.Column(scheme_id=column)
            db["files"][column].set(values)
        return db

    def test_tables_and_schemes(self, database, tmp_path):
        database.save(str(tmp_path))
        corpus = read_corpus(tmp_path)
        assert corpus.reader == "audformat"
        assert (corpus.facts.name, corpus.facts.licence, corpus.facts.language) == ("mine", "CC0-1.0", "de")
        item = by_name(corpus)["a"]
        assert (item.name, item.speaker, item.emotion, item.language) == ("wav/a.wav", "s1", "joy", "de")
        assert item.transcript == "Der Lappen liegt auf dem Eisschrank."
        assert item.column("sex") == "female"
        assert by_name(corpus)["b"].transcript == ""
        database.drop_tables("files")
        del database.schemes["speaker"]
        database.save(str(tmp_path))
        with pytest.raises(EdgeemoError, match="has no scheme 'speaker'"):
            read_corpus(tmp_path)
        (tmp_path / "db.yaml").write_text("schemes: [")
        with pytest.raises(EdgeemoError, match="cannot be read as an audformat database"):
            read_corpus(tmp_path)

    def test_stretches_of_files_are_refused(self, database, tmp_path):
        import audformat
        import pandas

        index = audformat.segmented_index(["wav/a.wav", "wav/b.wav"], ["0s", "0.1s"], ["0.1s", "0.2s"])
        database["pieces"] = audformat.Table(index)
        database["pieces"]["emotion"] = audformat.Column(scheme_id="emotion")
        database["pieces"]["emotion"].set(pandas.Series(["joy", "joy"], index=index))
        database.save(str(tmp_path))
        with pytest.raises(EdgeemoError, match="the emotion is given for segments of files"):
            read_corpus(tmp_path)

    def test_the_missing_part_is_named(self, tmp_path, monkeypatch):
        (tmp_path / "db.yaml").write_text("name: x\n")
        monkeypatch.setitem(sys.modules, "audformat", None)
        with pytest.raises(EdgeemoError, match=r'pip install "edgeemo\[distill\]"'):
            read_corpus(tmp_path)


class TestManifest:
    def rows(self, *rows):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def test_json_lines(self, tmp_path):
        files(tmp_path, "a.wav", "b.wav")
        row = {"file": "a.wav", "speaker": 7, "emotion": "sad", "transcript": "so\u2028so", "take": 3, "room": None}
        text = self.rows(row, {"file": "b.wav", "speaker": "8", "emotion": "sad"})
        (tmp_path / "metadata.jsonl").write_text(text + "\n", encoding="utf-8-sig")
        first, second = read_corpus(tmp_path).utterances
        assert (first.speaker, first.transcript, second.speaker) == ("7", "so\u2028so", "8")
        assert (first.column("take"), first.column("room")) == ("3", "")

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ('{"file": "b.wav"', r"metadata\.jsonl, line 3: is not JSON"),
            ('["b.wav"]', "line 3: is not a JSON object"),
            ('{"file": "b.wav", "emotion": "sad"}', "line 3: lacks the column speaker"),
            ('{"file": "b.wav", "emotion": "", "speaker": "s"}', "line 3: the column 'emotion' is empty"),
            ('{"file": "b.wav", "emotion": null, "speaker": "s"}', "line 3: the column 'emotion' is empty"),
            ('{"file": "b.wav", "emotion": "sad", "speaker": "s"}', r"b\.wav: is missing"),
            ('{"file": "a.wav", "emotion": "sad", "speaker": "s"}', r"a\.wav: is named twice"),
        ],
    )
    def test_the_line_is_named(self, line, expected, tmp_path):
        files(tmp_path, "a.wav")
        good = self.rows({"file": "a.wav", "speaker": "s", "emotion": "sad"})
        (tmp_path / "metadata.jsonl").write_text(f"{good}\n{line}\n")
        with pytest.raises(EdgeemoError, match=expected):
            read_corpus(tmp_path)

    def test_a_manifest_itself(self, tmp_path):
        files(tmp_path, "a.wav", "b.wav")
        (tmp_path / "corpus.json").write_text('{"name": "two", "licence": "CC0-1.0", "language": "fi"}')
        (tmp_path / "half.csv").write_text("file,speaker,emotion\na.wav,s,sad\n")
        corpus = read_corpus(tmp_path / "half.csv", name="half")
        assert (corpus.facts.name, corpus.facts.licence, corpus.utterances[0].language) == ("half", "CC0-1.0", "fi")
        assert corpus.source == tmp_path / "half.csv"
        (tmp_path / "half.txt").write_text("file,speaker,emotion\na.wav,s,sad\n")
        with pytest.raises(EdgeemoError, match="is no manifest"):
            read_corpus(tmp_path / "half.txt")

    @pytest.mark.parametrize(
        ("rate", "subtype"), [(8_000, "PCM_U8"), (96_000, "PCM_24"), (44_100, "FLOAT"), (11_025, "ULAW")]
    )
    def test_any_rate_and_width(self, rate, subtype, tmp_path):
        sound(tmp_path / "a.wav", 0.5, rate, subtype=subtype)
        (tmp_path / "metadata.csv").write_text("file,speaker,emotion\na.wav,s,sad\n")
        (item,) = read_corpus(tmp_path).utterances
        assert (item.sample_rate, item.encoding, item.seconds) == (rate, subtype, pytest.approx(0.5, rel=1e-3))

    def test_no_samples(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
        (tmp_path / "metadata.csv").write_text("file,speaker,emotion\na.wav,s,sad\n")
        with pytest.raises(EdgeemoError, match="holds no samples"):
            read_corpus(tmp_path)


class TestChoosing:
    def test_layouts_that_no_reader_or_not_the_given_one_takes(self, tmp_path):
        files(tmp_path, "one.wav", "two.wav")
        with pytest.raises(EdgeemoError, match=r"not laid out like one of the corpora .*ravdess"):
            read_corpus(tmp_path)
        files(tmp_path, "one.wav")
        with pytest.raises(EdgeemoError, match="does not have the layout of the reader 'emodb'"):
            read_corpus(tmp_path, reader="emodb")
        with pytest.raises(WrongUseError, match="there is no reader 'emo'"):
            read_corpus(tmp_path, reader="emo")
        with pytest.raises(EdgeemoError, match=r"holds no metadata\.csv"):
            read_corpus(tmp_path, reader="manifest")

    def test_name_and_path(self, tmp_path):
        named = CORPUS.convert(f"korean={tmp_path}", None, None)
        assert (named.path, named.name) == (tmp_path, "korean")
        assert CORPUS.convert(str(tmp_path), None, None) == (tmp_path, None)
        odd = tmp_path / "a=b"
        odd.mkdir()
        assert CORPUS.convert(str(odd), None, None) == (odd, None)

    def test_the_command_takes_a_name_and_a_reader(self, tmp_path):
        root = tree("emodb", tmp_path)
        (root / "metadata.csv").write_text("file,speaker,emotion\nwav/03a01Fa.wav,me,cross\n")
        done = invoke("corpus", f"berlin={root}", "--reader", "emodb", "--quick", "--json", code=0)
        summary = json.loads(done.stdout)
        assert (summary["name"], summary["reader"], summary["utterances"]) == ("berlin", "emodb", 3)
        assert summary["published"] == 535
        assert any("3 of the 535 utterances" in finding["message"] for finding in summary["findings"])


class TestLabels:
    @pytest.fixture
    def corpus(self, tmp_path):
        return read_corpus(tree("emovo", tmp_path))

    def test_renamed_and_left_out(self, corpus):
        chosen = corpus.labelled({"joy": "happy", "sadness": "sad"})
        assert [item.emotion for item in chosen.utterances] == ["sad", "happy"]
        assert chosen.fingerprint() != corpus.fingerprint()
        assert corpus.labelled({name: name for name in corpus.labels}).fingerprint() == corpus.fingerprint()
        assert corpus.labelled(None) is corpus
        assert corpus.labelled({"joy": "happy", "disgust": "disgust", "anger": "angry"}).labels == ("disgust", "happy")
        # `disgust` is not listed, though something else is called so now.
        assert len(corpus.labelled({"joy": "disgust", "sadness": "sad"}).utterances) == 2
        smaller = corpus.without(["f1/dis-f1-b1.wav"], ["f1/dis-f1-b1.wav: is bad"])
        assert len(smaller.utterances) == 2
        assert (smaller.left_out, smaller.skipped) == (("f1/dis-f1-b1.wav",), ("f1/dis-f1-b1.wav: is bad",))

    @pytest.mark.parametrize("labels", [{"joy": "happy", "anger": "angry"}, {"calm": "calm", "bored": "bored"}])
    def test_too_few_are_left(self, corpus, labels):
        with pytest.raises(EdgeemoError, match="its labels disgust, joy, sadness"):
            corpus.labelled(labels)


def test_a_moved_tree_reads_the_same(tmp_path):
    root = tree("cafe", tmp_path / "here")
    before = read_corpus(root).fingerprint()
    shutil.move(root, tmp_path / "there")
    assert read_corpus(tmp_path / "there").fingerprint() == before

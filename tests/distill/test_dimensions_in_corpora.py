"""Targets of arousal, valence and dominance: as manifests, IEMOCAP and audformat databases give them."""

import json

import pytest
import soundfile

from distill.corpora import read_corpus
from edge_runtime.errors import EdgeemoError
from tests.conftest import invoke, need, tone


def manifest(root, *rows, columns="file,speaker,emotion,arousal,valence", facts=None):
    for number in range(len(rows)):
        soundfile.write(root / f"{number}.wav", tone(0.5, frequency=200 + 20 * number), 16_000)
    lines = [f"{number}.wav,s{number},{'sad' if number % 2 else 'happy'},{row}" for number, row in enumerate(rows)]
    (root / "metadata.csv").write_text("\n".join([columns, *lines]) + "\n")
    if facts:
        (root / "corpus.json").write_text(json.dumps({"name": "own"} | facts))
    return root


class TestManifest:
    def test_any_subset_and_missing_values(self, tmp_path):
        first, second, third = read_corpus(manifest(tmp_path, "0.25,1", ",0.5", "nan,")).utterances
        assert first.dimensions == {"arousal": 0.25, "valence": 1.0}
        assert second.dimensions == {"valence": 0.5}
        assert third.dimensions == {}
        assert "arousal" not in first.extra

    def test_a_declared_scale(self, tmp_path):
        ranges = {"dimension_ranges": {"arousal": [1, 5], "valence": [-1, 1]}}
        first, second = read_corpus(manifest(tmp_path, "1,-1", "4,0.5", facts=ranges)).utterances
        assert first.dimensions == {"arousal": 0.0, "valence": 0.0}
        assert second.dimensions == {"arousal": 0.75, "valence": 0.75}

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            ("3,0.5", r"1\.wav: its arousal 3 is outside 0 to 1; .*dimension_ranges.* \(metadata\.csv, line 3\)"),
            ("0.5,-0.1", r"its valence -0\.1 is outside 0 to 1"),
            ("high,0.5", r"1\.wav: its arousal 'high' is not a number; .*\(metadata\.csv, line 3\)"),
            ("inf,0.5", "its arousal inf is outside"),
        ],
    )
    def test_a_bad_value_names_file_and_row(self, row, expected, tmp_path):
        root = manifest(tmp_path, "0.5,0.5", row)
        with pytest.raises(EdgeemoError, match=expected):
            read_corpus(root)
        assert len(read_corpus(root, skip_broken=True).utterances) == 1

    def test_a_scale_upside_down(self, tmp_path):
        with pytest.raises(EdgeemoError, match=r"corpus\.json: dimension_ranges\.arousal: .*lowest value"):
            read_corpus(manifest(tmp_path, "1,1", facts={"dimension_ranges": {"arousal": [5, 1]}}))

    def test_the_fingerprint_knows_targets(self, tmp_path):
        before = read_corpus(manifest(tmp_path, "0.5,0.5")).fingerprint()
        assert read_corpus(manifest(tmp_path, "0.5,0.6")).fingerprint() != before

    def test_the_command_counts(self, tmp_path):
        root = manifest(tmp_path, "0.25,1", ",0.5", "0.75,")
        done = invoke("corpus", root, "--quick", "--json")
        found = json.loads(done.stdout)["dimensions"]
        assert found["arousal"] == {
            "utterances": 2, "missing": 1, "speakers": 2, "scale": [0.0, 1.0], "lowest": 0.25, "mean": 0.5,
            "highest": 0.75,
        }  # fmt: skip
        assert (found["valence"]["missing"], "dominance" in found) == (1, False)
        assert "0.25" in invoke("corpus", root, "--quick").stderr


class TestIemocap:
    def test_valence_activation_dominance(self, tmp_path):
        from tests.distill.test_corpora import by_name, iemocap

        root = iemocap(tmp_path, sessions=("1",))
        path = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
        lines = path.read_text().splitlines()
        path.write_text(
            "\n".join(
                line.replace("2.5000, 2.5000, 2.5000", "1.0000, 4.0000, 5.5000") if "_F000\t" in line else line
                for line in lines
            )
        )
        found = by_name(read_corpus(root))
        assert found["Ses01F_impro01_F000"].dimensions == {"valence": 0.0, "arousal": 0.75}, "5.5 is off the scale"
        assert found["Ses01F_impro01_M000"].dimensions == dict.fromkeys(("arousal", "valence", "dominance"), 0.375)

    def test_facts_of_ones_own_keep_the_scale(self, tmp_path):
        from tests.distill.test_corpora import iemocap

        root = iemocap(tmp_path, sessions=("1",))
        (root / "corpus.json").write_text('{"name": "mine"}')
        assert read_corpus(root).utterances[0].dimensions["arousal"] == 0.375


class TestAudformat:
    @pytest.fixture
    def database(self, tmp_path):
        need("audformat")
        import audformat

        (tmp_path / "wav").mkdir()
        names = [f"wav/{name}.wav" for name in "abc"]
        for name in names:
            soundfile.write(tmp_path / name, tone(0.5), 16_000)
        db = audformat.Database("mine", source="here", usage="research", languages=["deu"], license="CC0-1.0")
        db.schemes["emotion"] = audformat.Scheme(labels=["joy", "anger"])
        db.schemes["speaker"] = audformat.Scheme(labels=["s1", "s2"])
        db.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=5)
        db.schemes["valence"] = audformat.Scheme("float")
        db["files"] = audformat.Table(audformat.filewise_index(names))
        columns = {
            "emotion": ("emotion", ["joy", "anger", "joy"]),
            "speaker": ("speaker", ["s1", "s2", "s1"]),
            "rater1": ("arousal", [1.0, 3.0, None]),
            "rater2": ("arousal", [4.0, None, None]),
            "valence": ("valence", [0.25, 0.5, 1.0]),
        }
        for column, (scheme, values) in columns.items():
            db["files"][column] = audformat.Column(scheme_id=scheme)
            db["files"][column].set(values)
        return db

    def test_means_of_raters_on_the_scale_of_the_scheme(self, database, tmp_path):
        database.save(str(tmp_path))
        corpus = read_corpus(tmp_path)
        assert [item.dimensions for item in corpus.utterances] == [
            {"arousal": 0.375, "valence": 0.25},
            {"arousal": 0.5, "valence": 0.5},
            {"valence": 1.0},
        ]
        assert corpus.facts.dimension_ranges == {"arousal": (1.0, 5.0)}

    def test_a_value_off_the_scale(self, database, tmp_path):
        database["files"]["valence"].set([0.5, 7.0, 0.5])
        database.save(str(tmp_path))
        with pytest.raises(EdgeemoError, match=r"b\.wav: its valence 7 is outside 0 to 1"):
            read_corpus(tmp_path)

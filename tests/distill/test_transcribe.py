"""Transcripts for corpora without: what is written, resumed, refused. One test runs the real library."""

import csv
import json
import sys

import pytest
import soundfile

from distill.corpora import read_corpus
from distill.corpora.transcribe import MANIFEST, FasterWhisper, missing_transcripts, transcribe_corpus
from edge_runtime.errors import EdgeemoError, MissingPartError
from tests.conftest import edgeemo, invoke, need, tone


class StandInForWhisper:
    """Stands in for the model, which the hub would give: returns how long the speech is, and keeps its calls."""

    name = "stand-in"

    def __init__(self, breaks_after=99):
        self.given = []
        self._breaks_after = breaks_after

    def __call__(self, pcm, language):
        if len(self.given) == self._breaks_after:
            raise KeyboardInterrupt
        self.given.append((len(pcm), language))
        return f"{len(pcm)} samples"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    rows = ["file,speaker,emotion,language,transcript,take"]
    for number, words in enumerate(["", "as published", "", ""]):
        soundfile.write(root / f"{number}.wav", tone(0.5 + 0.1 * number), 16_000)
        rows.append(f"{number}.wav,{'ab'[number % 2]},sad,{'en' if number else ''},{words},{number}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def words(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["transcript"], row["transcribed_by"]) for row in csv.DictReader(stream)]


WHOLE = [(f"{count} samples", "stand-in") for count in (8000, 11200, 12800)]
WHOLE.insert(1, ("as published", ""))


def test_what_is_missing_is_made_and_marked(root):
    before = (root / "metadata.csv").read_bytes()
    corpus, model = read_corpus(root), StandInForWhisper()
    assert missing_transcripts(corpus) == 3
    assert transcribe_corpus(corpus, model, root / MANIFEST) == 3
    assert model.given == [(8_000, ""), (11_200, "en"), (12_800, "en")]
    assert (root / "metadata.csv").read_bytes() == before
    assert words(root / MANIFEST) == WHOLE
    written = read_corpus(root / MANIFEST)
    assert missing_transcripts(written) == 0
    assert [item.extra["take"] for item in written.utterances] == ["0", "1", "2", "3"]
    assert sorted(path.name for path in root.iterdir()) == [*(f"{n}.wav" for n in range(4)), "metadata.csv", MANIFEST]


def test_a_stopped_call_goes_on(root):
    corpus, stopped, again = read_corpus(root), StandInForWhisper(breaks_after=2), StandInForWhisper()
    with pytest.raises(KeyboardInterrupt):
        transcribe_corpus(corpus, stopped, root / MANIFEST)
    assert not (root / MANIFEST).exists()
    (journal,) = root.glob(".*.jsonl")
    with journal.open("a") as stream:
        stream.write('{"file": "3.wav", "by": "stand-')  # as if the machine had lost power
    assert transcribe_corpus(corpus, again, root / MANIFEST) == 1
    assert again.given == [(12_800, "en")]
    assert words(root / MANIFEST) == WHOLE


def test_a_second_call_makes_only_what_is_new(root):
    transcribe_corpus(read_corpus(root), StandInForWhisper(), root / MANIFEST)
    soundfile.write(root / "4.wav", tone(1.0), 16_000)
    with (root / "metadata.csv").open("a") as stream:
        stream.write("4.wav,a,sad,en,,4\n")
    again = StandInForWhisper()
    assert transcribe_corpus(read_corpus(root), again, root / MANIFEST) == 1
    assert again.given == [(16_000, "en")]
    assert len(words(root / MANIFEST)) == 5


def test_elsewhere_files_are_named_by_their_place(root, tmp_path):
    transcribe_corpus(read_corpus(root), StandInForWhisper(), tmp_path / "out" / "words.csv")
    corpus = read_corpus(tmp_path / "out" / "words.csv")
    assert [item.path for item in corpus.utterances] == [root.resolve() / f"{number}.wav" for number in range(4)]


def test_nothing_of_others_is_overwritten(root):
    for name in ("metadata.csv", "words.txt"):
        (root / "words.txt").write_text("mine")
        before = (root / name).read_bytes()
        with pytest.raises(EdgeemoError, match=r"was not written by --transcribe|must end with \.csv"):
            transcribe_corpus(read_corpus(root), StandInForWhisper(), root / name)
        assert (root / name).read_bytes() == before


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingPartError, match=r'pip install "edgeemo\[transcribe\]"'):
        FasterWhisper("base")


def test_nothing_to_do(root):
    text = (root / "metadata.csv").read_text().replace(",,,", ",en,said,").replace(",,", ",said,")
    (root / "metadata.csv").write_text(text)
    done = invoke("corpus", root, "--transcribe", "base", code=0)
    assert "has a transcript already" in done.stderr
    done = invoke("corpus", root, "--manifest", root / "x.csv", code=2)
    assert "--manifest goes with --transcribe" in done.stderr


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory):
    """A converted Whisper with random weights: its transcripts are noise, the calls are real."""
    need("faster_whisper", "ctranslate2", "torch", "transformers")
    import torch
    from ctranslate2.converters import TransformersConverter
    from faster_whisper.tokenizer import _LANGUAGE_CODES
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("whisper")
    languages = [f"<|{code}|>" for code in _LANGUAGE_CODES[:99]]
    tasks = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    special = ["<|endoftext|>", "<|startoftranscript|>", *languages, *(f"<|{task}|>" for task in tasks), *times]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = 51_865
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    vocabulary |= {f"x{number}": number for number in range(len(letters), size - len(special))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    sizes = {f"{part}_{what}": value for part in ("encoder", "decoder") for what, value in
             (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    torch.manual_seed(0)
    WhisperForConditionalGeneration(WhisperConfig(vocab_size=size, d_model=16, **sizes)).save_pretrained(folder)
    TransformersConverter(str(folder), copy_files=["tokenizer.json"]).convert(str(folder / "tiny"))
    return folder / "tiny"


@pytest.mark.slow
def test_the_real_library(root, tiny_whisper):
    done = edgeemo("corpus", root, "--transcribe", tiny_whisper, code=0)
    assert "3 transcripts by whisper tiny" in done.stderr
    assert [name for _, name in words(root / MANIFEST)] == ["whisper tiny", "", "whisper tiny", "whisper tiny"]
    assert words(root / MANIFEST)[1][0] == "as published"
    done = invoke("corpus", root / MANIFEST, "--quick", "--json")
    assert json.loads(done.stdout)["columns"] == ["take", "transcribed_by"]


@pytest.mark.slow
def test_no_such_model(root):
    need("faster_whisper")
    done = invoke("corpus", root, "--transcribe", "no-such-model", code=1)
    assert "--transcribe no-such-model: is neither a directory" in done.stderr
    assert not (root / MANIFEST).exists()

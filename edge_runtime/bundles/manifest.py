"""Schema of ``bundle.json``, the contract between `edgeemo export` and everything that uses a bundle."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edge_runtime.windows import WindowPolicy

SCHEMA_VERSION = "1.5"
"""Major and minor version; a reader refuses another major one and takes any minor one."""

MANIFEST = "bundle.json"

Precision = Literal["fp32", "fp16", "int8-cpu", "int8-trt"]
GRAPHS: dict[str, Precision] = {
    "model.fp32.onnx": "fp32",
    "model.fp16.onnx": "fp16",
    "model.int8.cpu.onnx": "int8-cpu",
    "model.int8.trt.onnx": "int8-trt",
}
"""The graphs that a bundle may hold, and the precision of each."""


def graph_name(precision: Precision) -> str:
    """Return the file name of the graph of a precision."""
    return next(name for name, each in GRAPHS.items() if each == precision)


VOICES = "voices.f32"
"""The file that tells voices apart (`edge_runtime/bundles/voice.py`)."""

KNOWN_ANSWERS = "known-answers.pcm"
"""The file with the sound of the known answers (`edge_runtime/bundles/known_answers.py`)."""
LONGEST_KNOWN_SECONDS = 30
"""Seconds of sound that known answers take at most: they are scored when an engine is opened."""

LARGEST_FILE = (2 << 30) - 1
"""Bytes; more than that, Protocol Buffers and so ONNX do not read."""


LARGEST_STATISTIC = 1e6
"""Numbers of a reference are not beyond it; those of speech are a thousand times smaller."""


class _Part(BaseModel):
    # A newer minor version may say more than this reader knows.
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


def _different(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) < len(labels):
        raise ValueError("names a label twice")
    return labels


def _showable(label: str) -> str:
    # Labels go to terminals, pages and topics as they are.
    if not label.isprintable() or label != label.strip():
        raise ValueError("a label must be of printable characters, with no space around it")
    return label


Label = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_showable)]
Count = Annotated[int, Field(ge=0)]


class WindowEntry(WindowPolicy):
    """The window policy as a bundle carries it."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class FileEntry(_Part):
    """One file of the bundle.

    Attributes:
        name: relative to the bundle.
        size: in bytes.
        sha256: of its content, in hexadecimal digits.
    """

    name: str
    size: Annotated[int, Field(ge=0, le=LARGEST_FILE)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class EncoderEntry(_Part):
    """Family and sizes of the audio encoder.

    Attributes:
        family: Hugging Face's name of the family, as ``whisper``, ``hubert``.
        layers: how many blocks it has.
        pooled_layers: whose mean and deviation the statistics are: the output of block i, or -1 for the final norm's.
        d_model: width of the hidden states.
        heads: attention heads of a block.
        feed_forward: hidden units of a block's feed-forward part.
        mel_bins: mel filters; 0 for a family that takes the waveform itself.
        parameters: parameters of the whole student.
    """

    family: str
    layers: Count
    pooled_layers: tuple[int, ...] = (-1,)
    d_model: Count
    heads: Count
    feed_forward: Count
    mel_bins: Count
    parameters: Count


class FoldEntry(_Part):
    """How the test part was held out: part ``k`` of ``count`` is ``sorted(values)[k::count]`` of the column ``by``.

    Attributes:
        count: number of folds.
        index: the one that is tested.
        hold_out: a column whose values are held out too, as sentences.
        by: the column that folds are cut by.
        validation: how many parts are for validation.
        speaker_mixed: whether speakers are in several parts.
    """

    count: int
    index: int
    hold_out: str | None = None
    by: str = "speaker"
    validation: int = 1
    speaker_mixed: bool = False


class CorpusEntry(_Part):
    """What the student was trained on.

    Attributes:
        name: of the corpus.
        kind: ``recorded`` people or ``rendered`` speech.
        licence: of the speech.
        note: what whoever uses the bundle must know of it.
        language: ISO 639 code; empty if not known, or of several.
        citation: whom to cite.
        utterances: how many were learnt from and tested on.
        speakers: how many speak.
        hours: of speech.
        labels: renamed from and to, where the recipe renames.
        fingerprint: of the corpus as it was learnt from: by the recipe's labels, without what was left out.
        left_out: names of files that could not be used.
        folds: how it was cut; None for a corpus of which all was learnt from.
        test_speakers: who is in the test part, where the corpus was cut together with others; else `folds` tells it.
    """

    name: str
    kind: str
    licence: str
    note: str
    language: str = ""
    citation: str = ""
    fingerprint: str
    utterances: Count
    speakers: Count
    hours: Annotated[float, Field(ge=0)]
    labels: dict[str, str] | None = None
    left_out: tuple[str, ...] = ()
    folds: FoldEntry | None = None
    test_speakers: tuple[str, ...] | None = None


class AccuracyEntry(_Part):
    """Accuracy of one graph on held-out speakers, with the 95 % interval of a bootstrap over speakers.

    Attributes:
        ua: unweighted accuracy, the mean of the classes' recalls.
        ua_low: lower end of its interval.
        ua_high: upper end.
        wa: weighted accuracy, the share of right decisions.
        utterances: how many were tested.
        speakers: of how many.
    """

    ua: float
    ua_low: float
    ua_high: float
    wa: float
    utterances: Count
    speakers: Count


class TeacherEntry(_Part):
    """A teacher and its own accuracy on the same held-out speakers.

    Attributes:
        name: ``linguistic``, ``prosodic``, ``acoustic`` or a language.
        ua: its unweighted accuracy.
    """

    name: str
    ua: float


class VoicesEntry(_Part):
    """How voices are told apart (`edge_runtime/bundles/voice.py`), by the map in the file `VOICES`.

    Attributes:
        directions: how many numbers tell a voice.
        threshold: cosine under which two voices are of two people, chosen on validation speakers.
    """

    directions: Annotated[int, Field(ge=1, le=512)]
    threshold: Annotated[float, Field(ge=-1, le=1)]


class SpeakerEntry(_Part):
    """How a student gets to know its speaker (`edge_runtime/reference.py`).

    Attributes:
        trust: utterances that the default reference is worth beside those of the speaker.
        voices: how a change of speaker is noticed; None where it is not.
    """

    trust: Annotated[float, Field(ge=0.1, le=1000)]
    voices: VoicesEntry | None = None


class StretchEntry(_Part):
    """One stretch of the sound in `KNOWN_ANSWERS`.

    Attributes:
        sound: what it is, such as ``noise`` or ``silence``.
        start: its first sample.
        samples: how many samples it has.
    """

    sound: Annotated[str, Field(max_length=64), AfterValidator(_showable)]
    start: Count
    samples: Count


class KnownAnswersEntry(_Part):
    """Synthetic sound and the logits that exact arithmetic gives for it, with which each engine is tested.

    Attributes:
        stretches: the stretches of the sound, each scored by itself with the default reference.
        logits: by precision of the graph, a row of logits for each stretch.
        tolerance: root mean square error of the logits that an engine may have. At this error the expected accuracy
            falls by half a point (`export/bundle/known_answers.py`).
    """

    stretches: Annotated[tuple[StretchEntry, ...], Field(min_length=1, max_length=64)]
    logits: dict[Precision, tuple[tuple[float, ...], ...]]
    tolerance: Annotated[float, Field(gt=0, le=1e6)]


class Manifest(_Part):
    """Content of ``bundle.json``.

    Attributes:
        schema_version: version of this schema.
        created: date and time, ISO 8601.
        labels: class names in the order of the logits.
        sample_rate: samples per second of ``pcm``.
        window: window policy, the same in training and on the device.
        level_db: level, in dB of full scale, that the graph normalises to.
        statistics_size: D, size of the graph's ``reference`` and ``statistics``.
        reference: default reference, ``D`` numbers, the training mean.
        speaker: how references of speakers are made; None for a student that knows the default one only.
        encoder: family and sizes.
        recipe: the distillation recipe as it was run.
        teachers: who supervised.
        corpora: what was learnt from.
        metrics: accuracy of each graph by precision.
        languages: the same by language and then by precision, where what was tested on has several languages.
        temperature: calibration temperature, fitted on validation speakers.
        threshold: confidence under which a decision is called uncertain.
        quantisation: what was quantised and how; empty without INT8.
        pruning: what was pruned; empty if nothing was.
        macs: multiply-accumulates of one window by part of the student.
        gate: what the accuracy gate compared and said, and whether it was overridden.
        parity: how far each graph is from the one before it.
        known_answers: what each engine is tested with when it is opened; None in bundles of older schemas.
        provenance: command, commit, platform, tool versions.
        files: the files of the bundle.
    """

    schema_version: str
    created: str
    labels: Annotated[tuple[Label, ...], Field(min_length=2, max_length=100), AfterValidator(_different)]
    sample_rate: Literal[16_000]
    window: WindowEntry
    level_db: float
    statistics_size: Annotated[int, Field(ge=1, le=65_536)]
    reference: Annotated[
        tuple[Annotated[float, Field(ge=-LARGEST_STATISTIC, le=LARGEST_STATISTIC)], ...], Field(max_length=65_536)
    ]
    speaker: SpeakerEntry | None = None
    encoder: EncoderEntry
    recipe: dict[str, Any]
    teachers: tuple[TeacherEntry, ...]
    corpora: tuple[CorpusEntry, ...]
    metrics: dict[str, AccuracyEntry]
    languages: dict[str, dict[str, AccuracyEntry]] = {}
    temperature: Annotated[float, Field(ge=0.001, le=1000)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    quantisation: dict[str, Any]
    pruning: dict[str, Any]
    macs: dict[str, Count] = {}
    gate: dict[str, Any] = {}
    parity: list[dict[str, Any]]
    known_answers: KnownAnswersEntry | None = None
    provenance: dict[str, Any]
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=100)]

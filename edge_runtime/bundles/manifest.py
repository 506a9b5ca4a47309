"""Schema of ``bundle.json``, the contract between `edgeemo export` and everything that uses a bundle."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edge_runtime.dimensions import HIGHEST, LOWEST, Dimension
from edge_runtime.windows import WindowPolicy

SCHEMA_VERSION = "3.2"
"""Major and minor version; a reader refuses another major version and accepts any minor one."""

MANIFEST = "bundle.json"

Precision = Literal["fp32", "fp16", "int8-cpu", "int8-trt"]
GRAPHS: dict[str, Precision] = {
    "model.fp32.onnx": "fp32",
    "model.fp16.onnx": "fp16",
    "model.int8.cpu.onnx": "int8-cpu",
    "model.int8.trt.onnx": "int8-trt",
}
"""Graphs that a bundle may hold, with their precisions."""


def graph_name(precision: Precision) -> str:
    """Return the file name of the graph of a precision."""
    return next(name for name, each in GRAPHS.items() if each == precision)


SPEAKER_PROJECTION = "speaker-projection.f32"
"""File of the speaker projection (`edge_runtime/bundles/speaker_projection.py`)."""

SPEAKER_MODEL = "speaker-model.f32"
"""File of the speaker model (`edge_runtime/bundles/speaker_model.py`)."""
MAX_DIRECTIONS = 128
"""Most directions of a speaker model."""

KNOWN_ANSWERS = "known-answers.pcm"
"""File with the signal of the known answers (`edge_runtime/bundles/known_answers.py`)."""
LONGEST_KNOWN_SECONDS = 30
"""Longest signal of known answers, in seconds: it is scored when an engine is opened."""

MODEL_CARD = "README.md"
"""File for readers: what the bundle was trained on, and its accuracy."""

LARGEST_FILE = (2 << 30) - 1
"""Bytes; the limit of Protocol Buffers and so of ONNX."""


LARGEST_STATISTIC = 1e6
"""Largest magnitude of a statistic; those of speech are a thousand times smaller."""


class _Part(BaseModel):
    # A newer minor version may have more fields.
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


Names = TypeVar("Names", bound=tuple[str, ...])


def _different(labels: Names) -> Names:
    if len(set(labels)) < len(labels):
        raise ValueError("names a label twice")
    return labels


def _showable(label: str) -> str:
    # Labels appear in terminals, pages and topics unescaped.
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
        layers: number of blocks.
        pooled_layers: layers whose mean and deviation form the statistics: the output of block i, or -1 for the
            final norm.
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
    """The split: part ``k`` of ``count`` is ``sorted(values)[k::count]`` of the column ``by``.

    Attributes:
        count: number of folds; 1 is a division that the corpus publishes in the column ``by``.
        index: the one that is tested.
        hold_out: a second column whose values are held out, as sentences.
        by: the column of the folds.
        validation: number of parts for validation.
        speaker_mixed: whether a speaker may be in several parts.
    """

    count: int
    index: int
    hold_out: str | None = None
    by: str = "speaker"
    validation: int = 1
    speaker_mixed: bool = False


class CorpusEntry(_Part):
    """A corpus that the student was trained on.

    Attributes:
        name: of the corpus.
        kind: ``recorded`` people or ``rendered`` speech.
        licence: of the speech.
        note: what users of the bundle should know about it.
        language: ISO 639 code; empty if unknown or several.
        citation: publication to cite.
        utterances: number of utterances, training and test.
        speakers: number of speakers.
        hours: of speech.
        labels: renamed from and to, where the recipe renames.
        fingerprint: of the corpus as used: with the recipe's labels, without excluded files.
        left_out: names of excluded files.
        folds: its split; None for a corpus used for training only.
        unlabelled: its labels were not used.
        test_speakers: speakers of the test part, where several corpora were split together; else `folds` gives them.
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
    unlabelled: bool = False
    test_speakers: tuple[str, ...] | None = None


class AccuracyEntry(_Part):
    """Accuracy of one graph on unseen speakers, with the 95 % interval of a bootstrap over speakers, if any.

    Attributes:
        ua: unweighted accuracy, the mean of the classes' recalls.
        ua_low: lower end of its interval; None for too few speakers.
        ua_high: upper end.
        wa: weighted accuracy, the share of right decisions.
        utterances: number of test utterances.
        speakers: number of test speakers.
    """

    ua: float
    ua_low: float | None
    ua_high: float | None
    wa: float
    utterances: Count
    speakers: Count


class TeacherEntry(_Part):
    """A teacher and its accuracy on the same unseen speakers.

    Attributes:
        name: of the teacher in the recipe; ``NAME-LANGUAGE`` for one of several monolingual teachers.
        ua: its unweighted accuracy.
    """

    name: str
    ua: float


class SpeakerProjectionEntry(_Part):
    """The speaker projection in the file `SPEAKER_PROJECTION` (`edge_runtime/bundles/speaker_projection.py`).

    Attributes:
        directions: size of a speaker embedding.
        threshold: cosine below which two embeddings belong to different speakers, chosen on validation speakers.
    """

    directions: Annotated[int, Field(ge=1, le=512)]
    threshold: Annotated[float, Field(ge=-1, le=1)]


class SpeakerEntry(_Part):
    """The speaker model, in the file ``speaker-model.f32`` (`edge_runtime/bundles/speaker_model.py`).

    The file holds little-endian float32: the projection ``[k, D]``, the class means ``[C, k]``, the covariance between
    speakers ``[k, k]`` and the variances between speakers of a class ``[k]``.

    Attributes:
        directions: k, size of reduced statistics.
        softness: temperature of the probabilities of latent classes.
        projection: detects changes of speaker; None for no detection.
    """

    directions: Annotated[int, Field(ge=1, le=MAX_DIRECTIONS)]
    softness: Annotated[float, Field(ge=1, le=1000)]
    projection: SpeakerProjectionEntry | None = None


class StretchEntry(_Part):
    """One stretch of the signal in `KNOWN_ANSWERS`.

    Attributes:
        sound: its kind, such as ``noise`` or ``silence``.
        start: its first sample.
        samples: number of samples.
    """

    sound: Annotated[str, Field(max_length=64), AfterValidator(_showable)]
    start: Count
    samples: Count


class KnownAnswersEntry(_Part):
    """A synthetic signal and the logits that exact arithmetic gives for it; each engine is tested with them.

    Attributes:
        stretches: of the signal, each scored by itself with the training mean.
        logits: by precision of the graph, a row of logits for each stretch.
        tolerance: largest root mean square error of an engine's logits. At this error the expected accuracy falls by
            half a point (`export/bundle/known_answers.py`).
    """

    stretches: Annotated[tuple[StretchEntry, ...], Field(min_length=1, max_length=64)]
    logits: dict[Precision, tuple[tuple[float, ...], ...]]
    tolerance: Annotated[float, Field(gt=0, le=1e6)]


class ConcordanceEntry(_Part):
    """Concordance of one predicted dimension of a graph with its targets, on unseen speakers.

    Attributes:
        ccc: concordance correlation coefficient (Lin 1989).
        ccc_low: lower end of its 95 % interval of a bootstrap over speakers; None without an interval.
        ccc_high: upper end.
        utterances: number of test utterances with a target.
        speakers: number of their speakers.
    """

    ccc: float
    ccc_low: float | None = None
    ccc_high: float | None = None
    utterances: Count
    speakers: Count


def _supported(scale: tuple[float, float]) -> tuple[float, float]:
    if scale != (LOWEST, HIGHEST):
        raise ValueError(f"must be {LOWEST:g} and {HIGHEST:g}")
    return scale


class DimensionsEntry(_Part):
    """Continuous dimensions of emotion, which the graphs predict in an output ``dimensions`` ``[1, K]``.

    Attributes:
        names: of the ``K`` dimensions, in the order of the output.
        scale: its ends, 0 and 1; values of the output beyond an end count as that end.
        metrics: concordance of each graph by precision, then by dimension.
        gate: figures and verdict of the gate by concordance, and whether it was overridden.
        parity: distance of each graph from the one before it.
        known_answers: by precision of the graph, a row of dimensions for each stretch of the bundle's known answers.
        tolerance: largest root mean square error of an engine's dimensions for that signal
            (`export/bundle/known_answers.py`).
    """

    names: Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=3), AfterValidator(_different)]
    scale: Annotated[tuple[float, float], AfterValidator(_supported)] = (LOWEST, HIGHEST)
    metrics: dict[str, dict[Dimension, ConcordanceEntry]]
    gate: dict[str, Any] = {}
    parity: list[dict[str, Any]] = []
    known_answers: dict[Precision, tuple[tuple[float, ...], ...]]
    tolerance: Annotated[float, Field(gt=0, le=1e6)]


class Manifest(_Part):
    """Content of ``bundle.json``.

    Attributes:
        schema_version: version of this schema.
        created: date and time, ISO 8601.
        labels: class names in the order of the logits.
        sample_rate: samples per second of ``pcm``.
        window: window policy of training and device.
        level_db: level to which the graph normalises its input, in dB of full scale.
        statistics_size: D, size of the graph's ``reference`` and ``statistics``.
        reference: the training mean, ``D`` numbers; default of the graph's ``reference`` input.
        speaker: speaker model; None for a student without one.
        encoder: family and sizes.
        recipe: the distillation recipe.
        teachers: the teachers.
        corpora: the training corpora.
        metrics: accuracy of each graph by precision.
        dimensions: predicted dimensions; None, and left out of the file, for a student without.
        languages: the same by language and then by precision, where the test speech has several languages.
        temperature: calibration temperature, fitted on validation speakers.
        threshold: confidence below which a decision is marked uncertain.
        quantisation: settings and results of INT8 quantisation; empty without INT8.
        pruning: settings and results of pruning; empty without pruning.
        macs: multiply-accumulates of one window by part of the student.
        gate: figures and verdict of the accuracy gate, and whether it was overridden.
        parity: distance of each graph from the one before it.
        known_answers: signal and logits for the test of each engine; None in older bundles.
        provenance: command, commit, platform, tool versions.
        files: the files of the bundle.
    """

    schema_version: Annotated[str, Field(pattern="^[0-9]{1,9}[.][0-9]{1,9}$")]
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
    dimensions: DimensionsEntry | None = None
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

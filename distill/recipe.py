"""Recipes: everything that a training run was told to do. `distill.load_recipe` reads them from TOML."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from distill.folds import FoldSpec
from distill.speech.augmentation import Augmentation
from edge_runtime.windows import WindowPolicy

Name = TypeVar("Name", int, str)

EVERYONE: Literal["everyone"] = "everyone"
OWN = "own"
"""The teacher that another package adds."""
TEACHERS = ("linguistic", "prosodic", "acoustic", OWN)
MONOLINGUAL = "monolingual"
"""Those of MTKD, one a language; `TEACHERS` have heard all languages."""


def _distinct(names: tuple[Name, ...]) -> tuple[Name, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names a layer twice" if isinstance(names[0], int) else "names one twice")
    return names


def _all(frozen: object) -> object:
    return "all" if frozen == -1 else frozen


Frozen = Annotated[Literal["none", "all"] | Annotated[int, Field(ge=0)], BeforeValidator(_all)]
"""Which part of an encoder is not trained: ``none``; ``all`` (or -1); or its first blocks, with everything before them,
where 0 is what comes before the first block only (the convolutions)."""
PooledLayers = Annotated[tuple[Annotated[int, Field(ge=-1)], ...], Field(min_length=1), AfterValidator(_distinct)]
"""Whose mean and deviation over time are taken: 0 is the input of the first block, i the output of block i, -1 the
output of the last block through the encoder's final norm."""


PooledFrames = Annotated[tuple[Literal["all", "loud"], ...], Field(min_length=1), AfterValidator(_distinct)]
"""Over which frames: all of them, or the loud ones, which leaves pauses out softly."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Table):
    """How one model is optimised (AdamW, linear warm-up, cosine decay).

    Attributes:
        epochs: most epochs.
        keep: ``best``, the epoch with the best UA on validation, or ``last``, which leaves nothing to choose.
        batch_size: utterances a step.
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay.
        warmup: share of all steps spent on warm-up.
        patience: epochs without a better validation result before stopping; only where the best one is kept.
    """

    epochs: int = Field(ge=1)
    keep: Literal["best", "last"] = "best"
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, le=0.5)
    patience: int = Field(default=5, ge=1)


class TeacherSignal(_Table):
    """What a teacher adds to the student's loss.

    Attributes:
        temperature: softens (above 1) or hardens (below 1) the distributions of teacher and student.
        logit_weight: weight of the KL divergence to the teacher's distribution; 0 switches it off.
        embedding_weight: weight of the cosine distance to the teacher's embedding; 0 switches it off.
    """

    temperature: float = Field(gt=0)
    logit_weight: float = Field(default=1.0, ge=0)
    embedding_weight: float = Field(default=1.0, ge=0)


class LinguisticTeacher(_Table):
    """A text encoder over transcripts.

    Attributes:
        encoder: Hugging Face name or path, or ``package:NAME/FOLDER`` for weights inside an installed pip package.
        max_tokens: longer transcripts are cut.
    """

    encoder: str
    max_tokens: int = Field(default=64, ge=4)
    training: Schedule
    signal: TeacherSignal = TeacherSignal(temperature=4.0)


class ProsodicTeacher(_Table):
    """A residual network over openSMILE eGeMAPS low-level descriptors.

    Attributes:
        descriptors: ``prosody`` for those of loudness, pitch and voice quality only, ``all`` for all 25.
        channels: width of each residual stage; every stage after the first halves the frame rate.
        embedding_size: size of the embedding that the student's prosodic branch is drawn to.
        dropout: dropout before the classifier.
    """

    descriptors: Literal["prosody", "all"] = "all"
    channels: tuple[int, ...] = Field(default=(64, 96, 128), min_length=1)
    embedding_size: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    training: Schedule
    signal: TeacherSignal = TeacherSignal(temperature=0.5)


class AcousticTeacher(_Table):
    """A speech encoder with a classifier on the mean and deviation over time of some of its layers.

    Attributes:
        encoder: Hugging Face name or path of a speech encoder of any family that students may have.
        layers: keep only the first blocks.
        pooled_layers: whose statistics are taken.
        frozen: which part of the encoder is not trained.
        seconds: longest stretch that is heard; of a longer utterance its middle (in training, any part).
        embedding_size: size of the embedding that the student's acoustic branch is drawn to.
        dropout: dropout before the classifier.
    """

    encoder: str
    layers: int | None = Field(default=None, ge=1)
    pooled_layers: PooledLayers = (-1,)
    frozen: Frozen = "none"
    seconds: float = Field(default=8.0, ge=0.5, le=30)
    embedding_size: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    training: Schedule
    signal: TeacherSignal = TeacherSignal(temperature=4.0)


class OwnTeacher(_Table):
    """A teacher that another installed package adds (`distill.teachers.own`). The student has a branch for it.

    Attributes:
        plugin: name of its entry point in the group ``edgeemo.teachers``.
        settings: what its class is given.
    """

    plugin: str = Field(min_length=1)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    signal: TeacherSignal = TeacherSignal(temperature=4.0)


class RandomEncoder(_Table):
    """A small randomly initialised encoder of the Whisper family, for the demo and for tests."""

    d_model: int = Field(default=128, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    feed_forward: int = Field(default=256, ge=8)
    mel_bins: int = Field(default=80, ge=8)

    @model_validator(mode="after")
    def _heads_divide(self) -> RandomEncoder:
        if self.d_model % self.heads or self.d_model % 2:
            raise ValueError("d_model must be even and a multiple of heads")
        return self


class Discriminant(_Table):
    """A linear map from the statistics of a frozen encoder to the logits, in closed form (`distill.heads.lda`).

    Attributes:
        shrinkage: how far the covariance within classes is drawn to a multiple of the identity; of several values, the
            one with the best UA on validation is taken.
        also_weight: what an utterance of another corpus (``--also``) counts beside one of the corpus that is tested.
    """

    shrinkage: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.6, 0.75, 0.85), min_length=1)
    also_weight: float = Field(default=0.2, ge=0, le=1)


class Speaker(_Table):
    """Speaker normalisation: the mean of a speaker's utterances is subtracted from their statistics.

    Attributes:
        trust: utterances that the training mean is worth in a speaker mean (`edge_runtime.speakers.speaker_mean`).
        share: for the LDA head, the share of the weight of each utterance with its speaker mean subtracted; the rest is
            of the utterance as it is, for new speakers. For branches and head, the chance that an utterance comes with
            a speaker mean (`distill.training.speaker_means`).
        poor: share of the speaker means in training that are poor ones: of a single emotion, of another speaker, noisy.
        voices: fit a speaker-embedding projection too (`distill.heads.speaker_embedding`), by which the runtime detects
            a change of speaker.
    """

    trust: float = Field(default=5.0, ge=0.1, le=1000)
    share: float = Field(default=0.5, ge=0, le=1)
    poor: float = Field(default=0.2, ge=0, le=1)
    voices: bool = True


class StructuredPruning(_Table):
    """Structured pruning with distillation of a frozen encoder, before anything is fitted to its statistics.

    In each block and convolution the units stay on which the statistics depend most; what reads them is fitted by least
    squares (`distill.pruning`).

    Attributes:
        heads: attention heads that stay in each block; all if not given, as below.
        feed_forward: hidden units that stay in each feed-forward part.
        channels: channels that stay in each convolution whose width is free.
        every: only every so many frames go through the blocks.
        windows: training windows that units are measured and readers fitted on.
        training: then all its weights are trained to match the original encoder's hidden states and statistics.
    """

    heads: int | None = Field(default=None, ge=1)
    feed_forward: int | None = Field(default=None, ge=1)
    channels: int | None = Field(default=None, ge=1)
    every: int = Field(default=1, ge=1, le=8)
    windows: int = Field(default=160, ge=1)
    training: Schedule | None = None

    @model_validator(mode="after")
    def _no_choice_to_make(self) -> StructuredPruning:
        if self.training is not None and self.training.keep != "last":
            raise ValueError("'training' of a pruned encoder needs keep = \"last\": it is not validated")
        return self


class Student(_Table):
    """The audio-only student.

    Attributes:
        encoder: Hugging Face name or path of a Whisper, wav2vec2, HuBERT or WavLM encoder; exactly one of this and
            `random`.
        layers: keep only the first blocks of `encoder`.
        random: sizes of a randomly initialised encoder.
        pruning: structured pruning of the encoder first; for a frozen one.
        pooled_layers: whose statistics are taken.
        pooled_frames: over which frames: ``all``, ``loud`` (pauses left out softly), or both.
        frozen: which part of the encoder is not trained.
        branches: ``disjoint``, a projection for each teacher, or ``shared``, one of as many parameters for all, from
            which linear maps that are used in the loss only lead to the teachers' embeddings.
        discriminant: a linear map from the statistics of a frozen encoder straight to the logits, in closed form. The
            branches add to it what they learn; without ``training`` there are none, and it decides alone.
        speaker: speaker normalisation, in training and on the device; for a frozen encoder.
        linguistic_size: size of the linguistic branch where no linguistic teacher fixes it.
        prosodic_size: size of the prosodic branch where no prosodic teacher fixes it.
        acoustic_size: size of the acoustic branch where no acoustic teacher fixes it; 0 for no such branch.
        hidden_size: hidden units of the projections and of the head.
        dropout: dropout in the head.
        label_weight: weight of the cross-entropy with the labels.
        label_smoothing: share of the target spread evenly over the classes.
        statistics_dropout: dropout of the statistics before the branches.
        label_balance: how far rare classes are made up for: class weights are (1 / frequency) to this power.
        language_balance: how far languages of which there is little speech are made up for: utterances are drawn with
            weights of (1 / frequency of their language) to this power.
        swap_speakers: chance that the speaker mean of a training utterance is exchanged for that of another speaker, in
            the statistics of a frozen encoder: another voice with the same emotion.
        copies: how many copies of each training utterance a frozen encoder processes, the first as recorded.
        augmentation: how training speech is changed.
        refit: when all choices are made, train once more on training and validation speakers together; needs
            ``training.keep = "last"``. Temperature and threshold stay those of the first training. ``everyone``: on the
            tested speakers too, for a student that is shipped; the run's figures are then those of the first training.
        training: how branches and head, and what is not frozen, are trained.
        coverage: share of validation utterances that the abstention threshold lets stand.
    """

    encoder: str | None = None
    layers: int | None = Field(default=None, ge=1)
    random: RandomEncoder | None = None
    pruning: StructuredPruning | None = None
    pooled_layers: PooledLayers = (-1,)
    pooled_frames: PooledFrames = ("all",)
    frozen: Frozen = "none"
    branches: Literal["disjoint", "shared"] = "disjoint"
    discriminant: Discriminant | None = None
    speaker: Speaker | None = None
    linguistic_size: int = Field(default=128, ge=1)
    prosodic_size: int = Field(default=128, ge=1)
    acoustic_size: int = Field(default=0, ge=0)
    hidden_size: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_weight: float = Field(default=1.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    label_balance: float = Field(default=0.0, ge=0, le=1)
    language_balance: float = Field(default=0.0, ge=0, le=1)
    statistics_dropout: float = Field(default=0.0, ge=0, lt=1)
    swap_speakers: float = Field(default=0.0, ge=0, le=1)
    copies: int = Field(default=1, ge=1)
    augmentation: Augmentation = Augmentation()
    refit: bool | Literal["everyone"] = False
    coverage: float = Field(default=0.9, gt=0, le=1)
    training: Schedule | None = None

    @model_validator(mode="after")
    def _one_encoder(self) -> Student:
        if (self.encoder is None) == (self.random is None):
            raise ValueError("needs exactly one of 'encoder' and 'random'")
        return self

    @model_validator(mode="after")
    def _something_decides(self) -> Student:
        if self.training is None and self.discriminant is None:
            raise ValueError("needs 'training', or 'discriminant', or both")
        return self

    @model_validator(mode="after")
    def _copies_are_of_a_frozen_encoder(self) -> Student:
        for name, used in (
            ("copies", self.copies > 1),
            ("swap_speakers", self.swap_speakers > 0),
            ("discriminant", self.discriminant is not None),
            ("pruning", self.pruning is not None),
        ):
            if used and self.frozen != "all":
                raise ValueError(f"'{name}' is for a frozen encoder (frozen = \"all\"); others hear all speech anew")
        return self

    @model_validator(mode="after")
    def _speakers_are_known_by_a_frozen_encoder(self) -> Student:
        if self.speaker is not None and self.frozen != "all":
            raise ValueError(
                "'speaker' is for a frozen encoder (frozen = \"all\"): speaker means are of statistics, which every "
                "step of a trained encoder changes"
            )
        return self

    @model_validator(mode="after")
    def _refit_has_no_choice_to_make(self) -> Student:
        if self.refit and self.training is not None and self.training.keep != "last":
            raise ValueError("'refit' needs training.keep = \"last\", since it has nobody to choose an epoch on")
        return self


class MonolingualTeachers(_Table):
    """Teachers of one language each, as the student but without teachers (MTKD, arXiv 2506.08717).

    Attributes:
        model: how each teacher is made; as the student if not given. One that says ``refit`` is not refitted all the
            same: teachers have not learnt from the speakers that the student is validated on.
        languages: of which languages there are teachers; of all that are learnt from if not given.
        weights: how much each one counts for an utterance (`distill.distillation.mtkd`): by ``agreement`` with the
            student; ``batch-agreement``, one weight a batch, as in the published code; ``confidence`` of the teacher;
            ``uniform``; or ``own-language``, the teacher of the utterance's language alone.
        weight_temperature: of the softmax over teachers.
        temperature: softens the distributions of teachers and student.
        share: of the teachers in the loss; the rest is the labels'. Lambda in the paper.
        squared: multiply the divergence by the temperature's square, as EmoDistill does; the paper's code does not.
    """

    model: Student | None = None
    languages: tuple[str, ...] | None = Field(default=None, min_length=1)
    weights: Literal["agreement", "batch-agreement", "confidence", "uniform", "own-language"] = "agreement"
    weight_temperature: float = Field(default=0.25, gt=0)
    temperature: float = Field(default=5.0, gt=0)
    share: float = Field(default=0.25, ge=0, le=1)
    squared: bool = False


class Recipe(_Table):
    """One training run. Leaving a teacher's table out trains without that teacher.

    Attributes:
        method: ``emodistill``, or ``mtkd`` where there are monolingual teachers, beside which others may stand.
        languages: of which languages speech is learnt from and tested on; of all if not given. Teachers of other
            languages may teach all the same.
        labels: which labels of the corpus are learnt, and under which name: ``{ angry = "angry", joy = "happy" }``.
            Utterances with other labels are left out. Without it all labels are learnt as they are.
    """

    name: str = Field(min_length=1)
    method: Literal["emodistill", "mtkd"] = "emodistill"
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1, le=1024)
    labels: dict[str, str] | None = Field(default=None, min_length=2)
    languages: tuple[str, ...] | None = Field(default=None, min_length=1)
    folds: FoldSpec = FoldSpec()
    window: WindowPolicy = WindowPolicy()
    linguistic: LinguisticTeacher | None = None
    prosodic: ProsodicTeacher | None = None
    acoustic: AcousticTeacher | None = None
    own: OwnTeacher | None = None
    monolingual: MonolingualTeachers | None = None
    student: Student

    @model_validator(mode="after")
    def _teachers_have_a_pupil(self) -> Recipe:
        taught = [name for name in (*TEACHERS, MONOLINGUAL) if getattr(self, name) is not None]
        if taught and self.student.training is None:
            raise ValueError(f"'{taught[0]}' has nobody to teach: a student without 'training' is made in closed form")
        if self.monolingual is not None and self.method != "mtkd":
            raise ValueError("'monolingual' teachers are of the method \"mtkd\"")
        return self

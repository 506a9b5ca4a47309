"""Recipes: all settings of a training run. `distill.load_recipe` reads them from TOML. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from distill.folds import FoldSpec
from distill.speech.augmentation import Augmentation
from edge_runtime.dimensions import DIMENSIONS, Dimension
from edge_runtime.windows import WindowPolicy

Name = TypeVar("Name", int, str)


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
"""The layers whose mean and deviation over time are taken: 0 is the input of the first block, i the output of block i,
-1 the output of the last block through the encoder's final norm."""


def _plain(name: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError("must be a name of letters, digits, '-' and '_'")
    return name


PlainName = Annotated[str, AfterValidator(_plain)]
"""A name that can stand in file names, in option values and in the names of weights."""
PooledFrames = Annotated[tuple[Literal["all", "loud"], ...], Field(min_length=1), AfterValidator(_distinct)]
"""The frames that statistics are taken over: all of them, or the loud ones, which weighs pauses down."""


class _Table(BaseModel, extra="forbid", frozen=True):
    """Unknown keys are errors."""


class Schedule(_Table):
    """How one model is optimised (AdamW, linear warm-up, cosine decay).

    Attributes:
        epochs: most epochs.
        keep: ``best``, the epoch with the best UA on validation, or ``last``, which needs no validation.
        batch_size: utterances a step.
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay.
        patience: epochs without a better validation result before stopping; only where the best one is kept.
    """

    epochs: int = Field(ge=1)
    keep: Literal["best", "last"] = "best"
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.01, ge=0)
    patience: int = Field(default=5, ge=1)


class TeacherSignal(_Table):
    """A teacher's terms in the student's loss.

    Attributes:
        temperature: softens (above 1) or hardens (below 1) the distributions of teacher and student.
        logit_weight: weight of the KL divergence to the teacher's distribution; 0 switches it off.
        embedding_weight: weight of the cosine distance to the teacher's embedding; 0 switches it off.
    """

    temperature: float = Field(gt=0)
    logit_weight: float = Field(default=1.0, ge=0)
    embedding_weight: float = Field(default=1.0, ge=0)


class TeacherTable(_Table, extra="allow"):
    """One teacher, as a recipe names it; the model of its kind validates the other keys (`distill.teachers.registry`).

    They are not validated here, so that a run can be read where the package that has the kind is not installed.

    Attributes:
        kind: of the registry: ``linguistic``, ``prosodic``, ``acoustic``, ``monolingual``, or that of a plug-in.
        name: in reports, in files and on the command line; the kind if not given.
    """

    kind: PlainName
    name: PlainName = ""

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_kind(cls, table: object) -> object:
        if isinstance(table, dict) and "kind" in table and not table.get("name"):
            return {**table, "name": table["kind"]}
        return table


class RandomEncoder(_Table):
    """A small randomly initialised encoder of the Whisper family, for the demo and for tests.

    Attributes:
        d_model: size of the hidden states; even, and a multiple of ``heads``.
        layers: its blocks.
        heads: attention heads of a block.
        feed_forward: units between the two linear maps of a block.
        mel_bins: of its log-mel spectrogram.
    """

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


class LdaHead(_Table):
    """A linear map from the statistics of a frozen encoder to the logits, in closed form (`distill.heads.lda`).

    Attributes:
        shrinkage: how far the covariance within classes is drawn to a multiple of the identity; of several values, the
            one with the best UA on validation is taken.
        auxiliary_weight: weight of an utterance of an auxiliary corpus (``--auxiliary-corpus``); one of the tested
            corpus has weight 1.
    """

    shrinkage: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.6, 0.75, 0.85), min_length=1)
    auxiliary_weight: float = Field(default=0.2, ge=0, le=1)


class Speaker(_Table):
    """Speaker model (`distill.heads.speaker_model`): the LDA head is that of an unknown speaker.

    Attributes:
        voices: fit a speaker-embedding projection too (`distill.heads.speaker_embedding`), by which the device detects
            changes of speaker.
    """

    voices: bool = True


class EncoderDistillation(_Table):
    """Training of an encoder, pruned or not, to match the original one, without labels (`distill.pruning.matching`).

    The original encoder, the teacher, gets clean speech; most of the student's has ``student.augmentation``.

    Attributes:
        layers: of the original encoder, up to any depth, whose hidden states and statistics are matched; the student's
            ``pooled_layers`` if not given.
        voices: in how many voices the speech is processed (``augmentation.speed``), the first as recorded.
        speech: what it is distilled on: ``all``, training and unlabelled speech, or ``unlabelled`` speech alone, which
            gives the same encoder in all folds.
        other_emotions: with ``all``, on the utterances of training speakers whose emotion is no class, too.
        clean_share: share of utterances that the student gets clean too; with none, it loses accuracy on clean speech.
        interpolation: weight of the distilled encoder in the mean with the one before, number by number: half way, it
            keeps more of what it had on other corpora (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR
            2022).
        bfloat16: the blocks compute in it, which takes two thirds of the time on processors with AVX512-BF16 or AMX.
        training: how it is optimised; nothing is validated, so that it keeps the ``last`` epoch.
    """

    layers: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    voices: int = Field(default=3, ge=1)
    speech: Literal["all", "unlabelled"] = "all"
    other_emotions: bool = True
    clean_share: float = Field(default=0.3, ge=0, le=1)
    interpolation: float = Field(default=1.0, gt=0, le=1)
    bfloat16: bool = False
    training: Schedule

    @model_validator(mode="after")
    def _no_choice_to_make(self) -> EncoderDistillation:
        if self.training.keep != "last":
            raise ValueError("'training' of a pruned encoder needs keep = \"last\": it is not validated")
        return self


class StructuredPruning(_Table):
    """Structured pruning of a frozen encoder, and its distillation, before anything is fitted to its statistics.

    In each block and convolution the units stay on which the statistics depend most; what reads them is fitted by least
    squares (`distill.pruning`).

    Attributes:
        heads: attention heads that stay in each block; all if not given, as below.
        feed_forward: hidden units that stay in each feed-forward part.
        channels: channels that stay in each convolution whose width is free.
        every: only every so many frames go through the blocks.
        windows: training windows that units are measured and readers fitted on.
        distillation: then all its weights are trained to match the original encoder.
    """

    heads: int | None = Field(default=None, ge=1)
    feed_forward: int | None = Field(default=None, ge=1)
    channels: int | None = Field(default=None, ge=1)
    every: int = Field(default=1, ge=1, le=8)
    windows: int = Field(default=160, ge=1)
    distillation: EncoderDistillation | None = None


class Dimensions(_Table):
    """A regression of arousal, valence and dominance beside the classes, from 0 to 1.

    Without ``student.training`` it is a ridge regression on the statistics of the frozen encoder, in closed form
    (`distill.heads.dimensions`). Otherwise a linear layer on the embeddings of the branches, trained with the loss
    ``1 - CCC`` of each dimension over the utterances of a batch that have a target (with several processes, over those
    of a process). It is relative to the training mean: the speaker model does not change it.

    Attributes:
        names: the dimensions; the training part needs targets of each.
        ridge: candidates for the ridge, relative to the mean variance of the statistics; the one with the best CCC on
            validation is taken, for each dimension.
        weight: weight of the loss, the mean over the dimensions.
        teacher_share: share of the teachers' predictions (their mean) in a target, for teachers that predict
            dimensions (``prosodic``); a missing target is the teachers' prediction alone.
    """

    names: Annotated[tuple[Dimension, ...], Field(min_length=1), AfterValidator(_distinct)] = DIMENSIONS
    ridge: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=(0.1, 0.3, 1.0, 3.0, 10.0), min_length=1
    )
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    teacher_share: float = Field(default=0.0, ge=0, le=1)


class Student(_Table):
    """The audio-only student.

    Attributes:
        encoder: Hugging Face name or path of a Whisper, wav2vec2, HuBERT or WavLM encoder; exactly one of this and
            `random`.
        layers: keep only the first blocks of `encoder`.
        time_reduction: layers after which the mean of each two neighbouring frames goes on, so that later blocks do
            half the work (`distill.encoders.time_reduction`); a layer named twice quarters them. Of a Whisper encoder.
        random: sizes of a randomly initialised encoder.
        pruning: structured pruning of the encoder first; for a frozen one.
        pooled_layers: the layers whose statistics are taken.
        pooled_frames: the frames that they are taken over: ``all``, ``loud`` (pauses weighed down), or both.
        pooled_deviation: take the deviation over time too, not the mean alone.
        frozen: the part of the encoder that is not trained.
        branches: sizes of the branches by name, ``{ linguistic = 384, prosodic = 64 }``. A teacher's embedding is
            matched by the branch of its name, and sets the size of that branch, which is added if it is not here. A
            branch that is named here stays when its teacher is left out, so that such a student is no smaller.
        shared_branch: one projection for all branches, with as many parameters as one each would have; linear maps,
            which are used in the loss only, lead from it to the teachers' embeddings.
        lda: an LDA head: a linear map from the statistics of a frozen encoder to the logits, in closed form. The output
            of branches and head is added to its logits; without ``training`` there are none.
        speaker: fit a speaker model, by which the device adapts to the speaker; for a frozen encoder with an LDA head.
        dimensions: predict arousal, valence and dominance too.
        hidden_size: hidden units of the projections and of the head.
        dropout: dropout in the head.
        label_weight: weight of the cross-entropy with the labels.
        statistics_dropout: dropout of the statistics before the branches.
        language_balance: utterances are drawn with weights of (1 / frequency of their language) to this power; 1 draws
            all languages equally often.
        copies: versions of each training utterance that a frozen encoder processes, the first as recorded.
        voice_copies: of these, how many after the first one change the voice only (``augmentation.speed``).
        augmentation: of training speech.
        refit: train once more on training and validation speakers together when all choices are made; needs
            ``training.keep = "last"``. Temperature and threshold stay those of the first training.
        train_on_all: that last training is on the tested speakers too, for a student that is shipped; the run's figures
            are those of the first training.
        training: how branches, head and what is not frozen are trained.
    """

    encoder: str | None = None
    layers: int | None = Field(default=None, ge=1)
    time_reduction: tuple[Annotated[int, Field(ge=0)], ...] = ()
    random: RandomEncoder | None = None
    pruning: StructuredPruning | None = None
    pooled_layers: PooledLayers = (-1,)
    pooled_frames: PooledFrames = ("all",)
    pooled_deviation: bool = True
    frozen: Frozen = "none"
    branches: dict[PlainName, Annotated[int, Field(ge=1)]] = Field(
        default={"linguistic": 128, "prosodic": 128}, min_length=1
    )
    shared_branch: bool = False
    lda: LdaHead | None = None
    speaker: Speaker | None = None
    dimensions: Dimensions | None = None
    hidden_size: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_weight: float = Field(default=1.0, ge=0)
    language_balance: float = Field(default=0.0, ge=0, le=1)
    statistics_dropout: float = Field(default=0.0, ge=0, lt=1)
    copies: int = Field(default=1, ge=1)
    voice_copies: int = Field(default=0, ge=0)
    augmentation: Augmentation = Augmentation()
    refit: bool = False
    train_on_all: bool = False
    training: Schedule | None = None

    @model_validator(mode="after")
    def _one_encoder(self) -> Student:
        if (self.encoder is None) == (self.random is None):
            raise ValueError("needs exactly one of 'encoder' and 'random'")
        return self

    @model_validator(mode="after")
    def _distillation_matches_frames(self) -> Student:
        if self.time_reduction and self.pruning is not None and self.pruning.distillation is not None:
            raise ValueError(
                "'time_reduction' and 'pruning.distillation' exclude each other: distillation matches each frame"
            )
        return self

    @model_validator(mode="after")
    def _something_decides(self) -> Student:
        if self.training is None and self.lda is None:
            raise ValueError("needs 'training', or 'lda', or both")
        return self

    @model_validator(mode="after")
    def _copies_are_of_a_frozen_encoder(self) -> Student:
        for name, used in (
            ("copies", self.copies > 1),
            ("lda", self.lda is not None),
            ("pruning", self.pruning is not None),
        ):
            if used and self.frozen != "all":
                raise ValueError(
                    f"'{name}' is for a frozen encoder (frozen = \"all\"); others process all speech anew in each epoch"
                )
        return self

    @model_validator(mode="after")
    def _voice_copies_are_copies(self) -> Student:
        if self.voice_copies >= self.copies:
            raise ValueError("'voice_copies' must be below 'copies', the first of which is as recorded")
        if self.voice_copies and not self.augmentation.speed:
            raise ValueError("'voice_copies' needs 'augmentation.speed'")
        return self

    @model_validator(mode="after")
    def _a_speaker_model_has_an_lda_head(self) -> Student:
        if self.speaker is not None and (self.frozen != "all" or self.lda is None or self.training is not None):
            raise ValueError(
                "'speaker' is for a frozen encoder (frozen = \"all\") with 'lda' and without 'training': the speaker "
                "model is the student's classifier"
            )
        if self.speaker is not None and self.language_balance:
            raise ValueError("'language_balance' has no effect with 'speaker': its corpora have equal weight anyway")
        return self

    @model_validator(mode="after")
    def _refit_has_no_choice_to_make(self) -> Student:
        name = "train_on_all" if self.train_on_all else "refit"
        if (self.refit or self.train_on_all) and self.training is not None and self.training.keep != "last":
            raise ValueError(
                f"'{name}' needs training.keep = \"last\": no validation speaker is left to choose an epoch"
            )
        return self


class Weighting(_Table):
    """How teachers of one language each enter the student's loss together (MTKD, arXiv 2506.08717).

    Attributes:
        by: how an utterance's weights of the teachers are computed (`distill.distillation.weighting`): by
            ``agreement`` with the student; ``batch-agreement``, one weight for a batch, as in the published code;
            ``confidence`` of the teacher; ``uniform``; or ``own-language``, the teacher of the utterance's language
            alone.
        weight_temperature: of the softmax over teachers.
        temperature: softens the distributions of teachers and student.
        share: of the teachers in the loss; the rest is the labels'. Lambda in the paper.
        squared: multiply the divergence by the temperature's square, as for other teachers; the paper's code does not.
    """

    by: Literal["agreement", "batch-agreement", "confidence", "uniform", "own-language"] = "agreement"
    weight_temperature: float = Field(default=0.25, gt=0)
    temperature: float = Field(default=5.0, gt=0)
    share: float = Field(default=0.25, ge=0, le=1)
    squared: bool = False


class ChoicesWithTestFigures(_Table):
    """How many choices of a recipe were made by someone who saw figures of the speech that it is tested on.

    Each of them makes the figures of that speech a little too good. A statement of the author, for reports.

    Attributes:
        count: how many; 0 where every choice was made on validation speakers or before the test.
        what: which ones.
    """

    count: int = Field(ge=0)
    what: str = ""


def choices_stated(found: ChoicesWithTestFigures | Mapping[str, Any] | None) -> str:
    """Return the number of choices and which they were, for reports; "not stated" for None."""
    if found is None:
        return "not stated"
    choices = ChoicesWithTestFigures.model_validate(found)
    return f"{choices.count} ({choices.what})" if choices.what else str(choices.count)


class Recipe(_Table):
    """One training run.

    Attributes:
        name: in reports.
        seed: of everything random; the same seed, corpus and machine give the same student.
        threads: of the processor, for each process.
        folds: how the corpus is split into training, validation and test speakers.
        window: the window policy of the student, in training and on the device.
        student: the audio-only student.
        languages: the languages of the speech that the student is trained and tested on; all if not given. Teachers are
            trained on the others too.
        labels: class of each label of the corpus: ``{ angry = "angry", joy = "happy" }``; utterances with other labels
            are left out. Every label is a class if not given.
        teachers: in any number; without any, the student is trained on labels alone.
        weighting: of the teachers of one language each, where there are any.
        choices_with_test_figures: how many choices of this recipe were made with figures of the tested speech visible;
            reports and the model card repeat it, None as "not stated". Set it for your own corpus.
    """

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1, le=1024)
    labels: dict[str, str] | None = Field(default=None, min_length=2)
    languages: tuple[str, ...] | None = Field(default=None, min_length=1)
    folds: FoldSpec = FoldSpec()
    window: WindowPolicy = WindowPolicy()
    teachers: tuple[TeacherTable, ...] = ()
    weighting: Weighting = Weighting()
    choices_with_test_figures: ChoicesWithTestFigures | None = None
    student: Student

    @property
    def encoder_distillation(self) -> EncoderDistillation | None:
        """How the encoder is distilled, if it is."""
        return None if self.student.pruning is None else self.student.pruning.distillation

    @property
    def distils_on_unlabelled_alone(self) -> bool:
        """Whether the encoder is distilled on unlabelled speech alone."""
        how = self.encoder_distillation
        return how is not None and how.speech == "unlabelled"

    @property
    def uses_unlabelled(self) -> bool:
        """Whether unlabelled speech changes the student: by its teachers, or where its encoder is distilled."""
        return bool(self.teachers) or self.encoder_distillation is not None

    @model_validator(mode="after")
    def _teachers_have_names_of_their_own(self) -> Recipe:
        names = Counter(each.name for each in self.teachers)
        twice = next((name for name, count in names.items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"two teachers are called '{twice}'; give one of them another 'name'")
        return self

    @model_validator(mode="after")
    def _fits_chunks(self) -> Recipe:
        if not self.window.chunk:
            return self
        if self.student.pooled_deviation:
            raise ValueError("window.chunk_seconds needs student.pooled_deviation = false: chunks add up to means")
        smaller = self.student.pruning
        if smaller and (smaller.heads or smaller.feed_forward or smaller.channels):
            raise ValueError(
                "window.chunk_seconds: units of an encoder in chunks cannot be pruned; leave student.pruning.heads, "
                "feed_forward and channels out"
            )
        return self

    @model_validator(mode="after")
    def _teachers_need_a_trained_student(self) -> Recipe:
        if self.teachers and self.student.training is None:
            raise ValueError(
                f"the teacher '{self.teachers[0].name}' has no effect on a student without 'training', which is fitted "
                "in closed form; add student.training or leave the teacher out"
            )
        return self

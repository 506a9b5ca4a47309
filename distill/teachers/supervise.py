"""Train a teacher on a fold and keep what it says of every utterance, once for all runs that need it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.utils.data import Dataset
from transformers import set_seed

from distill.caching.arrays import Rows, write_rows
from distill.caching.source_digest import source_digest
from distill.corpus import Utterance
from distill.evaluation.metrics import Floats
from distill.folds import Fold
from distill.recipe import OWN, AcousticTeacher, LinguisticTeacher, OwnTeacher, ProsodicTeacher, Recipe
from distill.speech.audio_data import Windows, collate_windows
from distill.teachers import own
from distill.teachers.acoustic import build_acoustic
from distill.teachers.egemaps import extract
from distill.teachers.linguistic import TextClassifier, Transcripts, load_text_encoder
from distill.teachers.prosodic import Descriptors, ProsodyResNet, collate_descriptors
from distill.training import processes
from distill.training.loop import Collate, Task, fit, predict
from distill.training.outputs import TeacherOutputs
from edge_runtime import __version__
from edge_runtime.console import advance, console, progress_bar
from edge_runtime.files import digest_of, locked, sha256, write_text
from edge_runtime.windows import WindowPolicy

TEACHER_SOURCES = (
    *("distill.distillation", "distill.encoders", "distill.heads", "distill.pruning", "distill.speech"),
    *("distill.student", "distill.teachers", "distill.training", "edge_runtime.sources.audio"),
)
"""The code that the outputs of teachers depend on: they are computed again after a change to it."""
_WEIGHTS = (".safetensors", ".bin", ".json")


def supervise(
    name: str,
    recipe: Recipe,
    labels: tuple[str, ...],
    corpora: Sequence[str],
    fold: Fold,
    fold_index: int,
    cache: Path,
) -> TeacherOutputs:
    """Return the outputs of one teacher, from the cache where the same teacher met the same fold before.

    Args:
        name: one of `distill.recipe.TEACHERS`.
        recipe: the recipe; only the teacher's own table, the folds, the seed and the labels matter.
        labels: class names.
        corpora: fingerprints of the corpora that the fold is made of.
        fold: who is trained on, validated on, tested on.
        fold_index: number of the fold.
        cache: directory of the cache.
    """
    key = _key(name, recipe, corpora, fold_index)
    folder = cache / "teachers" / key
    rows = kept(folder, name, lambda: _train(name, recipe, labels, fold, cache, folder))
    return TeacherOutputs(Rows(folder / "logits.npy"), Rows(folder / "embedding.npy"), rows, key)


def kept(folder: Path, title: str, train: Callable[[], None]) -> list[dict[str, float]]:
    """Return the history of a teacher that was kept, or that ``train`` trains and keeps now.

    Args:
        folder: of the teacher, in the cache.
        title: how it is named.
        train: writes all that is kept of it into ``folder``, ``history.json`` last.
    """
    history = folder / "history.json"
    with ExitStack() as stack:
        # Two runs that want the same teacher at once: one trains it, the other waits for it. Of the processes of one
        # run only the first asks for the lock, or they would wait for each other.
        if processes.rank() == 0:
            stack.enter_context(locked(folder / "lock"))
        if processes.by_first(history.is_file):
            console.print(f"  {title} teacher: taken from the cache ({folder.name})")
        else:
            train()
    rows: list[dict[str, float]] = json.loads(history.read_text(encoding="utf-8"))
    return rows


def _key(name: str, recipe: Recipe, corpora: Sequence[str], fold_index: int) -> str:
    table = getattr(recipe, name)
    # What the student makes of the outputs does not change them.
    facts = table.model_dump(exclude={"signal"})
    if isinstance(table, OwnTeacher):
        facts["identity"] = own.identity(table)
    return teacher_key(name, facts, recipe, corpora, fold_index)


def teacher_key(name: str, teacher: dict[str, Any], recipe: Recipe, corpora: Sequence[str], fold_index: int) -> str:
    """Return the name under which a teacher's outputs are kept: another one with all that changes them.

    Args:
        name: of the teacher.
        teacher: how it is made.
        recipe: folds and seed.
        corpora: fingerprints of what the fold is made of.
        fold_index: number of the fold.
    """
    facts = {
        "teacher": teacher,
        "corpora": list(corpora),
        "folds": recipe.folds.model_dump(),
        "fold": fold_index,
        "seed": recipe.seed,
        "versions": [__version__, torch.__version__, transformers.__version__, version("opensmile")],
        "code": source_digest(*TEACHER_SOURCES),
    }
    local = Path(teacher.get("encoder") or "")
    if local.is_dir() and local.parts:
        # The same path may hold other weights tomorrow.
        facts["weights"] = [sha256(path) for path in sorted(local.iterdir()) if path.suffix in _WEIGHTS]
    return f"{name}-{digest_of(facts, 16)}"


def _train(name: str, recipe: Recipe, labels: tuple[str, ...], fold: Fold, cache: Path, folder: Path) -> None:
    set_seed(recipe.seed)
    if name == OWN:
        assert recipe.own is not None
        teacher = recipe.own

        def learn_and_keep() -> None:
            history, said = own.learn_and_say(teacher, labels, fold, recipe.seed)
            _keep(folder, said, history, len(fold.everything))

        processes.by_first(learn_and_keep)
        return
    parts: list[Dataset[Any]]
    model: nn.Module
    collate: Collate
    if name == "linguistic":
        assert recipe.linguistic is not None
        model, collate, parts = _linguistic(recipe.linguistic, labels, fold)
        schedule = recipe.linguistic.training
    elif name == "acoustic":
        assert recipe.acoustic is not None
        model, collate, parts = _acoustic(recipe.acoustic, labels, fold, recipe.seed)
        schedule = recipe.acoustic.training
    else:
        assert recipe.prosodic is not None
        model, collate, parts = _prosodic(recipe.prosodic, labels, fold, cache)
        schedule = recipe.prosodic.training
    task = Task(f"{name} teacher", collate, schedule, recipe.seed, folder / "checkpoints", shared=False)
    train, validation, everything = parts
    history = fit(model, train, validation, task)

    def keep() -> None:
        _keep(folder, predict(model, everything, collate, schedule.batch_size), history, len(fold.everything))
        shutil.rmtree(task.folder, ignore_errors=True)

    processes.by_first(keep)


def _keep(folder: Path, said: Iterable[Mapping[str, Floats]], history: list[dict[str, float]], utterances: int) -> None:
    write_rows({key: folder / f"{key}.npy" for key in ("logits", "embedding")}, said, utterances)
    # Last, since it says that the teacher is whole.
    write_text(folder / "history.json", json.dumps(history))


def _linguistic(
    recipe: LinguisticTeacher, labels: Sequence[str], fold: Fold
) -> tuple[nn.Module, Collate, list[Dataset[Any]]]:
    encoder, collate = load_text_encoder(recipe)
    parts = (fold.train, fold.validation, fold.everything)
    return TextClassifier(encoder, len(labels)), collate, [Transcripts(part, labels) for part in parts]


def _prosodic(
    recipe: ProsodicTeacher, labels: Sequence[str], fold: Fold, cache: Path
) -> tuple[nn.Module, Collate, list[Dataset[Any]]]:
    def dataset(part: Sequence[Utterance]) -> Descriptors:
        return Descriptors([matrices[item.path] for item in part], [labels.index(item.emotion) for item in part])

    everything = fold.everything

    def compute() -> list[Path]:
        with progress_bar("openSMILE descriptors", total=len(everything)) as bar:
            return extract([item.path for item in everything], cache, progress=lambda: advance(bar))

    paths = processes.by_first(compute)
    matrices = dict(zip((item.path for item in everything), paths, strict=True))
    train = dataset(fold.train)
    model = ProsodyResNet(recipe, len(labels), *train.standardisation())
    return model, collate_descriptors, [train, dataset(fold.validation), dataset(everything)]


def _acoustic(
    recipe: AcousticTeacher, labels: tuple[str, ...], fold: Fold, seed: int
) -> tuple[nn.Module, Collate, list[Dataset[Any]]]:
    # Not the device's window: a teacher may hear more than its student.
    seconds = recipe.seconds
    policy = WindowPolicy(
        seconds=seconds,
        hop_seconds=min(1.0, seconds),
        minimum_seconds=min(1.0, seconds),
        segment_seconds=max(10.0, seconds),
    )
    train = Windows(fold.train, labels, policy, seed=seed)
    parts = [Windows(part, labels, policy) for part in (fold.validation, fold.everything)]
    return build_acoustic(recipe, len(labels)), collate_windows, [train, *parts]

"""Baselines on the folds of a recipe: logistic regression on frozen features, and a small network.

``probe``: mean and deviation over time of layers of a frozen speech encoder. ``opensmile-logreg``: the 88 functionals
of eGeMAPSv02. Both standardise the features and use ``C = 0.01`` with balanced classes; nothing is tuned, so they are
fitted on the training and validation parts of each fold. ``light-sernet``: a convolutional network on MFCC
(`light_sernet/`), fitted on the training part; its epoch is chosen on the validation part. `python -m
benchmarks.lab.baselines` writes a directory like `edgeemo distill --fold all` (`distill/runs/cross_validation.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.lab.light_sernet.settings import TrainingSettings
from benchmarks.lab.options import say
from distill.checks.identity import identified
from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpus import Corpus, Utterance
from distill.distill_command import FoldNumber
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats
from distill.evaluation.predictions import PREDICTIONS, Predictions
from distill.folds import Fold, FoldSpec, make_fold
from distill.load_recipe import load_recipe
from distill.runs.all_folds import fold_table
from distill.runs.cross_validation import (
    CROSS_VALIDATION,
    CrossValidation,
    fold_folder,
    pool,
    read_cross_validation,
    refuse_other_content,
    write_cross_validation,
)
from distill.runs.run_directory import CorpusRecord, Provenance
from distill.teachers.egemaps import extract_functionals
from edge_runtime.console import advance, console, progress_bar
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.extras import needs_extra
from edge_runtime.files import cache_directory
from edge_runtime.parameters import count_option, path_option

C = 0.01
"""Inverse strength of the L2 penalty of both logistic regressions."""
WHISPER = "openai/whisper-base"
PACKAGES = ("torch", "transformers", "opensmile", "scikit-learn", "numpy")

BaselineName = Literal["probe", "opensmile-logreg", "light-sernet"]
BASELINES: tuple[BaselineName, ...] = ("probe", "opensmile-logreg", "light-sernet")


@dataclass(frozen=True)
class Baseline:
    """One baseline.

    Attributes:
        name: of the baseline.
        encoder: Hugging Face name or path of the probe's encoder.
        layers: encoder blocks, from 1, whose statistics the probe concatenates.
        training: of Light-SERNet.
    """

    name: BaselineName
    encoder: str = WHISPER
    layers: tuple[int, ...] = (3,)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the baseline, for the record."""
        if self.name == "opensmile-logreg":
            return {"features": "eGeMAPSv02 functionals", "C": C}
        if self.name == "light-sernet":
            return {"features": "MFCC of the middle three seconds", **self.training.facts()}
        # The name only: a path is valid on its machine only.
        encoder = Path(self.encoder).name if Path(self.encoder).is_dir() else self.encoder
        return {"features": "mean and deviation over time", "encoder": encoder, "layers": list(self.layers), "C": C}

    @property
    def seed(self) -> int | None:
        """Seed of Light-SERNet; None for the others, which are deterministic."""
        return self.training.seed if self.name == "light-sernet" else None

    def features(self, utterances: Sequence[Utterance], cache: Path, *, jobs: int | None = None) -> Floats:
        """Return the features of utterances: ``[N, F]``, of Light-SERNet ``[N, COEFFICIENTS, FRAMES]``.

        Raises:
            EdgeemoError: a file cannot be read, or the encoder cannot be loaded.
            WrongUseError: the encoder has no such layer.
        """
        paths = [item.path for item in utterances]
        with progress_bar(f"{self.name} features", total=len(paths)) as bar:

            def tick() -> None:
                advance(bar)

            if self.name == "opensmile-logreg":
                files = extract_functionals(paths, cache, workers=jobs, progress=tick)
            elif self.name == "light-sernet":
                from benchmarks.lab.light_sernet.training import extract_coefficients  # torch: seconds to import

                files = extract_coefficients(paths, cache, workers=jobs, progress=tick)
            else:
                from benchmarks.lab.encoder_statistics import extract_statistics  # torch: seconds to import

                files = extract_statistics(paths, self.encoder, cache, workers=jobs, progress=tick)
        found = np.stack([np.load(file) for file in files])
        if self.name != "probe":
            return found
        if not 1 <= min(self.layers) <= max(self.layers) <= found.shape[1]:
            raise WrongUseError(f"layers: '{self.encoder}' has the layers 1 to {found.shape[1]}")
        return np.asarray(found[:, [layer - 1 for layer in self.layers]].reshape(len(found), -1))


def run_baseline(
    baseline: Baseline,
    corpus: Corpus,
    spec: FoldSpec,
    folds: Sequence[int],
    out: Path,
    cache: Path,
    *,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> CrossValidation:
    """Train and test a baseline on some folds; a finished one is not run again.

    Args:
        baseline: to test.
        corpus: labelled speech.
        spec: of the folds.
        folds: to test.
        out: directory for ``fold-K/predictions.csv`` and ``cross-validation.json``.
        cache: directory of the features.
        jobs: processes for the features; None for the number of cores.
        say: receives lines of progress.

    Raises:
        WrongUseError: ``out`` contains something else.
        EdgeemoError: the corpus does not fit the folds, or the features cannot be computed.
    """
    began = time.monotonic()
    refuse_other_content(out)
    corpus = identified(corpus, cache)
    facts = (baseline.name, baseline.settings, baseline.seed, spec, list(folds), corpus.fingerprint())
    if (out / CROSS_VALIDATION).is_file():
        before = read_cross_validation(out)
        known = (before.system, before.settings, before.seed, before.spec, before.folds, before.corpus.fingerprint)
        if facts != known:
            raise WrongUseError(f"{out}: contains folds of another run; give another --out or remove it")
        say(f"{out}: finished already")
        return before
    parts = {number: make_fold(corpus, spec, number) for number in folds}
    features = baseline.features(corpus.utterances, cache, jobs=jobs)
    rows = {item.name: row for row, item in enumerate(corpus.utterances)}
    if baseline.name == "light-sernet":
        validated, parameters = _train_networks(baseline, corpus, spec, parts, features, rows, out, say)
    else:
        validated, parameters = dict.fromkeys(folds), None
        for number, fold in parts.items():
            decided = Predictions.of(_fit_and_test(features, rows, fold, corpus.labels))
            decided.write(fold_folder(out, number) / PREDICTIONS)
    tested = {number: Predictions.read(fold_folder(out, number) / PREDICTIONS) for number in folds}
    for number, predictions in tested.items():
        say(f"fold {number}: UA {predictions.accuracy.ua:.3f}")
    provenance = Provenance.of_this_process(PACKAGES)
    found = CrossValidation(
        system=baseline.name,
        settings=baseline.settings,
        seed=baseline.seed,
        spec=spec,
        folds=list(folds),
        labels=corpus.labels,
        corpus=CorpusRecord.of(corpus),
        note=corpus.facts.note,
        parameters=parameters,
        seconds=round(time.monotonic() - began, 1),
        commits=[provenance.commit],
        provenance=provenance,
        systems={baseline.name: pool(tested, validated)},
    )
    write_cross_validation(out, found)
    return found


def _train_networks(
    baseline: Baseline,
    corpus: Corpus,
    spec: FoldSpec,
    parts: Mapping[int, Fold],
    features: Floats,
    rows: dict[str, int],
    out: Path,
    say: Callable[[str], None],
) -> tuple[dict[int, float | None], int]:
    """Train Light-SERNet on each fold and return its accuracies on the validation parts, and its parameters."""
    from benchmarks.lab.light_sernet.network import parameter_count  # torch: seconds to import
    from benchmarks.lab.light_sernet.training import run_fold

    validated: dict[int, float | None] = {}
    for number, fold in parts.items():
        task = {
            "settings": baseline.settings,
            "seed": baseline.seed,
            "folds": spec.model_dump(mode="json"),
            "fold": number,
            "corpus": corpus.fingerprint(),
        }
        record = run_fold(
            fold_folder(out, number), task, features, rows, fold, corpus.labels, baseline.training, say=say
        )
        say(f"fold {number}: epoch {record.epoch} of {record.epochs}, validation UA {record.validation_ua:.3f}")
        validated[number] = record.validation_ua
    return validated, parameter_count(len(corpus.labels))


def _fit_and_test(features: Floats, rows: dict[str, int], fold: Fold, labels: tuple[str, ...]) -> Evaluation:
    fitted = fold.train + fold.validation
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=2000))
    model.fit(features[[rows[item.name] for item in fitted]], [labels.index(item.emotion) for item in fitted])
    probabilities = model.predict_proba(features[[rows[item.name] for item in fold.test]])
    return Evaluation(fold.test, labels, probabilities)


@click.command("baselines", cls=Tool)
@click.argument("system", type=click.Choice(BASELINES))
@click.argument("recipe")
@click.option("--corpus", required=True, type=CORPUS, help="Labelled speech.")
@path_option("--out", "Where predictions and figures go.", required=True)
@click.option(
    "--fold", default="all", show_default=True, type=FoldNumber(), metavar="NUMBER|all", help="Which fold to test on."
)
@click.option(
    "--encoder", default=WHISPER, show_default=True, metavar="NAME_OR_PATH", help="Hub name or path, for the probe."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key, as folds.count=6.")
@path_option("--cache", "Features.  [default: user's cache]")
@count_option("--jobs", "Processes.  [default: cores]")
@needs_extra("distill")
def main(
    system: BaselineName,
    recipe: str,
    corpus: NamedPath,
    out: Path,
    fold: int | str,
    encoder: str,
    settings: tuple[str, ...],
    cache: Path | None,
    jobs: int | None,
) -> None:
    """Test the baseline SYSTEM on the folds of RECIPE; nothing else of the recipe is used.

    \b
    Example:
      python -m benchmarks.lab.baselines probe edge --corpus RAVDESS --out probe
    """
    chosen = load_recipe(recipe, settings=settings)
    cache = cache or cache_directory()
    speech = read_corpus(corpus.path, name=corpus.name).labelled(chosen.labels)
    spec = chosen.folds
    folds = range(spec.fold_count(speech)) if isinstance(fold, str) else [fold]
    found = run_baseline(Baseline(system, encoder), speech, spec, folds, out, cache, jobs=jobs, say=say)
    console.print(fold_table(found))


if __name__ == "__main__":
    main()

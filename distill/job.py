"""A run before its training: the parts of its fold, all checks of its speech, and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from distill.checks.corpus_checks import usable_corpus
from distill.checks.finding import Finding
from distill.checks.identity import identified
from distill.checks.leakage import Leak, count_of, without_leaks
from distill.corpora.auxiliary import (
    names_for,
    other_emotions,
    refuse_unused_or_missing,
    trained_on_too,
    with_auxiliary,
    with_unlabelled,
)
from distill.corpus import Corpus
from distill.distillation.build_student import build_student
from distill.folds import Fold, make_fold
from distill.recipe import Dimensions, Recipe
from distill.runs.run_directory import (
    CorpusRecord,
    Provenance,
    RunRecord,
    RunReport,
    read_report,
    start_or_resume,
)
from distill.speech.augmentation import Recordings
from distill.teachers.supervise import branches_of, check_teachers, plugin_packages, refuse_gaps
from distill.training.loop import share_of
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE

PACKAGES = ("torch", "transformers", "accelerate", "opensmile", "scikit-learn", "numpy")


class Job(NamedTuple):
    """What one run is to do, and with which speech: the arguments of `distill.distil.distil`, and what is found.

    Attributes:
        findings: of all checks of the speech.
        leaks: copies of tested recordings, which are left out.
        others: utterances of emotions that are no class.
    """

    recipe: Recipe
    corpus: Corpus
    auxiliary: tuple[Corpus, ...]
    unlabelled: tuple[Corpus, ...]
    fold_index: int
    out: Path
    cache: Path
    skip_broken: bool
    accept: tuple[str, ...]
    exclude_leaks: bool
    findings: tuple[Finding, ...] = ()
    leaks: tuple[Leak, ...] = ()
    others: tuple[Corpus, ...] = ()

    @property
    def whole_fold(self) -> Fold:
        """In all languages."""
        fold = with_unlabelled(with_auxiliary(self._tested_fold, self.auxiliary), self.unlabelled)
        more = tuple(item for each in self.others_trained_on for item in each.utterances)
        return replace(fold, unlabelled=fold.unlabelled + more).without({each.name for each in self.leaks})

    @property
    def others_trained_on(self) -> list[Corpus]:
        """Speech of training speakers in emotions that are no class; it differs from fold to fold."""
        fold, how = self._tested_fold, self.recipe.student
        trained = fold.trained_in_the_end(how.refit, how.train_on_all)
        names = {item.name for item in trained}
        apart = [item for item in fold.everything if item.name not in names]
        return trained_on_too(self.others, trained, apart, self.recipe.folds.columns)

    @property
    def _tested_fold(self) -> Fold:
        """Of the corpus that is cut into folds alone."""
        return make_fold(self.corpus, self.recipe.folds, self.fold_index)

    @property
    def fold(self) -> Fold:
        """In the student's languages."""
        return self.whole_fold.in_languages(self.recipe.languages)

    @property
    def unlabelled_left(self) -> list[Corpus]:
        """Unlabelled speech without copies of tested recordings."""
        names = {each.name for each in self.leaks}
        left = (
            each.without([item.name for item in each.utterances if f"{each.facts.name}/{item.name}" in names])
            for each in self.unlabelled
        )
        return [each for each in left if each.utterances]


def start(job: Job) -> tuple[Job, RunReport | None]:
    """Make the run directory when all checks have passed.

    Returns:
        The job with corpora whose files can all be used, and the report if it is finished already.

    Raises:
        WrongUseError: the recipe and its speech do not go together, or the run directory holds something else.
        EdgeemoError: a check found a problem that is not accepted.
    """
    recipe = job.recipe
    refuse_unused_or_missing(recipe, given=bool(job.unlabelled))
    if recipe.student.training is not None:
        share_of(recipe.student.training, "student.training")
    Recordings.of(recipe.student.augmentation)  # reports what is wrong with its directories
    corpus = job.corpus.labelled(recipe.labels)
    make_fold(corpus, recipe.folds, job.fold_index)  # reports what is wrong with it before decoding
    student = build_student(recipe.student, corpus.labels, branches_of(recipe), recipe.window.chunk)
    shortest = max(student.encoder.minimum_samples, check_teachers(recipe, corpus.labels)) / SAMPLE_RATE
    names = [names_for(corpus, other, recipe.labels) for other in job.auxiliary]
    usable: list[Corpus] = []
    findings: list[Finding] = []
    auxiliary = [other.labelled(chosen) for other, chosen in zip(job.auxiliary, names, strict=True)]
    distillation = recipe.encoder_distillation
    with_others = distillation is not None and distillation.speech == "all" and distillation.other_emotions
    others = other_emotions(job.corpus, recipe.labels) if with_others else []
    for each in (corpus, *auxiliary, *job.unlabelled, *others):
        checked, found = usable_corpus(
            each,
            job.cache,
            shortest=shortest,
            skip_broken=job.skip_broken,
            accept=job.accept,
            tested=not usable,
            labelled=len(usable) <= len(auxiliary),
            hold_out=job.recipe.folds.hold_out,
        )
        usable.append(checked)
        for finding in found:
            named = finding.model_copy(update={"message": f"{each.facts.name}: {finding.message}"})
            level = "accepted problem" if finding.level == "problem" else finding.level
            console.print(f"{level}: {named.message}", style="yellow")
            findings.append(named)
        for problem in usable[-1].skipped[len(each.skipped) :]:
            console.print(f"left out {problem}", style="yellow")
    first, *more = (identified(each, job.cache) for each in usable)
    last = len(auxiliary) + len(job.unlabelled)
    job = job._replace(
        corpus=first,
        auxiliary=tuple(more[: len(auxiliary)]),
        unlabelled=tuple(more[len(auxiliary) : last]),
        others=tuple(more[last:]),
        findings=tuple(findings),
    )
    _, leaks = without_leaks(job.whole_fold, job.cache, exclude=job.exclude_leaks)
    job = job._replace(leaks=leaks)
    if leaks:
        console.print(left_out_note(leaks), style="yellow")
    fold = job.fold
    for note in fold.notes:
        console.print(note, style="yellow")
    refuse_gaps(recipe, fold, job.whole_fold, job.corpus.labels)
    _refuse_missing_targets(recipe.student.dimensions, fold)
    record = RunRecord(
        recipe=recipe,
        fold=job.fold_index,
        labels=job.corpus.labels,
        corpus=CorpusRecord.of(job.corpus, recipe.labels),
        auxiliary=tuple(CorpusRecord.of(other, chosen) for other, chosen in zip(job.auxiliary, names, strict=True)),
        unlabelled=tuple(map(CorpusRecord.of, job.unlabelled)),
        other_emotions=tuple(map(CorpusRecord.of, job.others_trained_on)),
        left_out_copies=tuple(sorted(each.name for each in leaks)),
        provenance=Provenance.of_this_process((*PACKAGES, *plugin_packages(recipe))),
    )
    start_or_resume(job.out, record)
    if (job.out / "report.json").is_file():
        console.print(f"  {job.out}: this run is finished already")
        return job, read_report(job.out)
    return job, None


def left_out_note(leaks: Sequence[Leak]) -> str:
    """Return in a sentence how many copies of tested recordings are left out."""
    return f"Left out: {count_of(leaks)} of tested or validated recordings."


def _refuse_missing_targets(dimensions: Dimensions | None, fold: Fold) -> None:
    """Refuse dimensions that cannot be fitted to the training part."""
    for name in dimensions.names if dimensions is not None else ():
        values = {item.dimensions[name] for item in fold.train if name in item.dimensions}
        if len(values) < 2:
            held = "no targets" if not values else "a single value"
            raise EdgeemoError(
                f"student.dimensions: the training part holds {held} of '{name}'; add the column '{name}' to the "
                "metadata, name the dimensions that the corpus has in student.dimensions.names, or leave this table out"
            )

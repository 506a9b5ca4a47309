"""`edgeemo distill`: train teachers, then the student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from distill.checks.acceptance import ACCEPTABLE, AcceptedChecks, names_of
from distill.checks.identity import identified
from distill.corpora import read_corpus, read_unlabelled
from distill.corpora.argument import CORPUS, READER, NamedPath, NamedReader, readers_of
from distill.corpora.auxiliary import refuse_unused_or_missing
from distill.corpora.pooled import pool_corpora, refuse_common_files
from distill.evaluation.intervals import ends
from distill.folds import make_fold
from distill.load_recipe import load_recipe
from distill.recipe import choices_stated
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError
from edge_runtime.extras import needs_extra
from edge_runtime.files import cache_directory
from edge_runtime.parameters import count_option, path_option

if TYPE_CHECKING:
    from distill.runs.run_directory import RunReport

ALL_FOLDS = "all"


class FoldNumber(click.ParamType):  # type: ignore[type-arg]  # not subscriptable in older click
    """The number of a fold, or ``all``."""

    name = "NUMBER|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or ``all``."""
        text = str(value)
        if not text.isdecimal() and text != ALL_FOLDS:
            self.fail(f"'{text}' is neither a fold's number nor '{ALL_FOLDS}'", param, ctx)
        return ALL_FOLDS if text == ALL_FOLDS else int(text)


@click.command("distill")
@click.argument("recipe")
@click.option(
    "--corpus",
    "corpora",
    required=True,
    multiple=True,
    type=CORPUS,
    help="Labelled speech; see: edgeemo corpus. Repeated for one student of several, such as of several languages.",
)
@click.option(
    "--auxiliary-corpus", multiple=True, type=CORPUS, help="More speech to train on, never to test on; may be repeated."
)
@click.option(
    "--reader",
    "readers",
    multiple=True,
    type=READER,
    help="Read a corpus as this one, whatever it looks like (see: edgeemo corpus); may be repeated.",
)
@click.option(
    "--unlabelled",
    multiple=True,
    type=CORPUS,
    help="Speech without emotions, to distil on: a manifest or any directory of audio; may be repeated.",
)
@path_option("--out", "Run directory; a stopped run resumes.", required=True, metavar="DIR")
@click.option(
    "--fold",
    default=0,
    show_default=True,
    type=FoldNumber(),
    metavar="NUMBER|all",
    help="Which fold to test on, or all of them.",
)
@count_option("--seed", "Instead of the recipe's seed.", least=0)
@click.option(
    "--without", multiple=True, metavar="NAME", help="Leave the recipe's teacher of this name out; may be repeated."
)
@click.option("--encoder", metavar="NAME_OR_PATH", help="The student's encoder (Hugging Face), not the recipe's.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key, as student.training.epochs=5 or teachers.prosodic.dropout=0.1; may be repeated.",
)
@path_option("--cache", "Where features and teachers' outputs are kept.  [default: user's cache]", metavar="DIR")
@count_option("--jobs", "Folds at a time, with --fold all.", default=1)
@click.option(
    "--skip-broken", is_flag=True, help="Leave out files that are unreadable, silent or too short; name them."
)
@click.option(
    "--accept",
    multiple=True,
    type=AcceptedChecks(),
    help=f"Train in spite of what these checks of edgeemo corpus call a problem: {', '.join(ACCEPTABLE)}.",
)
@click.option(
    "--exclude-leaks",
    is_flag=True,
    help="Train without copies of tested recordings, found by their sound; they are refused otherwise.",
)
@click.pass_context
@needs_extra("distill")
def distill_command(
    context: click.Context,
    recipe: str,
    corpora: tuple[NamedPath, ...],
    auxiliary_corpus: tuple[NamedPath, ...],
    readers: tuple[NamedReader, ...],
    unlabelled: tuple[NamedPath, ...],
    out: Path,
    fold: int | str,
    seed: int | None,
    without: tuple[str, ...],
    encoder: str | None,
    settings: tuple[str, ...],
    cache: Path | None,
    jobs: int,
    skip_broken: bool,
    accept: tuple[str, ...],
    exclude_leaks: bool,
) -> None:
    """Train teachers on labelled speech, then a small student of them that needs audio only.

    RECIPE is a TOML file or the name of a built-in recipe: demo, edge, emodistill-hubert-base, mtkd, mtkd-prosodic,
    mtkd-wav2vec2-base, robust, small. The result is a run directory, which `edgeemo export` turns into a bundle. A fold
    is one partition of the speakers (or corpora: folds.by) into training, validation and test. Leaving out all
    teachers trains the student by cross-entropy alone. With --fold all every fold is a run of its own in
    OUT/fold-NUMBER, and OUT/cross-validation.json has all tested utterances together.

    \b
    Examples:
      edgeemo distill demo --corpus rendered --out run
      edgeemo distill demo --corpus rendered --out half --without prosodic
      edgeemo distill demo --corpus rendered --out folds --fold all --jobs 2
      edgeemo distill mtkd --corpus en=RAVDESS --corpus de=EMODB --out run
      edgeemo distill mtkd --corpus en=MIXED --corpus de=MIXED --reader en=ravdess --reader de=emodb --out run
      edgeemo distill small --corpus RAVDESS --unlabelled more=PATH --out run
    """
    if seed is not None:
        settings = (*settings, f"seed={seed}")
    if jobs > 1 and isinstance(fold, int):
        raise WrongUseError("--jobs: is for several folds; give --fold all too")
    chosen = load_recipe(recipe, settings=settings, without=without, encoder=encoder)
    refuse_unused_or_missing(chosen, given=bool(unlabelled))
    cache = cache or cache_directory()
    chosen_readers = readers_of((*corpora, *auxiliary_corpus), readers)
    parts, others = (
        [
            read_corpus(each.path, skip_broken=skip_broken, name=each.name, reader=chosen_readers.get(each))
            for each in group
        ]
        for group in (corpora, auxiliary_corpus)
    )
    nameless = [read_unlabelled(each.path, skip_broken=skip_broken, name=each.name) for each in unlabelled]
    parts, others, nameless = ([identified(each, cache) for each in group] for group in (parts, others, nameless))
    refuse_common_files(parts, others, nameless)
    speech = pool_corpora(parts)
    for problem in (problem for each in (speech, *others, *nameless) for problem in each.skipped):
        console.print(f"left out {problem}", style="yellow")

    if isinstance(fold, str):
        from distill.runs.all_folds import run_all_folds  # scikit-learn: help must work without

        run_all_folds(context, chosen, speech.labelled(chosen.labels), out, jobs, nameless)
        return

    # Report what is wrong with the fold or the place before the seconds that torch takes to load.
    make_fold(speech.labelled(chosen.labels), chosen.folds, fold)
    from distill.runs.run_directory import refuse_no_run  # scikit-learn: help must work without

    refuse_no_run(out)
    from distill.distil import distil  # torch and transformers: seconds to import, so after the cheap checks

    report = distil(
        chosen,
        speech,
        fold,
        out,
        cache,
        auxiliary=others,
        unlabelled=nameless,
        skip_broken=skip_broken,
        accept=names_of(accept),
        exclude_leaks=exclude_leaks,
    )
    _show(report, f"fold {fold}, held-out {chosen.folds.held_out}")
    console.print(f"{out}: {report.parameters:,} parameters, {report.seconds:.0f} s")
    console.print(f"Next: edgeemo export {out} --int8 --out BUNDLE")


def _show(report: RunReport, title: str) -> None:
    from distill.runs.all_folds import warn_of_chance  # scikit-learn: help must work without

    table = Table("system", "validation UA", "test UA", "95 % interval", "test WA", title=title)
    for name, system in [*report.teachers.items(), ("student", report.student)]:
        test = system.test
        table.add_row(
            name,
            f"{system.validation.ua:.3f}",
            f"{test.ua:.3f}",
            ends(test.ua_low, test.ua_high, test.speakers),
            f"{test.wa:.3f}",
        )
    console.print(table)
    if report.student.dimensions:
        table = Table("system", "dimension", "validation CCC", "test CCC", "95 % interval")
        for name, system in [*report.teachers.items(), ("student", report.student)]:
            for dimension, found in system.dimensions.items():
                validated = system.validation_dimensions.get(dimension)
                before = "" if validated is None else f"{validated.ccc:.3f}"
                table.add_row(name, dimension, before, f"{found.ccc:.3f}", found.interval_text)
        console.print(table)
    warn_of_chance(report.student.test)
    if report.note:
        console.print(report.note)
    console.print(f"choices made with test figures visible: {choices_stated(report.choices_with_test_figures)}")

"""`edgeemo distill`: train teachers, then the student."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, NamedPath
from distill.recipe import TEACHERS, load_recipe
from edge_runtime.console import console
from edge_runtime.extras import needs_extra
from edge_runtime.files import cache_directory


@click.command("distill")
@click.argument("recipe")
@click.option("--corpus", required=True, type=CORPUS, help="Labelled speech; see: edgeemo corpus.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run directory; a stopped run resumes.")
@click.option("--fold", default=0, show_default=True, type=click.IntRange(0), help="Which fold to test on.")
@click.option("--seed", type=click.IntRange(0), help="Instead of the recipe's seed.")
@click.option("--without", multiple=True, type=click.Choice(TEACHERS), help="Leave this teacher out; may be repeated.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key, as student.training.epochs=5."
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Descriptors and teachers' outputs.  [default: user's cache]"
)
@click.option("--skip-broken", is_flag=True, help="Leave out files that cannot be read, and name them.")
@needs_extra("distill")
def distill_command(
    recipe: str,
    corpus: NamedPath,
    out: Path,
    fold: int,
    seed: int | None,
    without: tuple[str, ...],
    settings: tuple[str, ...],
    cache: Path | None,
    skip_broken: bool,
) -> None:
    r"""Distil teachers into an audio-only student by RECIPE (a TOML file or the name of a built-in recipe).

    Leaving out both teachers trains the student by cross-entropy alone.

    \b
    Examples:
      edgeemo distill demo --corpus rendered --out run
      edgeemo distill demo --corpus rendered --out plain --without linguistic --without prosodic
    """
    if seed is not None:
        settings = (*settings, f"seed={seed}")
    chosen = load_recipe(recipe, settings=settings, without=without)
    speech = read_corpus(corpus.path, skip_broken=skip_broken, name=corpus.name)
    for problem in speech.skipped:
        console.print(f"left out {problem}", style="yellow")

    from distill.distil import distil  # torch and transformers: seconds to import, so after the cheap checks

    report = distil(chosen, speech, fold, out, cache or cache_directory(), skip_broken=skip_broken)
    table = Table(
        "system", "validation UA", "test UA", "95 % interval", "test WA", title=f"fold {fold}, held-out speakers"
    )
    for name, system in [*report.teachers.items(), ("student", report.student)]:
        test = system.test
        table.add_row(
            name,
            f"{system.validation.ua:.3f}",
            f"{test.ua:.3f}",
            f"{test.ua_low:.3f} - {test.ua_high:.3f}",
            f"{test.wa:.3f}",
        )
    console.print(table)
    if report.note:
        console.print(report.note)
    console.print(f"{out}: {report.parameters:,} parameters, {report.seconds:.0f} s")
    console.print(f"Next: edgeemo export {out} --int8 --out BUNDLE")

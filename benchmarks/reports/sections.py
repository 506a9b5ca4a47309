"""What a sceptic asks of a bundle's accuracy, as sections of a report: conditions, fairness, abstention, the stream.

``python -m benchmarks.reports.sections BUNDLE --corpus PATH --out FOLDER`` writes them alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import click
import jinja2
from pydantic import BaseModel, ConfigDict

from benchmarks.accuracy.conditions import ConditionsSection, measure_conditions
from benchmarks.accuracy.fairness import FairnessSection, measure_fairness, read_speakers, with_facts
from benchmarks.accuracy.graphs import TestPart, evaluate_bundle, held_out, on_this_processor
from benchmarks.accuracy.risk_coverage import RiskSection, measure_risk
from benchmarks.accuracy.streaming import NO_SPEECH_SECONDS, StreamingSection, measure_streaming
from benchmarks.reports.balanced_sample import balanced_sample
from benchmarks.reports.condition_plots import conditions_plots, fairness_plots, risk_plots, streaming_plots
from benchmarks.reports.svg_theme import on_any_paper
from benchmarks.results import Results
from distill.corpora import read_corpus
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Interval
from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.console import console
from edge_runtime.errors import Tool
from edge_runtime.files import write_text
from edge_runtime.parameters import Number
from edge_runtime.provenance import command_line, commit, now

PARTS = ("conditions", "fairness", "risk", "streaming")
COLUMNS = ("sex", "language")
"""Columns of a corpus that fairness is measured by, where they are there."""

_PLOTS: Mapping[str, Callable[[Any], list[str]]] = {
    "conditions": conditions_plots,
    "fairness": fairness_plots,
    "risk": risk_plots,
    "streaming": streaming_plots,
}


class Sections(BaseModel):
    """The sections; those that were not measured are None.

    Attributes:
        conditions: accuracy by acoustic condition.
        fairness: accuracy by speaker and group.
        risk: what abstention gives.
        streaming: accuracy of the stream beside that of clips.
    """

    model_config = ConfigDict(extra="forbid")

    conditions: ConditionsSection | None = None
    fairness: FairnessSection | None = None
    risk: RiskSection | None = None
    streaming: StreamingSection | None = None


def measure_sections(
    bundle: Bundle,
    part: TestPart,
    others: Sequence[Utterance],
    evaluations: Mapping[Precision, Evaluation],
    *,
    most: int | None = None,
    no_speech_seconds: float = NO_SPEECH_SECONDS,
    facts: Mapping[str, Mapping[str, str]] | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Sections:
    """Measure all sections.

    Args:
        bundle: a verified bundle.
        part: what it may be tested on.
        others: all utterances of the corpus: babble is made of those of other speakers than the tested one.
        evaluations: what each graph decides on the test part, as `benchmarks.accuracy.graphs.evaluate_bundle` gives it.
        most: utterances that are heard under each condition and in the stream; all if not given, neither with 0.
        no_speech_seconds: of sounds that are no speech, in the stream.
        facts: further columns of speakers, as `benchmarks.accuracy.fairness.read_speakers` gives them; fairness is
            measured by them too.
        seed: of all draws.
        say: told what is being done.

    Raises:
        EdgeemoError: a graph or a recording cannot be used.
        MissingPartError: the speech detector cannot be loaded.
    """
    known = Sections(
        fairness=_fairness(evaluations, facts or {}), risk=measure_risk(evaluations, bundle.manifest.threshold)
    )
    if most == 0:
        return known
    chosen = balanced_sample(part.utterances, most, seed)
    say(f"conditions: {len(chosen)} utterances under each")
    conditions = measure_conditions(bundle, chosen, others, tuple(evaluations), seed=seed)
    say(f"stream: {len(chosen)} utterances and {no_speech_seconds / 60:g} minutes without speech, for each graph")
    streaming = measure_streaming(bundle, chosen, evaluations, no_speech_seconds=no_speech_seconds, seed=seed)
    return known.model_copy(update={"conditions": conditions, "streaming": streaming})


def _fairness(evaluations: Mapping[Precision, Evaluation], facts: Mapping[str, Mapping[str, str]]) -> FairnessSection:
    more = dict.fromkeys(name for columns in facts.values() for name in columns)
    known = {precision: with_facts(each, facts) for precision, each in evaluations.items()}
    return measure_fairness(known, tuple(dict.fromkeys((*COLUMNS, *more))))


def render_sections(sections: Sections | Results, *, html: bool) -> dict[str, str]:
    """Return the sections as pieces of a page or of a Markdown document, by name, in the order of `PARTS`.

    Args:
        sections: what was measured; the rest has no piece.
        html: for a page, with plots; else Markdown, without.
    """
    environment = _environment(html=html)
    pieces = {}
    for name in PARTS:
        section = getattr(sections, name)
        if section is not None:
            template = environment.get_template(f"{name}.{'html' if html else 'md'}.j2")
            plots = [on_any_paper(each) for each in _PLOTS[name](section)] if html else []
            pieces[name] = template.render(section=section, plots=plots)
    return pieces


def _environment(*, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(resources.files("benchmarks").joinpath("templates", "parts"))),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"figure": _figure, "ends": _ends, "percent": _percent, "points": _points, "cell": _cell}
    return environment


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %"


def _points(value: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{value * 100:+.1f}"


def _ends(value: Interval | None, digits: int = 3) -> str:
    """Return the ends of an interval, or of a figure that has one."""
    return "-" if value is None else f"{value.low:.{digits}f} to {value.high:.{digits}f}"


def _cell(text: str) -> str:
    """Return a text that may stand in a cell of a Markdown table: names come from a corpus."""
    return " ".join(text.replace("|", "\\|").split())


@click.command("sections", cls=Tool)
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--corpus", required=True, type=click.Path(path_type=Path, exists=True), help="What it is tested on.")
@click.option(
    "--out", default=Path("sections"), show_default=True, type=click.Path(path_type=Path), help="Where they go."
)
@click.option(
    "--most",
    type=click.IntRange(1),
    metavar="N",
    help="Utterances under each condition and in the stream.  [default: all]",
)
@click.option(
    "--minutes",
    default=NO_SPEECH_SECONDS / 60,
    show_default=True,
    type=Number(0, 600),
    metavar="MINUTES",
    help="Of sounds that are no speech.",
)
@click.option(
    "--speakers",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV with the column speaker and further ones, such as sex, that the corpus does not tell.",
)
@click.option("--seed", default=0, show_default=True, metavar="N", help="Of what is drawn by chance.")
def main(
    bundle: Path, corpus: Path, out: Path, most: int | None, minutes: float, speakers: Path | None, seed: int
) -> None:
    """Measure BUNDLE under conditions, by speaker, by coverage and in a stream; write JSON, Markdown and a page.

    The stream ends with so many --minutes of sounds that are no speech.

    \b
    Example:
      python -m benchmarks.reports.sections bundle --corpus RAVDESS --out sections
    """
    began = time.monotonic()
    loaded, speech = load_bundle(bundle), read_corpus(corpus, skip_broken=True)
    part = held_out(loaded, speech)
    out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is told before the measuring
    sections = measure_sections(
        loaded,
        part,
        speech.utterances,
        evaluate_bundle(loaded, part, on_this_processor(loaded)),
        most=most,
        no_speech_seconds=minutes * 60,
        facts=read_speakers(speakers) if speakers else None,
        seed=seed,
        say=lambda text: console.print(f"  {text}"),
    )
    content = {
        "command": command_line(),
        "date": now(),
        "commit": commit(),
        "bundle": loaded.hash,
        "corpus": speech.facts.name,
        "folds": part.folds,
        "seconds": round(time.monotonic() - began, 1),
        **sections.model_dump(exclude_none=True),
    }
    write_text(out / "sections.json", json.dumps(content, indent=2) + "\n")
    write_text(out / "sections.md", "\n".join(render_sections(sections, html=False).values()))
    page = "\n".join(render_sections(sections, html=True).values())
    write_text(out / "sections.html", f'<!doctype html>\n<html lang="en"><meta charset="utf-8">\n{page}</html>\n')
    console.print(f"Written: {out / 'sections.json'}, sections.md, sections.html")


if __name__ == "__main__":
    main()

"""Sections of a report: what was measured is what is shown, and a corpus' names are text, never markup."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bench.accuracy.conditions import CLEAN, CONDITIONS, ConditionsSection, score_conditions
from benchmarks.bench.accuracy.dimensions import measure_dimensions
from benchmarks.bench.accuracy.fairness import measure_fairness
from benchmarks.bench.accuracy.risk_coverage import measure_risk
from benchmarks.bench.accuracy.sections import Sections
from benchmarks.bench.accuracy.streaming import StreamingSection, score_stream
from benchmarks.bench.report.pages import PARTS, render_sections
from distill.evaluation.concordance import DimensionScores
from tests.benchmarks.test_streaming import ITEMS, SPOKEN, STRETCHES, FinalEvent, at, event
from tests.decisions import LABELS, evaluation, spoken

NASTY = "<b>s|0</b>"


@pytest.fixture(scope="module")
def sections():
    names = (NASTY, "s1", "s2", "s3")
    sex = {NASTY: "male", "s1": "female", "s2": "male", "s3": "female"}
    items = spoken([(name, label) for name in names for label in LABELS], sex=sex)
    clean = evaluation(items, [item.emotion for item in items], 0.9)
    noisy = evaluation(items, [LABELS[0]] * len(items), 0.4)
    clips = evaluation(ITEMS, ["angry", "happy", "angry", "happy"])
    streamed = {"fp32": score_stream(STRETCHES, [FinalEvent(event(2.3, 4.7), at(5.2))], clips)}
    scored = {"fp32": score_conditions({CLEAN: clean} | {each.name: noisy for each in CONDITIONS[8:14]}, 0.5)}
    targets = np.tile([0.1, 0.5, 0.9], 4)[:, None]
    predicted = DimensionScores(("arousal",), targets * 0.5 + 0.25, targets, clean.speakers)
    counts = {"seed": 0, "utterances": len(SPOKEN), "speakers": 2, "hours": 0.01, "session": False}
    return Sections(
        conditions=ConditionsSection(seed=0, utterances=12, speakers=4, left_out=["x: <i>why</i>"], graphs=scored),
        fairness=measure_fairness({"fp32": clean}),
        risk=measure_risk({"fp32": noisy}, 0.5),
        dimensions=measure_dimensions({"fp32": replace(clean, dimensions=predicted)}),
        streaming=StreamingSection(**counts, graphs=streamed),
    )


def test_they_survive_json_and_leave_out_what_was_not_measured(sections):
    """Files of results leave out what was not measured."""
    assert Sections.model_validate_json(sections.model_dump_json(exclude_none=True)) == sections
    assert Sections.model_validate_json(sections.model_dump_json()) == sections
    assert list(render_sections(Sections(risk=sections.risk), html=False)) == ["risk"]


def test_the_page_has_every_plot_and_no_markup_of_a_corpus(sections):
    pieces = render_sections(sections, html=True)
    assert list(pieces) == list(PARTS)
    assert [piece.count("<svg") for piece in pieces.values()] == [1, 1, 2, 1, 1]
    page = "".join(pieces.values())
    assert "{{" not in page
    assert "<b>s" not in page
    assert "<i>why" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+""", page)


def test_markdown_has_the_figures_in_whole_tables(sections):
    pieces = render_sections(sections, html=False)
    lines = pieces["conditions"].splitlines()
    assert "| clean | 1.000 | 1.000 to 1.000 |  |  | 0.100 | 100.0 % | 0.0 % |" in lines
    assert "| babble, 5 dB | 0.333 | 0.333 to 0.333 | -66.7 | -66.7 to -66.7 | 0.067 | 0.0 % | - |" in lines
    assert "| female | 2 | 6 | 1.000 | no interval: 2 speakers, at least 3 are needed |" in pieces["fairness"]
    assert "0.667 (0.667 to 0.667) | 0.50 | 0.0 % | - |" in pieces["risk"]
    assert (
        "| fp32 | 0.250 (no interval: fewer than 3 speakers) | 1.000 | -75.0 (no interval: fewer than 3 speakers) |"
        in pieces["streaming"]
    )
    # With half the spread of the targets: 2 / 2 / (1 + 1 / 4).
    assert "| fp32 | arousal | 0.800 | 0.800 to 0.800 | 12 | 4 |" in pieces["dimensions"]
    for piece in pieces.values():
        for table in re.findall(r"(?:^\|.*\n)+", piece, re.MULTILINE):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(columns) == 1, table
            assert "---|---" in table.splitlines()[1]


def test_a_bundle_without_dimensions_has_no_such_section():
    clean = evaluation(ITEMS, ["angry", "happy", "angry", "happy"])
    assert measure_dimensions({"fp32": clean}) is None
    missing = DimensionScores(("arousal",), np.zeros((4, 1)), np.full((4, 1), np.nan), clean.speakers)
    assert measure_dimensions({"fp32": replace(clean, dimensions=missing)}) is None

"""What an export measured, as files: JSON, Markdown, a plot, and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict

from distill.corpus import CORPUS
from distill.evaluation.intervals import ends
from distill.folds import FoldSpec
from distill.recipe import choices_stated
from edge_runtime.bundles.manifest import GRAPHS, SPEAKER_MODEL, AccuracyEntry, FoldEntry, Manifest, Precision
from edge_runtime.engines.parity import Parity
from edge_runtime.files import write_text
from export.accuracy_gate.dimensions import DimensionReport
from export.accuracy_gate.gate import AccuracyGate, Drop
from export.int8.sensitivity import Sensitivity

REPORT = "report"
"""Stem of the report's files in a bundle."""


class ExportReport(BaseModel):
    """Everything that an export measured.

    Attributes:
        run: the run directory.
        accuracy: on held-out speakers, by graph; ``unpruned`` for the run's student where it was changed.
        languages: the same by language, where there are several.
        referenced: the same after some utterances of each held-out speaker, for a student with a speaker model.
        dimensions: what was measured of predicted dimensions; None, and left out of the file, for a student without.
        macs: multiply-accumulates of one window by part.
        sizes: bytes of each graph.
        pruning: the plan and what it did; empty if nothing was pruned.
        quantisation: what was quantised and how; empty without INT8.
        sensitivity: the effect of leaving each group in float; empty where it was not measured.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    accuracy: dict[str, AccuracyEntry]
    languages: dict[str, dict[str, AccuracyEntry]] = {}
    referenced: dict[str, AccuracyEntry] = {}
    gate: AccuracyGate
    parity: list[Parity]
    dimensions: DimensionReport | None = None
    macs: dict[str, int]
    sizes: dict[str, int]
    pruning: dict[str, Any]
    quantisation: dict[str, Any]
    sensitivity: list[Sensitivity]

    def markdown(self) -> str:
        """Return the report as Markdown."""
        lines = [f"# Export of {self.run}", ""]
        verdict = (
            "passed" if not self.gate.failed else "overridden by --allow-drop" if self.gate.overridden else "failed"
        )
        lines += [
            f"Accuracy gate: **{verdict}**. Largest loss of UA allowed at the upper end of the 95 % interval: "
            f"{self.gate.max_drop * 100:g} points against {self.gate.baseline}, on {self.gate.utterances} utterances "
            f"of {self.gate.speakers} held-out speakers.",
            "",
        ]
        if self.gate.at_chance:
            allowed = "; written with --allow-chance" if self.gate.chance_allowed else ""
            lines += [f"**At chance level**: {', '.join(self.gate.at_chance)}{allowed}.", ""]
        lines += self._accuracy_table(self.accuracy, self.gate.drops)
        if self.referenced:
            lines += ["", f"After {self.gate.reference_utterances} utterances of the speaker:", ""]
            lines += self._accuracy_table(self.referenced, self.gate.reference_drops)
        if self.languages:
            lines += ["", *self._language_table()]
        if self.dimensions is not None:
            lines += ["", "## Predicted dimensions", "", *self._dimension_table(self.dimensions)]
        lines += ["", f"Multiply-accumulates of one window: {sum(self.macs.values()) / 1e6:.0f} million."]
        if self.pruning:
            lines += ["", "## Pruning", "", f"{self.pruning['removed']:.1%} of the multiply-accumulates taken out.", ""]
            lines += _table(
                ["group", "before", "kept", "importance lost"],
                [
                    [group["name"], str(group["before"]), str(len(group["kept"])), f"{group['lost']:.2%}"]
                    for group in self.pruning["plan"]["groups"]
                ],
            )
        if self.sensitivity:
            lines += ["", "## What leaving each group in float would give", ""]
            lines += ["Logit error: root mean square, relative to the float logits, on validation speakers.", ""]
            lines += _table(
                ["group left in float", "nodes", "logit error", "less than with all in INT8", "validation UA"],
                [
                    [each.group, str(each.nodes), f"{each.error:.4f}", f"{each.gain:+.4f}", f"{each.ua:.3f}"]
                    for each in self.sensitivity
                ],
            )
        return "\n".join(lines) + "\n"

    def _language_table(self) -> list[str]:
        graphs = list(next(iter(self.languages.values())))
        rows = [
            [
                language,
                str(next(iter(each.values())).speakers),
                *(_with_interval(each[graph]) for graph in graphs),
            ]
            for language, each in self.languages.items()
        ]
        return _table(["language", "speakers", *(f"UA, {graph}" for graph in graphs)], rows)

    def _dimension_table(self, found: DimensionReport) -> list[str]:
        verdict = (
            "passed" if not found.gate.failed else "overridden by --allow-drop" if found.gate.overridden else "failed"
        )
        rows = []
        for graph, each in found.concordance.items():
            drops = next((drops for precision, drops in found.gate.drops.items() if precision == graph), {})
            for name, one in each.items():
                drop = drops.get(name)
                loss = drop.text if drop else ""
                rows.append([graph, name, f"{one.ccc:.3f}", one.interval_text, loss, str(one.utterances)])
        return [
            f"Gate by concordance (CCC): **{verdict}**. Largest loss of CCC allowed at the upper end of the 95 % "
            f"interval: {found.gate.max_drop:g} against {found.gate.baseline}.",
            "",
            *_table(["graph", "dimension", "CCC", "95 % interval", "loss of CCC (95 % interval)", "utterances"], rows),
        ]

    def _accuracy_table(self, accuracies: Mapping[str, AccuracyEntry], drops: Mapping[Precision, Drop]) -> list[str]:
        rows = []
        for name, accuracy in accuracies.items():
            drop = next((drop for precision, drop in drops.items() if precision == name), None)
            loss = drop.show("+.2f", 100) if drop else ""
            size = f"{self.sizes[name] / 1e6:.2f} MB" if name in self.sizes else ""
            rows.append([name, f"{accuracy.ua:.3f}", _ends(accuracy), loss, size])
        return _table(["graph", "UA", "95 % interval", "loss in points (95 % interval)", "size"], rows)


def write_report(report: ExportReport, stem: Path) -> list[Path]:
    """Write ``STEM.json``, ``STEM.md`` and, where sensitivity was measured, ``STEM.svg``; return what was written."""
    paths = [stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.md")]
    without = {"dimensions"} if report.dimensions is None else None
    write_text(paths[0], report.model_dump_json(indent=2, exclude=without) + "\n")
    write_text(paths[1], report.markdown())
    if report.sensitivity:
        paths.append(stem.with_name(f"{stem.name}.svg"))
        from export.bundle.plot import sensitivity_plot  # draws with matplotlib, which takes a second to load

        write_text(paths[2], sensitivity_plot(report.sensitivity))
    return paths


def remove_report(stem: Path) -> None:
    """Remove the report of an earlier export that failed the accuracy gate."""
    for ending in ("json", "md", "svg"):
        stem.with_name(f"{stem.name}.{ending}").unlink(missing_ok=True)


def _ends(accuracy: AccuracyEntry) -> str:
    return ends(accuracy.ua_low, accuracy.ua_high, accuracy.speakers)


def _with_interval(accuracy: AccuracyEntry) -> str:
    return f"{accuracy.ua:.3f} ({_ends(accuracy)})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def model_card(manifest: Manifest, report: ExportReport) -> str:
    """Return the card in Markdown."""
    template = resources.files("export.bundle").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    sizes = {GRAPHS[entry.name]: entry.size for entry in manifest.files if entry.name in GRAPHS}
    return environment.from_string(template).render(
        m=manifest,
        r=report,
        gate=report.gate,
        drops=report.gate.drops,
        sizes=sizes,
        describe=_describe,
        ends=_ends,
        with_interval=_with_interval,
        choices=choices_stated(manifest.recipe.get("choices_with_test_figures")),
        by_corpus=manifest.recipe["folds"]["by"] == CORPUS,
        speaker_size=sum(entry.size for entry in manifest.files if entry.name == SPEAKER_MODEL),
    )


def _describe(folds: FoldEntry) -> str:
    return FoldSpec.recorded(folds.model_dump(exclude={"index"})).describe(folds.index)

"""The table of what export costs: folds found, rows pooled over folds, the view of a document."""

import shutil

import numpy as np
import pytest

from benchmarks.bench.results import new_results
from benchmarks.lab.export_table import BASELINE, PRECISIONS, export_all, folds_of, make_rows, time_all, variants
from benchmarks.lab.tables import VIEWS
from distill.evaluation.predictions import Predictions
from edge_runtime.errors import WrongUseError
from tests.conftest import need


def test_variants():
    names = [variant.system for variant in variants(0.5, 4, 2)]
    assert names == ["student", "student-pruned", "student-aware", "student-pruned-aware"]
    assert [variant.system for variant in variants(0.5, 4, 0)] == names[:2]
    assert [variant.system for variant in variants(0, 4, 2)] == ["student", "student-aware"]
    assert "50% of the multiply-accumulates pruned, 4 epochs of recovery" in variants(0.5, 4, 2)[1].note


def test_folds_are_found_and_must_belong_together(run_dir, tmp_path):
    for fold in (0, 1):
        shutil.copytree(run_dir, tmp_path / "all" / f"fold-{fold}")
    with pytest.raises(WrongUseError, match="test the same fold"):
        folds_of([tmp_path / "all"])
    record = tmp_path / "all" / "fold-1" / "run.json"
    text = record.read_text()
    record.write_text(text.replace('"fold": 0', '"fold": 1', 1))
    assert folds_of([tmp_path / "all"]) == [tmp_path / "all" / "fold-0", tmp_path / "all" / "fold-1"]
    record.write_text(text.replace('"fold": 0', '"fold": 1', 1).replace('"name": "tiny"', '"name": "other"', 1))
    with pytest.raises(WrongUseError, match="another recipe or corpus"):
        folds_of([tmp_path / "all"])


@pytest.mark.slow
def test_rows_of_real_exports(run_dir, tmp_path):
    need("onnx", "onnxscript")
    wanted = variants(0.015, 1, 0)
    export_all([run_dir], wanted, tmp_path, ())
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    export_all([run_dir], wanted, tmp_path, ())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written
    windows = [np.random.default_rng(0).normal(size=32_000).astype(np.float32) * 0.1]
    rows = make_rows([run_dir], wanted, tmp_path, time_all(run_dir, wanted, tmp_path, windows, 3))
    assert [(row.system, row.precision) for row in rows] == [
        (variant.system, precision) for variant in wanted for precision in PRECISIONS
    ]
    first, pruned = rows[0], rows[3]
    assert first.difference is None
    assert all(row.difference.to == BASELINE for row in rows[1:])
    assert pruned.macs <= 0.985 * first.macs
    assert pruned.parameters < first.parameters
    assert rows[1].size_bytes < first.size_bytes
    assert first.ua == pytest.approx(Predictions.read(run_dir / "predictions.csv").accuracy.ua, abs=0.02)
    assert rows[4].ratio.value == pytest.approx(first.p50_ms / rows[4].p50_ms, abs=0.01)
    assert rows[2].p50_ms is None
    table = VIEWS["exports"](new_results(rows, seconds=1.0, seeds=[3]))
    assert table.count("\n| student") == len(rows)
    assert "* student-pruned: 2% of the multiply-accumulates pruned" in table

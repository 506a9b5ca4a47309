"""Cost of more data, larger students and more streams: parts of a corpus, costs of a command, keeping up."""

import csv
import sys

import pytest
from click.testing import CliRunner

from benchmarks.bench.accuracy.playback import EventLog
from benchmarks.bench.results import Results, Row, new_results
from benchmarks.lab import growth
from benchmarks.lab.command_cost import cost_of, edgeemo_cost
from benchmarks.lab.growth_of_export import Size, measure_export
from benchmarks.lab.growth_of_listening import late_streams, lateness, measure_streams
from benchmarks.lab.growth_of_training import measure_training, part_of_corpus
from benchmarks.lab.tables import VIEWS
from benchmarks.lab.views.growth_columns import keeps_up, most_streams
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import StatusEvent
from tests.benchmarks.test_streaming import event as final
from tests.command import ALONE
from tests.conftest import need


def streams_row(count, **figures):
    usual = {"cpu_share": 0.03 * count, "hop_seconds": 1.0, "speech_share": 0.42, "silent_streams": 0.0}
    figures = usual | {"lateness_max_ms": 120.0} | figures
    row = {"system": "listen", "corpus": "rendered", "sweep": "streams", "note": "one core"}
    return Row(settings={"streams": count}, figures=figures, **row)


class TestPartOfCorpus:
    def write(self, folder, speakers=3, each=40):
        rows = [
            {"file": f"s{speaker}/{number:02d}.wav", "speaker": f"s{speaker}", "emotion": "abcd"[number % 4]}
            for speaker in range(speakers)
            for number in range(each)
        ]
        for row in rows:
            (folder / row["file"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / row["file"]).write_text(row["file"])
        with (folder / "metadata.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (folder / "corpus.json").write_text("{}")
        return folder

    def names(self, folder):
        with (folder / "metadata.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert all((folder / row["file"]).read_text() == row["file"] for row in rows)
        return {row["file"]: (row["speaker"], row["emotion"]) for row in rows}

    def test_parts_are_even_and_nested(self, tmp_path):
        whole = self.write(tmp_path / "whole")
        counts = [part_of_corpus(whole, share, tmp_path / str(share)) for share in (0.1, 0.3, 1.0)]
        assert counts == [12, 36, 120]
        small, middle, large = (self.names(tmp_path / str(share)) for share in (0.1, 0.3, 1.0))
        assert set(small) < set(middle) < set(large)
        for part, each in ((small, 1), (middle, 3), (large, 10)):
            groups = list(part.values())
            assert {groups.count(group) for group in groups} == {each}
            assert len(set(groups)) == 12
        # A share that binary fractions miss.
        whole = self.write(tmp_path / "other", speakers=1, each=100)
        assert part_of_corpus(whole, 0.29, tmp_path / "part") == 29


class TestCostOfACommand:
    def test_the_memory_is_the_commands_own(self):
        """Not that of the parent process, 300 MB here, which is counted for a direct child."""
        held = b"x" * 300_000_000
        cost = cost_of([sys.executable, "-c", "sum(range(1000))"])
        assert len(held) == 300_000_000
        assert 5 < cost.peak_mb < 100
        assert cost.cpu_seconds > 0
        assert 0 < cost.seconds < 60

    def test_a_failure_is_the_commands_own_sentence(self, tmp_path):
        with pytest.raises(
            EdgeemoError, match=r"^edgeemo listen failed: .*nothing.wav: there is no such audio file; check the path$"
        ):
            edgeemo_cost("listen", "--source", tmp_path / "nothing.wav")

    def test_helpers_count(self):
        """A grandchild that takes 200 MB is the peak."""
        work = "import subprocess, sys; subprocess.run([sys.executable, '-c', \"b'x' * 200_000_000\"], check=True)"
        assert cost_of([sys.executable, "-c", work]).peak_mb > 200


class TestKeepingUp:
    def test_lateness_of_all_streams_together(self):
        events = [[final(0, 1).model_copy(update={"latency_ms": 1.0 * number})] for number in range(101)]
        found = lateness([*events, []])
        assert found == {"decisions": 101.0, "silent_streams": 1.0, "lateness_p50_ms": 50.0, "lateness_max_ms": 100.0}
        one = final(0, 1)
        assert "lateness_p99_ms" not in lateness([[one] * 661])
        late = one.model_copy(update={"latency_ms": 5_000.0})
        assert lateness([[one] * 661, [late]])["lateness_p99_ms"] == 1.0

        found = lateness([[], []])
        assert found["silent_streams"] == 2
        assert not keeps_up(found | {"hop_seconds": 1.0})

    def test_a_stream_that_left_out_a_decision_does_not_keep_up(self):
        log = EventLog()
        status = {
            "type": "status",
            "start": 0,
            "end": 0,
            "detail": "",
            "dropped_samples": 0,
            "model": "m",
            "backend": "b",
        }
        for kind, source in (("late", "s1"), ("late", "s1"), ("engine", "s2")):
            log.events.append((0.0, StatusEvent(**status, status=kind, source=source)))
        assert late_streams([log, EventLog(list(log.events))]) == 2
        assert late_streams([EventLog()]) == 0
        assert not keeps_up(streams_row(1, late_streams=1.0).figures)

    def test_the_largest_number_that_keeps_up(self):
        assert keeps_up(streams_row(1).figures)
        assert not keeps_up(streams_row(1, lateness_max_ms=1000.0).figures)
        assert keeps_up(streams_row(1, lateness_max_ms=1000.0, lateness_p99_ms=999.0).figures)
        assert not keeps_up(streams_row(1, silent_streams=1.0).figures)
        late = {"lateness_max_ms": 3_000.0}
        rows = [streams_row(4), streams_row(1), streams_row(8, **late), streams_row(16)]
        assert most_streams(rows) == 4
        assert most_streams([streams_row(1, **late), streams_row(2)]) == 0


class TestTables:
    def table(self, rows, part):
        return VIEWS["cost"](new_results(rows, seconds=1.0, seeds=[0]), part)

    def test_streams(self):
        table = self.table([streams_row(1), streams_row(2, lateness_p99_ms=61.23)], "streams")
        assert "| 2 | 6 % |" in table
        assert "| 61.2 ms | 120 ms |" in table
        assert "are less than a hop (1 s) late: **2**, the most that were tried." in table
        assert "Speech fills 42% of the time." in table
        late = self.table([streams_row(1), streams_row(2, lateness_max_ms=1_500.0)], "streams")
        assert "late: **1**. Where" in late
        assert "| 1500 ms |" in late
        assert self.table([streams_row(1)], "data") == "*Not measured yet.*"


def test_listeners_that_play_in_real_time(clip, tmp_path):
    """Two real ones: nothing here stands in for anything."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    (row,) = measure_streams(bundle, [clip], tmp_path, corpus="rendered", counts=(2,), seconds=2.5, settle=2.0)
    figures = row.figures
    assert figures["silent_streams"] == 0
    assert figures["decisions"] >= 2
    assert 0 < figures["cpu_share"] < 1
    assert figures["cpu_share_per_stream"] == pytest.approx(figures["cpu_share"] / 2, abs=1e-3)
    assert 0 < figures["lateness_p50_ms"] <= figures["lateness_max_ms"]
    assert 30 < figures["resident_mb"] < 400
    if sys.platform == "linux":
        assert 20 < figures["memory_per_stream_mb"] <= figures["resident_mb"]


@pytest.mark.slow
def test_training_as_the_data_grows(corpus_dir, recipe_file, tmp_path):
    need("torch", "transformers")
    how = {"settings": ["student.training.epochs=1"], "options": list(ALONE)}
    rows = measure_training(corpus_dir, tmp_path, recipe=str(recipe_file), times=(2, 1), **how)
    assert [row.settings for row in rows] == [{"times": 1}, {"times": 2}]
    assert rows[1].utterances == pytest.approx(2 * rows[0].utterances, abs=1)
    assert rows[0].figures["times_seconds"] == 1
    assert rows[1].figures["times_hours_of_speech"] == pytest.approx(2, rel=0.1)
    assert all(row.figures["peak_mb"] > 100 for row in rows)
    table = VIEWS["cost"](new_results(rows, seconds=1.0, seeds=[0]), "data")
    assert f"| 2x | {rows[1].utterances} |" in table


@pytest.mark.slow
def test_export_as_the_student_grows(corpus_dir, recipe_file, tmp_path):
    need("torch", "transformers", "onnxscript")
    quick = ["--calibration", "minmax"]
    (row,) = measure_export(corpus_dir, tmp_path, recipe=str(recipe_file), sizes=(Size(16, 1),), options=quick)
    assert row.settings == {"width": 16, "layers": 1}
    assert row.parameters > 0
    assert row.size_bytes > 10_000
    assert row.figures["seconds"] > 0
    assert row.figures["peak_mb"] > 100
    table = VIEWS["cost"](new_results([row], seconds=1.0, seeds=[0]), "students")
    assert f"| {row.size_bytes / 1e6:.2f} MB |" in table


def test_the_command(monkeypatch, corpus_dir, tmp_path):
    """The parts have tests of their own: here, that those that were asked for are run and written."""
    asked = []

    def measure(bundle, paths, _work, **options):
        asked.append((bundle.root, len(paths), options["corpus"], options["counts"]))
        return [streams_row(1)]

    monkeypatch.setattr(growth, "measure_streams", measure)
    out = tmp_path / "growth.json"
    words = ["--only", "streams", "--corpus", str(corpus_dir), "--streams", "1", "--out", str(out)]
    done = CliRunner().invoke(growth.main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    ((root, count, corpus, counts),) = asked
    assert (root, corpus, counts) == (DEFAULT_BUNDLE, "rendered", (1,))
    assert count > 50
    found = Results.read(out)
    assert found.bundle == load_bundle(DEFAULT_BUNDLE).hash
    assert found.machine is not None
    assert [row.settings for row in found.rows] == [{"streams": 1}]

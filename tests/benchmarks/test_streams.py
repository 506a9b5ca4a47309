"""Streams in one process: the search, the pauses, the table, and two streams that are really measured."""

import numpy as np
import pytest
import soundfile

from benchmarks.bench.accuracy.playback import Playlist
from benchmarks.bench.results import Row, new_results
from benchmarks.lab.streams import SHARES, measure, pauses_for, search
from benchmarks.lab.tables import VIEWS
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle


@pytest.mark.parametrize(
    ("limit", "most", "found"), [(0, 64, 0), (1, 64, 1), (37, 64, 37), (100, 256, 100), (99, 64, 64)]
)
def test_the_search_doubles_and_bisects(limit, most, found):
    tried = []

    def keeps(count):
        tried.append(count)
        return count <= limit

    assert search(keeps, 4, most) == pytest.approx(found, rel=0.06)
    assert len(tried) == len(set(tried)) <= 12
    assert max(tried) <= most


@pytest.mark.parametrize("share", SHARES.values())
def test_pauses_give_the_share_of_speech(share, tmp_path):
    rate = 16_000
    silence = np.zeros(rate // 2)
    sound = 0.1 * np.sin(np.arange(2 * rate) * 2 * np.pi * 440 / rate)
    soundfile.write(tmp_path / "a.wav", np.concatenate([silence, sound, silence]), rate)
    pauses = pauses_for(share, [tmp_path / "a.wav"])
    playlist = Playlist([tmp_path / "a.wav"], 0, pauses)
    length = sum(len(pcm) for pcm in playlist.audio(400.0)) / rate
    spoken = sum(end - start for start, end in playlist.spans) / length
    # Of speech all the time, the silence within the recordings remains.
    assert spoken == pytest.approx(min(share, 2 / 3), abs=0.03)


def test_two_streams_in_one_process(clip, tmp_path):
    """Real ones: nothing here stands in for anything."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    row = measure(bundle, [clip], tmp_path, "speech", corpus="rendered", count=2, seconds=3.0)
    figures = row.figures
    assert (row.sweep, row.settings) == ("speech", {"streams": 2})
    assert figures["silent_streams"] == 0
    assert figures["decisions"] >= 2
    assert figures["cpu_share_per_stream"] == pytest.approx(figures["cpu_share"] / 2, abs=1e-3)
    assert 0 < figures["lateness_p50_ms"] <= figures["lateness_p50_worst_ms"] <= figures["lateness_max_ms"]
    assert 0 < figures["start_seconds"] < figures["first_window_seconds"]
    assert 30 < figures["resident_mb"] < 400
    table = VIEWS["cost"](new_results([row], seconds=1.0, seeds=[0]), "speech")
    assert "**2**, the most that were tried" in table or "**0**" in table


def test_kinds_have_tables_of_their_own():
    figures = {
        "cpu_share": 0.5,
        "hop_seconds": 1.0,
        "speech_share": 0.3,
        "silent_streams": 0.0,
        "lateness_max_ms": 80.0,
    }
    row = Row(
        system="listen", corpus="rendered", sweep="conversation", settings={"streams": 64}, figures=figures, note="one"
    )
    results = new_results([row], seconds=1.0, seeds=[0])
    table = VIEWS["cost"](results, "conversation")
    assert "| 64 | 50 % |" in table
    assert "Speech fills 30% of the time." in table
    assert VIEWS["cost"](results, "speech") == "*Not measured yet.*"

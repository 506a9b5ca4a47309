"""The runtime from Python: few lines and stable names; what it imports: test_light_imports."""

import pytest
import soundfile

import edge_runtime
from edge_runtime import EdgeemoError, listen, load_bundle, score_file
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import read_audio


def test_names_are_there_and_nothing_else():
    for name in edge_runtime.__all__:
        assert getattr(edge_runtime, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        edge_runtime.nothing  # noqa: B018


def test_a_file_is_scored_as_listen_scores_it(bundle_dir, clip):
    finals = score_file(clip, bundle_dir)
    assert finals
    wanted = [event for event in listen(load_bundle(bundle_dir), str(clip)) if event.type == "final"]
    exclude = {"latency_ms", "time"}
    assert [e.model_dump(exclude=exclude) for e in finals] == [e.model_dump(exclude=exclude) for e in wanted]


def test_names_of_files_may_be_odd(bundle_dir, clip, tmp_path):
    odd = tmp_path / "a %20 b#c?.wav"
    soundfile.write(odd, read_audio(clip), 16_000)
    assert len(score_file(odd, bundle_dir)) == len(score_file(clip, bundle_dir))


def test_what_cannot_be_used_is_refused(bundle_dir, tmp_path):
    with pytest.raises(EdgeemoError, match="no such audio file"):
        score_file(tmp_path / "none.wav", bundle_dir)
    with pytest.raises(EdgeemoError, match="no such bundle"):
        score_file(tmp_path / "none.wav", tmp_path / "none")
    for endless in ("mic://", "mic://usb", "-"):
        with pytest.raises(WrongUseError, match=f"^{endless}: score_file takes an audio file; .* use listen"):
            score_file(endless, bundle_dir)


def test_leaving_early_closes_everything(bundle_dir, clip):
    events = listen(bundle_dir, str(clip))
    assert next(events).status == "started"
    events.close()
    with pytest.raises(StopIteration):
        next(events)

"""A change of speaker while it is listened: what events say, what a profile learns, and the file that tells voices."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import SPEAKER_PROJECTION
from edge_runtime.config import ListenSettings, SpeakerSettings, VadSettings
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from edge_runtime.loop.listener import Listener
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_store import load_profile, save_profile
from tests.conftest import need
from tests.laid_out import LaidOut, in_blocks

need("onnx")

from tests.plain_bundles import LABELS, SIZE, add_file, change, save_speaker_bundle  # noqa: E402

SEGMENT = 32_000
LOUD, QUIET = 0.9, 0.43
"""As far above the training mean as below it, in the graph's statistics."""


def save_projection_bundle(folder, rows=None, **said):
    """Save a bundle that tells loud people from quiet ones: of its graph's statistics, the one thing that it hears."""
    save_speaker_bundle(folder)
    projection = {"directions": 1, "threshold": 0.5} | said
    change(folder, lambda content: content["speaker"].update(projection=projection))
    add_file(folder, SPEAKER_PROJECTION, (np.ones((1, SIZE), "<f4") if rows is None else rows).tobytes())
    return folder


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(save_projection_bundle(tmp_path_factory.mktemp("voices") / "bundle"))


def heard(bundle, people, **speaker):
    settings = ListenSettings(vad=VadSettings(enabled=False), speaker=SpeakerSettings(**speaker))
    noise = np.random.default_rng(0).uniform(-1, 1, len(people) * SEGMENT).astype(np.float32)
    sound = noise * np.repeat(np.array(people, np.float32), SEGMENT)
    events = list(Listener(bundle, OnnxEngine.of(bundle), settings).listen(LaidOut(*in_blocks(sound))))
    finals = [event for event in events if event.type == "final"]
    return finals, [event.detail for event in events if event.type == "status" and event.status == "profile"]


def test_a_profile_is_paused_while_somebody_else_speaks(bundle):
    people = [LOUD] * 12 + [QUIET] * 8 + [LOUD] * 8
    finals, told = heard(bundle, people, profile="anna", session=False)
    paused = [number for number, final in enumerate(finals) if final.profile is None]
    assert paused == list(range(paused[0], paused[-1] + 1))
    assert 12 + 3 <= paused[0] <= 12 + 5
    assert 20 + 3 <= paused[-1] + 1 <= 20 + 5
    assert {finals[number].speaker_known for number in paused} == {0.0}
    assert len(told) == 2
    assert "'anna' is paused" in told[0]
    assert "again: the profile is used" in told[1]
    # Learnt are those of the first part but the last ones of it, and what was heard again at the end.
    profile = load_profile("anna")
    assert 12 - 5 + 3 <= len(profile.utterances) <= 12 + 8
    assert heard(bundle, [LOUD] * 8, profile="loud")[1] == []
    loud = load_profile("loud").utterances[0]
    for each in profile.utterances:
        assert each.reduced == pytest.approx(loud.reduced, abs=0.3)  # quiet ones: -2.5
        assert each.embedding == pytest.approx(loud.embedding, rel=0.1)


@pytest.mark.parametrize("asked", [{"session": True}, {}], ids=["asked for", "by itself"])
def test_a_session_keeps_two_voices_apart(bundle, asked):
    """By itself too, where the bundle tells voices apart."""
    finals, told = heard(bundle, [LOUD] * 12 + [QUIET] * 12 + [LOUD] * 12, **asked)
    assert len(told) == 2
    assert {final.profile for final in finals} == {None}
    # Whoever comes back is known as well as before.
    assert finals[-1].speaker_known > finals[11].speaker_known


def test_a_stranger_may_be_learnt_beside_a_profile(bundle):
    finals, told = heard(bundle, [LOUD] * 12 + [QUIET] * 10, profile="anna", session=True)
    assert finals[-1].profile is None
    assert finals[-1].speaker_known > 0
    assert len(told) == 1
    assert len(load_profile("anna").utterances) <= 12


def test_a_session_is_not_begun_where_it_is_declined_or_voices_are_not_told_apart(bundle, tmp_path):
    for which, asked in ((bundle, {"session": False}), (load_bundle(save_speaker_bundle(tmp_path / "b")), {})):
        finals, told = heard(which, [LOUD] * 8, **asked)
        assert {final.speaker_known for final in finals} == {0.0}
        assert told == []


def test_a_bundle_without_voices_learns_all_as_one(tmp_path):
    bundle = load_bundle(save_speaker_bundle(tmp_path / "bundle"))
    assert bundle.speaker_projection is None
    _, told = heard(bundle, [LOUD] * 8 + [QUIET] * 8, profile="anna")
    assert told == []
    assert len(load_profile("anna").utterances) == 16


@pytest.mark.parametrize("session", [True, False])
def test_another_speaker_does_not_get_the_labels_of_the_profile(bundle, session):
    clip = np.array([0.2, -0.6])
    save_profile(Profile.new("anna", bundle).taught((clip,) * 3, ("calm",) * 3))
    finals, told = heard(bundle, [LOUD] * 12 + [QUIET] * 10 + [LOUD] * 8, profile="anna", session=session)
    assert len(told) == 2
    for final in finals:
        assert tuple(final.probabilities) == (LABELS if final.profile is None else (*LABELS, "calm"))
    assert {final.profile for final in finals} == {"anna", None}
    assert finals[-1].profile == "anna"


@pytest.mark.parametrize(
    ("rows", "said", "message"),
    [
        (np.full((1, SIZE), np.nan, "<f4"), {}, "holds a value that is not a number"),
        (np.full((1, SIZE), 1e30, "<f4"), {}, "is beyond"),
        (np.ones((2, SIZE), "<f4"), {}, rf"has {8 * SIZE} bytes, and 1 directions of {SIZE} numbers"),
        (None, {"threshold": 2.0}, "'speaker.projection.threshold'"),
        (None, {"directions": 0}, "'speaker.projection.directions'"),
    ],
)
def test_a_map_that_is_none_is_refused(tmp_path, rows, said, message):
    with pytest.raises(EdgeemoError, match=message):
        load_bundle(save_projection_bundle(tmp_path / "bundle", rows, **said))


def test_a_missing_map_is_refused(tmp_path):
    folder = save_projection_bundle(tmp_path / "bundle")
    change(folder, lambda content: content["files"].pop())
    with pytest.raises(EdgeemoError, match=r"names no speaker-projection\.f32"):
        load_bundle(folder)

"""Predicted dimensions in the runtime: engine, events, terminal; and bundles without them."""

import json

import numpy as np
import pytest

from edge_runtime import ListenSettings, VadSettings
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.clips import score_clip
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import parse_event
from edge_runtime.model import Model
from edge_runtime.sinks.live_line import _emotion
from tests.plain_bundles import change, hearing_graph, save_dimension_bundle, save_plain_bundle

LOUD = 0.04


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(save_dimension_bundle(tmp_path / "bundle"))


def square(seconds, size=LOUD):
    return (size * (1 - 2 * (np.arange(round(seconds * 16_000)) % 2))).astype(np.float32)


def events_of(bundle, signal):
    with Model(bundle, ListenSettings(vad=VadSettings(enabled=False))) as model, model.stream(16_000) as stream:
        return [each for each in [*stream.feed(signal), *stream.close()] if each.type in ("provisional", "final")]


def test_events_carry_the_mean_over_windows_within_the_scale(bundle):
    # The first half of the windows hears 0.04, the second 0.08.
    events = events_of(bundle, np.concatenate([square(3), square(3, 2 * LOUD)]))
    final = next(event for event in events if event.type == "final")
    first = next(event for event in events if event.type == "provisional")
    assert first.dimensions == {"arousal": pytest.approx(10 * LOUD, abs=1e-3), "valence": 0.0}
    assert 10 * LOUD < final.dimensions["arousal"] < 20 * LOUD
    assert final.dimensions["valence"] == 0.0, "the graph gives values below 0"
    line = final.model_dump_json()
    assert json.loads(line)["dimensions"] == final.dimensions
    assert parse_event(line) == final
    assert "arousal 0." in _emotion(final).plain


def test_clips_too(bundle):
    engine = OnnxEngine.of(bundle)
    found = score_clip(engine.score, square(2), bundle.manifest.window)
    assert found.dimensions == pytest.approx([10 * LOUD, 0], abs=1e-3)


def test_events_of_a_bundle_without_have_no_such_field(tmp_path):
    bundle = load_bundle(save_plain_bundle(tmp_path / "plain", hearing_graph()))
    event = events_of(bundle, square(2))[-1]
    assert event.dimensions is None
    assert "dimensions" not in event.model_dump_json()
    assert "dimensions" not in event.model_dump()
    assert parse_event(event.model_dump_json()) == event


def test_an_older_manifest_opens(tmp_path):
    folder = save_plain_bundle(tmp_path / "old")
    change(folder, lambda manifest: manifest.update(schema_version="3.0"))
    assert load_bundle(folder).dimensions == ()


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"names": ["arousal", "arousal"]}, "names a label twice"),
        ({"names": ["arousal", "joy"]}, r"dimensions\.names"),
        ({"names": []}, r"dimensions\.names"),
        ({"scale": [1, 5]}, "must be 0 and 1"),
        ({"tolerance": 0}, r"dimensions\.tolerance"),
    ],
)
def test_a_manifest_that_is_wrong(edit, expected, tmp_path):
    folder = save_dimension_bundle(tmp_path / "bundle")
    change(folder, lambda manifest: manifest["dimensions"].update(edit))
    with pytest.raises(EdgeemoError, match=expected):
        load_bundle(folder)


def test_a_graph_that_does_not_fit_the_manifest(tmp_path):
    folder = save_dimension_bundle(tmp_path / "three")
    change(folder, lambda manifest: manifest["dimensions"].update(names=["arousal", "valence", "dominance"]))
    with pytest.raises(EdgeemoError, match=r"its output 'dimensions' is .* not tensor\(float\) \[1, 3\]"):
        OnnxEngine.of(load_bundle(folder))
    folder = save_dimension_bundle(tmp_path / "none")
    change(folder, lambda manifest: manifest.pop("dimensions"))
    with pytest.raises(EdgeemoError, match="has the outputs 'dimensions', 'logits', 'statistics', not"):
        OnnxEngine.of(load_bundle(folder))

"""The reference page is that of the schemas, and leaves no field out."""

import re

import pytest

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.engines.engine import DIMENSIONS_OUTPUT, OnnxEngine
from tests.plain_bundles import save_dimension_bundle
from tests.reference_page import MODELS, PAGE, descriptions, page


def test_it_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.reference_page"


@pytest.mark.parametrize("model", [model for models in MODELS.values() for model in models])
def test_every_field_is_explained(model):
    assert set(model.model_fields) == set(descriptions(model))


def test_the_inputs_and_outputs_of_the_graphs_are_those_that_engines_have(tmp_path):
    shapes = OnnxEngine.of(load_bundle(DEFAULT_BUNDLE)).shapes()
    assert DIMENSIONS_OUTPUT not in shapes
    shapes |= OnnxEngine.of(load_bundle(save_dimension_bundle(tmp_path / "bundle"))).shapes()
    found = dict(re.findall(r"^\| `(\w+)`, (?:input|output) \| `(\[.*?\])` \|", page(), re.MULTILINE))
    assert found.keys() == shapes.keys()
    assert all(len(shape) == 2 and found[name].startswith("[1, ") for name, shape in shapes.items())

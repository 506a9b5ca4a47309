"""The reference page is that of the schemas, and leaves no field out."""

import re

import pytest

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.engines.engine import DIMENSIONS_OUTPUT, OnnxEngine
from edge_runtime.windows import WindowPolicy
from tests.plain_bundles import save_dimension_bundle
from tests.reference_page import MODELS, PAGES, TABLES, descriptions, page, recipes_page
from tests.small_bundles import save_bundle


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_it_is_up_to_date(path):
    assert path.read_text(encoding="utf-8") == PAGES[path](), "run: python -m tests.reference_page"


def test_each_table_of_a_recipe_has_a_section():
    text = recipes_page()
    sections = set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
    assert sections == set(re.findall(r"\[(\w+)\]\(#\w+\)", text)) | {"Recipe", "TeacherSignal"}


@pytest.mark.parametrize("model", [*(model for models in MODELS.values() for model in models), *TABLES])
def test_every_field_is_explained(model):
    assert set(model.model_fields) == set(descriptions(model))


def test_the_inputs_and_outputs_of_the_graphs_are_those_that_engines_have(tmp_path):
    shapes = OnnxEngine.of(load_bundle(DEFAULT_BUNDLE)).shapes()
    assert DIMENSIONS_OUTPUT not in shapes
    shapes |= OnnxEngine.of(load_bundle(save_dimension_bundle(tmp_path / "bundle"))).shapes()
    policy = WindowPolicy(seconds=2.0, segment_seconds=2.0, chunk_seconds=0.5)
    shapes |= OnnxEngine.of(load_bundle(save_bundle(tmp_path / "chunks", policy=policy))).shapes()
    found = dict(re.findall(r"^\| `(\w+)`, (?:input|output) \| `(\[.*?\])` \|", page(), re.MULTILINE))
    assert found.keys() == shapes.keys()
    assert all(len(shape) == 2 and found[name].startswith("[1, ") for name, shape in shapes.items())

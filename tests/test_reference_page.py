"""The reference page is that of the schemas, and leaves no field out."""

import pytest

from tests.reference_page import MODELS, PAGE, descriptions, page


def test_it_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.reference_page"


@pytest.mark.parametrize("model", [model for models in MODELS.values() for model in models])
def test_every_field_is_explained(model):
    assert set(model.model_fields) == set(descriptions(model))

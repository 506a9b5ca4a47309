"""How far the logits of two graphs or engines are apart on the same windows."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel

from edge_runtime.decision import Floats

Inputs = Literal["speech", "edge cases"]


class Parity(BaseModel):
    """One comparison of two graphs over the same windows: speech of validation speakers, or edge cases.

    Attributes:
        lower: the graph that is compared.
        upper: the graph that it should equal.
        largest_difference: largest absolute difference of a logit; ``mean_difference`` the mean one.
        mean_cosine: mean cosine of the logit vectors; ``least_cosine`` the least one.
        agreement: share of windows with the same decision.
    """

    inputs: Inputs = "speech"
    lower: str
    upper: str
    windows: int
    largest_difference: float
    mean_difference: float
    mean_cosine: float
    least_cosine: float
    agreement: float


def measure(lower: str, logits: Floats, upper: str, wanted: Floats, inputs: Inputs = "speech") -> Parity:
    """Compare the logits ``[windows, classes]`` of two graphs."""
    norms = np.linalg.norm(logits, axis=1) * np.linalg.norm(wanted, axis=1)
    cosine = (logits * wanted).sum(axis=1) / np.maximum(norms, 1e-12)
    return Parity(
        inputs=inputs,
        lower=lower,
        upper=upper,
        windows=len(logits),
        largest_difference=float(np.abs(logits - wanted).max()),
        mean_difference=float(np.abs(logits - wanted).mean()),
        mean_cosine=float(cosine.mean()),
        least_cosine=float(cosine.min()),
        agreement=float((logits.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
    )

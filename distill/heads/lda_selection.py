"""Model selection of the LDA head on validation utterances: its shrinkage, and the temperature of its logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from distill.evaluation.calibration import fit_temperature
from distill.evaluation.metrics import Floats, Ints, unweighted_accuracy
from distill.heads.lda import Linear


class Selection(NamedTuple):
    """A selected LDA head.

    Attributes:
        head: its logits are not divided by the temperature yet.
        shrinkage: of the head.
        temperature: leaves little for the student's own calibration.
        tried: figures of each shrinkage, those of the selected one last.
    """

    head: Linear
    shrinkage: float
    temperature: float
    tried: list[dict[str, float]]


def select_lda(
    heads: Iterable[Linear],
    shrinkages: Sequence[float],
    rows: Floats,
    truth: Ints,
    normalised: Floats | None = None,
) -> Selection:
    """Select the head with the best UA; of equals, the one with the most shrinkage.

    Args:
        heads: a fitted head for each shrinkage.
        shrinkages: of the heads.
        rows: ``[N, D]`` standardised statistics of validation utterances.
        truth: ``[N]`` their classes.
        normalised: ``[N, D]`` the same less their speaker means, for a student with speaker normalisation: the mean of
            the UA without and with a speaker mean decides.
    """
    each = []
    for shrinkage, head in zip(shrinkages, heads, strict=True):
        logits = rows @ head.weight.T + head.bias
        ua = unweighted_accuracy(truth, logits.argmax(axis=1))
        facts = {"validation_ua": ua, "shrinkage": shrinkage, "temperature": fit_temperature(logits, truth)}
        if normalised is not None:
            predicted = (normalised @ head.weight.T + head.bias).argmax(axis=1)
            facts["validation_ua_reference"] = unweighted_accuracy(truth, predicted)
        each.append((head, facts))
    each.sort(
        key=lambda one: (one[1]["validation_ua"] + one[1].get("validation_ua_reference", 0.0), one[1]["shrinkage"])
    )
    head, facts = each[-1]
    return Selection(head, facts["shrinkage"], facts["temperature"], [facts for _, facts in each])

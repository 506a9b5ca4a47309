"""Whether something that is no speech gives the label away: the file's length, its level, the noise between its words.

A corpus may record one emotion after the other, each with its own gain and room, or cut each one differently. A model
then recognises the recording and reaches high figures on every speaker of that corpus. Needs scikit-learn, not torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from distill.checks.audio_scan import AudioScan
from distill.checks.finding import Finding, Level
from distill.corpus import Utterance
from distill.folds import cut

FEATURES = ("length", "level", "noise floor")
"""Logarithm of the seconds, level and noise floor in dB, each minus the mean of the speaker."""

SETS = (("length",), ("level",), ("noise floor",), ("level", "noise floor"), FEATURES)
"""The sets of features that are tried."""

SUSPICIOUS = 0.25
"""Share of the way from chance to perfect from which a probe's accuracy is called suspicious."""

GIVEN_AWAY = 0.9
"""Share from which the labels are all but a function of the features: no figure on such a corpus means anything."""

PERMUTATIONS = 60
"""One false alarm in so many corpora whose labels have nothing to do with the features."""

_FOLDS = 5
_REGULARISATION = 0.01
# Numerical trouble of a degenerate feature (all files of one length) is part of the answer, not news.
_QUIET = (RuntimeWarning, UserWarning)

Floats = npt.NDArray[np.float64]


class Probe(BaseModel, extra="forbid", frozen=True):
    """How well one set of features predicts the labels of unseen speakers.

    Attributes:
        features: names out of `FEATURES`.
        ua: unweighted accuracy over speaker-grouped folds.
        chance: one by the number of labels.
        bound: largest accuracy of all `FEATURES` over `PERMUTATIONS` permutations of the labels within each speaker.
    """

    features: tuple[str, ...]
    ua: float
    chance: float
    bound: float

    @property
    def share(self) -> float:
        """How far from chance (0) to perfect (1)."""
        return (self.ua - self.chance) / (1 - self.chance)

    @property
    def suspicious(self) -> bool:
        """Whether the features alone predict the labels too well."""
        return self.ua > self.bound and self.share >= SUSPICIOUS


def probe(utterances: Sequence[Utterance], scans: Sequence[AudioScan], *, seed: int = 0) -> list[Probe]:
    """Predict the label from each of `SETS`, with quadratic discriminant analysis over speaker-grouped folds.

    Returns:
        One result a set; empty where there are fewer than three speakers or two labels.
    """
    speakers = np.array([item.speaker for item in utterances])
    names, truth = np.unique([item.emotion for item in utterances], return_inverse=True)
    part = cut([item.speaker for item in utterances], _FOLDS)
    fold = np.array([part[item.speaker] for item in utterances])
    if len(part) < 3 or len(names) < 2:
        return []
    features = _features(speakers, scans)
    random = np.random.default_rng(seed)
    bound = max(_accuracy(features, permuted_within(truth, speakers, random), fold) for _ in range(PERMUTATIONS))
    found = []
    for chosen in SETS:
        columns = features[:, [FEATURES.index(name) for name in chosen]]
        found.append(
            Probe(
                features=chosen,
                ua=round(_accuracy(columns, truth, fold), 4),
                chance=round(1 / len(names), 4),
                bound=round(bound, 4),
            )
        )
    return found


def _features(speakers: npt.NDArray[np.str_], scans: Sequence[AudioScan]) -> Floats:
    raw = np.array([[np.log(max(each.seconds, 1e-3)), each.level_db, each.floor_db] for each in scans])
    for speaker in np.unique(speakers):
        raw[speakers == speaker] -= raw[speakers == speaker].mean(axis=0)
    return raw


def permuted_within(
    truth: npt.NDArray[np.intp], speakers: npt.NDArray[np.str_], random: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Return labels ``[N]`` permuted within each speaker of ``speakers`` ``[N]``."""
    labels = truth.copy()
    for speaker in np.unique(speakers):
        own = np.flatnonzero(speakers == speaker)
        labels[own] = labels[random.permutation(own)]
    return labels


def _accuracy(features: Floats, truth: npt.NDArray[np.intp], fold: npt.NDArray[np.int_]) -> float:
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

    decided = np.full(len(truth), -1)
    for number in np.unique(fold):
        inside = fold != number
        # A label with too few training utterances has no covariance to fit.
        labels, counts = np.unique(truth[inside], return_counts=True)
        inside &= np.isin(truth, labels[counts > features.shape[1]])
        fitted = np.unique(truth[inside])
        if len(fitted) < 2:
            continue
        scale = features[inside].std(axis=0) + 1e-6
        with warnings.catch_warnings():
            for category in _QUIET:
                warnings.simplefilter("ignore", category)
            model = QuadraticDiscriminantAnalysis(
                priors=np.full(len(fitted), 1 / len(fitted)), reg_param=_REGULARISATION
            ).fit(features[inside] / scale, truth[inside])
            decided[fold == number] = model.predict(features[fold == number] / scale)
    right = decided == truth
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def say_giveaways(probes: Sequence[Probe]) -> Iterator[Finding]:
    """Report the strongest of the suspicious probes, or else the strongest that is beyond chance."""
    strong = sorted((each for each in probes if each.ua > each.bound), key=lambda each: -each.ua)
    if not strong:
        return
    # Of two that predict as well, the one with fewer features.
    best = min(
        (each for each in strong if each.ua >= strong[0].ua - 0.01), key=lambda each: (len(each.features), -each.ua)
    )
    what = " and ".join(best.features) if len(best.features) < 3 else ", ".join(best.features)
    reach = "reaches" if len(best.features) == 1 else "reach"
    figures = f"UA {best.ua:.2f} on unseen speakers (chance {best.chance:.2f}, permuted labels up to {best.bound:.2f})"
    if best.suspicious:
        message = (
            f"SUSPICIOUS: {what} alone {reach} {figures}, without words or voice: a model may recognise how each "
            "emotion was recorded instead of the emotion; test on another corpus before trusting figures on this one"
            + (
                " (the student's level normalisation takes the level away, not the rest)."
                if "level" in best.features
                else "."
            )
        )
        level: Level = "problem" if best.share >= GIVEN_AWAY else "warning"
        yield Finding(check="giveaway", level=level, message=message)
    else:
        message = (
            f"The label shows a little in {what}: {figures}. Loud anger and slow sadness do that in honest corpora."
        )
        yield Finding(check="giveaway", level="information", message=message)

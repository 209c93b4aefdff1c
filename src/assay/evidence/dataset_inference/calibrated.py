"""What one answer about each row is worth, learned from references that are held out.

Each reference in turn plays the suspect. What the others say about a row are its
features; whether the one held out trained on it, and what it answers, is what there is to learn.
Thousands of rows with like features share what they say, so that a row that looks
telling by luck among a few references is not believed, which is the weakness of estimates of each
row by itself (`assay.evidence.dataset_inference.informative`). On CIFAR-10 four references so
used tell more by scores than 26 row by row. Nothing here sees the secret split or the victim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from assay.evidence.dataset_inference.informative import Weights, label_weights, score_weights
from assay.evidence.dataset_inference.references import References

__all__ = ["calibrated_label_weights", "calibrated_score_weights"]

Floats = NDArray[np.float64]

_FEWEST = 4  # references, of which one is held out;
_LEAST = 2000  # answers of references to learn from: with less of either, each row is estimated by itself
_RAREST = 0.1  # least share of rows that they trained on, and of rows that they did not
_HELD_OUT = 24  # references that play the suspect, at most
_EXAMPLES = 500_000  # rows to learn from, at most
_FARTHEST = 8.0  # margins beyond say no more
_EDGE = 0.02  # no rate is believed beyond this distance from 0 and 1
_NARROWEST = 0.05  # variance of a margin, at least
# Few and large leaves: finer trees believe luck again. One row is in the examples up to 24 times.
_TREES: dict[str, Any] = {"max_iter": 100, "learning_rate": 0.04, "max_leaf_nodes": 15, "random_state": 0}
_LEAVES = 160  # no leaf is smaller than this part of the examples,
_SMALLEST = 20  # nor than this


def calibrated_label_weights(references: References) -> Weights:
    """Return weights for "did the suspect give the true label?"."""
    if not _teaches(references):
        return label_weights(references)
    learned = _Lessons.of(references)
    rates = []
    for member in (True, False):
        here = learned.member == member
        answers = learned.margin[here] > 0
        if answers.all() or not answers.any():  # nothing to tell apart
            rates.append(np.full(len(learned.rows), float(answers[0])))
            continue
        features, rows = _told(learned.features[here], learned.rows)
        trees = HistGradientBoostingClassifier(**_settings(len(answers))).fit(features, answers)
        rates.append(trees.predict_proba(rows)[:, 1])
    p_in, p_out = (np.clip(rate, _EDGE, 1 - _EDGE) for rate in rates)
    slope = np.log(p_in / p_out) - np.log((1 - p_in) / (1 - p_out))
    information = np.abs(slope * (p_in - p_out)) * np.sign(p_in - p_out)
    return Weights(np.maximum(slope, 0.0), p_out, information)


def calibrated_score_weights(references: References) -> Weights:
    """Return weights for the suspect's margin: a Gaussian likelihood ratio per row."""
    if not _teaches(references):
        return score_weights(references)
    learned = _Lessons.of(references)
    means, variances = [], []
    for member in (True, False):
        here = learned.member == member
        features, rows = _told(learned.features[here], learned.rows)
        margin = learned.margin[here]
        settings = _settings(len(margin))
        trees = HistGradientBoostingRegressor(**settings).fit(features, margin)
        off = (margin - trees.predict(features)) ** 2
        spread = HistGradientBoostingRegressor(**settings).fit(features, off)
        means.append(trees.predict(rows))
        variances.append(np.maximum(spread.predict(rows), _NARROWEST))
    gap = means[0] - means[1]
    variance = (variances[0] + variances[1]) / 2
    return Weights(np.maximum(gap, 0.0) / variance, means[1], np.sign(gap) * gap**2 / variance)


def _teaches(references: References) -> bool:
    """Return whether there is enough to learn from, with and without training on the rows."""
    if len(references) < _FEWEST or references.members.size < _LEAST:
        return False
    share = float(references.members[_held_out(references)].mean())
    return min(share, 1 - share) >= _RAREST


def _held_out(references: References) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, len(references) - 1, _HELD_OUT).round().astype(np.int64))


def _told(
    features: NDArray[np.float32], rows: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return both without the columns that are never known, of which trees cannot be made."""
    known = ~np.isnan(features).all(axis=0)
    return features[:, known], rows[:, known]


def _settings(examples: int) -> dict[str, Any]:
    return {**_TREES, "min_samples_leaf": max(_SMALLEST, examples // _LEAVES)}


@dataclass(frozen=True, eq=False)
class _Lessons:
    """Features, membership and margin of rows under references held out; features of all rows.

    Parameters
    ----------
    features, member, margin
        Of one row under one reference held out: float32 ``[k, features]``, bool and float64 ``[k]``.
    rows
        Features of every row by all references, float32 ``[n, features]``.
    """

    features: NDArray[np.float32]
    member: NDArray[np.bool_]
    margin: Floats
    rows: NDArray[np.float32]

    @classmethod
    def of(cls, references: References) -> _Lessons:
        profiles = [_Profile.of(references, kind) for kind in sorted(set(references.kinds))]
        held = _held_out(references)
        rows = references.members.shape[1]
        every = max(1, -(-rows * len(held) // _EXAMPLES))
        features, member, margin = [], [], []
        for place, index in enumerate(held.tolist()):
            some = np.arange(place % every, rows, every)
            features.append(
                np.concatenate([p.without(index).features(some) for p in profiles], axis=1, dtype=np.float32)
            )
            member.append(references.members[index, some])
            margin.append(references.margin[index, some].astype(np.float64))
        everything = np.arange(rows)
        whole = np.concatenate([p.features(everything) for p in profiles], axis=1, dtype=np.float32)
        return cls(np.concatenate(features), np.concatenate(member), np.concatenate(margin), whole)


@dataclass(frozen=True, eq=False)
class _Profile:
    """Sums over the references of one kind, by row: of those with it and of those without it.

    Parameters
    ----------
    members, margin
        Of these references, ``[R, n]``.
    places
        Where they stand among all references.
    sums
        Numbers, margins, squared margins and right answers, float64 ``[2, 4, n]``.
    """

    members: NDArray[np.bool_]
    margin: Floats
    places: tuple[int, ...]
    sums: Floats

    @classmethod
    def of(cls, references: References, kind: int) -> _Profile:
        places = tuple(i for i, k in enumerate(references.kinds) if k == kind)
        members = references.members[list(places)]
        margin = references.margin[list(places)].astype(np.float64).clip(-_FARTHEST, _FARTHEST)
        sums = np.zeros((2, 4, members.shape[1]))
        for inside, said in zip(members, margin, strict=True):
            sums += _terms(inside, said)
        return cls(members, margin, places, sums)

    def without(self, index: int) -> _Profile:
        """Return the profile without the reference that stands at ``index``."""
        if index not in self.places:
            return self
        at = self.places.index(index)
        left = self.sums - _terms(self.members[at], self.margin[at])
        return _Profile(self.members, self.margin, self.places, left)

    def features(self, rows: NDArray[np.int64]) -> Floats:
        """Return mean margins with and without the row, their gap and spread, and shares of right answers."""
        number, total, squares, right = self.sums[..., rows].transpose(1, 0, 2)
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN where nobody has, or lacks, the row
            mean, share = total / number, right / number
            within = np.where(number > 0, squares - total**2 / number, 0.0).sum(0)
        spread = np.sqrt(np.maximum(within, 0.0) / np.maximum(number.sum(0) - 2, 1))
        return np.stack([mean[0], mean[1], mean[0] - mean[1], spread, share[0], share[1]], axis=1)


def _terms(inside: NDArray[np.bool_], margin: Floats) -> Floats:
    each = np.stack([np.ones_like(margin), margin, margin**2, (margin > 0).astype(np.float64)])
    return np.stack([each * inside, each * ~inside])

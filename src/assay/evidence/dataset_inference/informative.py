"""Which rows tell members from non-members, and what one answer about each is worth.

Most training rows leave no trace in a single label; a few leave nearly all of it.
References find those rows before any suspect is seen, and give each possible answer
its log-likelihood ratio between "trained on this row" and "did not" (the likelihood
view of membership: Carlini et al. 2022, "Membership Inference Attacks From First
Principles", section 4; difficulty calibration: Watson et al. 2022). Nothing here sees
the secret split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from assay.evidence.dataset_inference.references import References

__all__ = ["Weights", "label_weights", "score_weights"]

Floats = NDArray[np.float64]

_PRIOR = 0.5  # rows' worth of pooled rate that each rate is shrunk towards
_EDGE = 0.02  # no rate is believed beyond this distance from 0 and 1


@dataclass(frozen=True)
class Weights:
    """How to score an answer about each row, and how much the row is expected to tell.

    For labels the score of a row is ``slope * (correct - centre)``; for scores it is
    ``slope * (margin - centre)``. The centre is what non-members are expected to answer.

    Parameters
    ----------
    slope, centre
        Float64 ``[n]``.
    information
        Expected log-likelihood ratio for members minus that for non-members
        (the symmetrised Kullback-Leibler divergence), float64 ``[n]``; negative where
        references that trained on a row did worse on it.
    """

    slope: Floats
    centre: Floats
    information: Floats

    def order(self) -> NDArray[np.int64]:
        """Return rows by information, most informative first, ties in pool order."""
        return np.argsort(-self.information, kind="stable")


def label_weights(references: References) -> Weights:
    """Return weights for "did the suspect give the true label?".

    The rate of correct answers among references that did, or did not, train on a row is
    the mean of two estimates: the count, shrunk towards the row's overall rate, which
    is exact with many references, and the tail of a Gaussian through their margins,
    which says more with few. On Fashion-MNIST with 4 references the mean needs half as
    many labels as the count for copies, and with 8 a fifth fewer.
    """
    correct = references.margin > 0
    overall = correct.mean(0) * (1 - 2 * _EDGE) + _EDGE
    gaussian = _gaussian(references)
    rates = []
    for mask, mean in ((references.members, gaussian.mean_in), (~references.members, gaussian.mean_out)):
        counted = ((correct & mask).sum(0) + _PRIOR * overall) / (mask.sum(0) + _PRIOR)
        modelled = ndtr(mean / np.sqrt(gaussian.variance))
        rates.append((np.clip(counted, _EDGE, 1 - _EDGE) + np.clip(modelled, _EDGE, 1 - _EDGE)) / 2)
    p_in, p_out = rates
    slope = np.log(p_in / p_out) - np.log((1 - p_in) / (1 - p_out))
    information = np.abs(slope * (p_in - p_out)) * np.sign(p_in - p_out)
    return Weights(np.maximum(slope, 0.0), p_out, information)


def score_weights(references: References) -> Weights:
    """Return weights for the suspect's margin: a Gaussian likelihood ratio per row.

    Members and non-members share one variance, so that the ratio is linear in the margin.
    """
    found = _gaussian(references)
    gap = found.mean_in - found.mean_out
    slope = np.maximum(gap, 0.0) / found.variance
    # Centred on non-members, whom a suspect that is only a distant copy resembles most.
    return Weights(slope, found.mean_out, np.sign(gap) * gap**2 / found.variance)


@dataclass(frozen=True)
class _Gaussian:
    """Mean margins of members and non-members, and their common variance, by row."""

    mean_in: Floats
    mean_out: Floats
    variance: Floats


def _gaussian(references: References) -> _Gaussian:
    margin = references.margin.astype(np.float64)
    inside = references.members
    mean_in, mean_out = _mean(margin, inside), _mean(margin, ~inside)
    residual = margin - np.where(inside, mean_in, mean_out)
    own = (residual**2).sum(0) / max(len(margin) - 2, 1)
    # Shrunk halfway towards the pool's: a few references estimate a variance badly.
    return _Gaussian(mean_in, mean_out, 0.5 * own + 0.5 * own.mean() + 1e-9)


def _mean(values: Floats, mask: NDArray[np.bool_]) -> Floats:
    count = mask.sum(0)
    mean = np.where(mask, values, 0.0).sum(0) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, mean, values.mean(0)), dtype=np.float64)

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

from assay.evidence.dataset_inference.references import References

__all__ = ["Weights", "label_weights", "score_weights"]

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

    slope: NDArray[np.float64]
    centre: NDArray[np.float64]
    information: NDArray[np.float64]

    def order(self) -> NDArray[np.int64]:
        """Return rows by information, most informative first, ties in pool order."""
        return np.argsort(-self.information, kind="stable")


def label_weights(references: References) -> Weights:
    """Return weights for "did the suspect give the true label?".

    The rates of a correct answer among references that did and did not train on the
    row are shrunk towards the row's overall rate, so that a row on which few
    references differ by chance is not taken for an informative one.
    """
    correct = references.margin > 0
    inside, outside = references.members, ~references.members
    overall = correct.mean(0) * (1 - 2 * _EDGE) + _EDGE
    p_in = _shrunk((correct & inside).sum(0), inside.sum(0), overall)
    p_out = _shrunk((correct & outside).sum(0), outside.sum(0), overall)
    slope = np.log(p_in / p_out) - np.log((1 - p_in) / (1 - p_out))
    information = np.abs(slope * (p_in - p_out)) * np.sign(p_in - p_out)
    return Weights(np.maximum(slope, 0.0), p_out, information)


def score_weights(references: References) -> Weights:
    """Return weights for the suspect's margin: a Gaussian likelihood ratio per row.

    Members and non-members share one variance per row, shrunk halfway towards the
    pool's, so that the ratio is linear in the margin and no row explodes.
    """
    margin = references.margin.astype(np.float64)
    inside = references.members
    mean_in = _mean(margin, inside)
    mean_out = _mean(margin, ~inside)
    residual = margin - np.where(inside, mean_in, mean_out)
    freedom = max(len(margin) - 2, 1)
    own = (residual**2).sum(0) / freedom
    variance = 0.5 * own + 0.5 * own.mean() + 1e-9
    gap = mean_in - mean_out
    slope = np.maximum(gap, 0.0) / variance
    # Centred on non-members, whom a suspect that is only a distant copy resembles most.
    return Weights(slope, mean_out, np.sign(gap) * gap**2 / variance)


def _shrunk(
    hits: NDArray[np.int64], trials: NDArray[np.int64], towards: NDArray[np.float64]
) -> NDArray[np.float64]:
    rate = (hits + _PRIOR * towards) / (trials + _PRIOR)
    return np.asarray(np.clip(rate, _EDGE, 1 - _EDGE), dtype=np.float64)


def _mean(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    count = mask.sum(0)
    mean = np.where(mask, values, 0.0).sum(0) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, mean, values.mean(0)), dtype=np.float64)

"""Where to ask a service that rounds, and what its answers allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.extraction.exact.close_calls import close_calls
from assay.extraction.exact.design import uniform_points
from assay.extraction.exact.digit_flips import find_flips, fit_flips
from assay.extraction.exact.gauss_newton import Link
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.precision import Grain
from assay.extraction.exact.rounded import Centre, interval_centre

__all__ = ["RoundedFit", "fit_rounded"]

_ROUNDS = 8
_BINARY = 2


@dataclass(frozen=True, eq=False)
class RoundedFit:
    """Weights that round to every answer.

    Parameters
    ----------
    weights
        float64 ``[c, d + 1]``, the bias last.
    link
        The model class that fits.
    feasible
        Whether every answer is met.
    flips
        Points with an exact equation that were used.
    """

    weights: np.ndarray
    link: Link
    feasible: bool
    flips: int


def fit_rounded(
    oracle: Oracle,
    x: np.ndarray,
    scores: np.ndarray,
    grain: Grain,
    rows: int,
    rng: np.random.Generator,
    *,
    link: Link | None = None,
    flips: bool = False,
) -> RoundedFit:
    """Ask up to ``rows`` rows in all, most of them where classes are close, and fit.

    The first eighth is uniform. Every further one is chosen under the weights found so
    far, see `close_calls`: there scores change most with the weights, and there labels
    are decided.

    Parameters
    ----------
    oracle
        The victim.
    x, scores
        What is known already; counted in ``rows``.
    grain
        How answers are rounded.
    rows
        Rows to ask in all, as far as the budget goes; digit flips come on top.
    rng
        Of the points.
    link
        The model class, or None to find out.
    flips
        Whether to search for digit flips afterwards.
    """
    last = len(x) + (rows - len(x) if oracle.remaining is None else min(rows - len(x), oracle.remaining))
    found: Centre | None = None
    chosen: Link = "softmax" if link is None or oracle.num_classes == _BINARY else link
    for part in range(1, _ROUNDS + 1):
        more = last * part // _ROUNDS - len(x)
        if more > 0:
            points = (
                uniform_points(oracle.domain, more, rng)
                if found is None
                else close_calls(oracle.domain, x, found.weights, grain.step, more, rng, chosen)
            )
            x, scores = np.vstack([x, points]), np.vstack([scores, oracle.scores(points)])
        start = None if found is None else found.weights
        found = interval_centre(x, scores, grain.step, chosen, start)
        if part == 1 and link is None and not found.feasible and oracle.num_classes > _BINARY:
            other = interval_centre(x, scores, grain.step, "one-vs-rest")
            if other.half < found.half:
                found, chosen = other, "one-vs-rest"
    assert found is not None
    if not flips or not found.feasible or grain.digits is None:
        return RoundedFit(found.weights, chosen, found.feasible, 0)
    found_flips = find_flips(oracle, x, scores, grain.digits, rng, surplus=1.1, link=chosen)
    weights = fit_flips(found_flips, found.weights, chosen)
    return RoundedFit(weights, chosen, feasible=True, flips=len(found_flips.x))

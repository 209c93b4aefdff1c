"""Log-ratios of a softmax are linear in the input: one least-squares problem, and when it fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lstsq

from assay.extraction.exact.design import representable
from assay.extraction.exact.oracle import Oracle

__all__ = ["Solution", "ask_unsaturated", "solve_softmax"]

_BINARY_LIMIT = 8.0  # nats; p = 1 - 1e-16 e^|z| has lost 4 of 16 digits here
_LIMIT = 600.0  # softmax scores are floats of their own until they underflow
_ROUNDS = 12
_RANK = 1e-10


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights relative to class 0.

    Parameters
    ----------
    coef, intercept
        float64 ``[c, d]`` and ``[c]``, zeros for class 0.
    rank
        Rank of the system, at most ``d + 1``; where it is less, this is the solution of
        smallest norm.
    residual
        Largest absolute residual of a log-ratio.
    """

    coef: np.ndarray
    intercept: np.ndarray
    rank: int
    residual: float


def solve_softmax(x: np.ndarray, scores: np.ndarray) -> Solution:
    """Solve for a softmax model from complete scores above 0.

    Parameters
    ----------
    x, scores
        Inputs float64 ``[n, d]`` and answers float64 ``[n, c]``, n >= 1.

    References
    ----------
    Tramèr et al. 2016, section 4.1, solves the binary case so and calls the others
    without analytic solution; the logarithms of ratios are linear for any number of
    classes.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0]])
    >>> found = solve_softmax(x, np.array([[0.5, 0.5], [0.2, 0.8]]))
    >>> round(float(found.coef[1, 0]), 9), found.rank
    (1.386294361, 2)
    """
    logs = np.log(scores)
    # The reference whose smallest score is largest loses the least to rounding.
    reference = int(np.argmax(scores.min(axis=0)))
    ratios = logs - logs[:, [reference]]
    design = np.column_stack([x, np.ones(len(x))])
    # Centred inputs keep the bias apart from weights of features with a large offset.
    middle = x.mean(axis=0)
    design[:, :-1] -= middle
    found, _, rank, _ = lstsq(design, ratios, cond=_RANK, lapack_driver="gelsd")
    residual = float(np.abs(design @ found - ratios).max())
    coef = found[:-1].T
    intercept = found[-1] - coef @ middle
    return Solution(coef - coef[:1], intercept - intercept[0], int(rank), residual)


def ask_unsaturated(
    oracle: Oracle, x: np.ndarray, centre: np.ndarray, *, limit: float | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Ask for scores; points where they saturate are moved towards the centre and asked again.

    Parameters
    ----------
    oracle
        The victim.
    x
        Points, float64 ``[n, d]``.
    centre
        Where points move to, float64 ``[d]``.
    limit
        Largest log-ratio, in nats, that counts as unsaturated; 8 for two classes, where
        one score is 1 minus the other, and 600 otherwise.

    Returns
    -------
    x, scores
        Points as they were asked last, with their answers; rows that saturate wherever
        they were asked are left out.
    saturated
        Rows that had to be asked again.
    """
    bound = (_BINARY_LIMIT if oracle.num_classes == 2 else _LIMIT) if limit is None else limit  # noqa: PLR2004
    x = x.copy()
    scores = oracle.scores(x)
    reach = _reach(scores)
    bad = np.flatnonzero(~(reach <= bound))
    first = len(bad)
    for _ in range(_ROUNDS):
        if not len(bad) or not oracle.covers(len(bad)):
            break
        # Twice the shrinkage that a log-ratio linear in the radius needs; infinite ones say nothing.
        known = reach[np.isfinite(reach)]
        largest = max(float(known.max()), bound) if len(known) else 32 * bound
        x[bad] = representable(centre + (x[bad] - centre) * min(0.5, 0.5 * bound / largest))
        scores[bad] = oracle.scores(x[bad])
        reach[bad] = _reach(scores[bad])
        bad = bad[~(reach[bad] <= bound)]
    keep = np.ones(len(x), dtype=bool)
    keep[bad] = False
    return x[keep], scores[keep], first


def _reach(scores: np.ndarray) -> np.ndarray:
    """Return the largest absolute log-ratio of each row, infinite where a score is 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(scores)
    return np.asarray(logs.max(axis=1) - logs.min(axis=1))

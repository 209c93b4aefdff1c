"""Services that show the largest scores only: what can be filled in, and how often to ask."""

from __future__ import annotations

import numpy as np

from assay.extraction.exact.design import uniform_points
from assay.extraction.exact.oracle import Oracle

__all__ = ["ask_hidden", "reveal"]

_SURPLUS = 1.2
_BATCHES = 12


def reveal(x: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill in the score of a row that hides exactly one: the others' remainder to 1.

    Examples
    --------
    >>> reveal(np.zeros((1, 1)), np.array([[0.75, 0.0]]))[1].tolist()
    [[0.75, 0.25]]
    """
    filled = scores.copy()
    single = np.flatnonzero((scores <= 0).sum(axis=1) == 1)
    column = scores[single].argmin(axis=1)
    filled[single, column] = np.maximum(1 - scores[single].sum(axis=1), 0.0)
    return x, filled


def ask_hidden(
    oracle: Oracle, x: np.ndarray, scores: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Ask at random points until the scores that are shown outnumber the unknowns.

    Every class must be seen about as often as it has unknowns, or the batches or the
    budget run out.

    Parameters
    ----------
    oracle
        The victim.
    x, scores
        What is known already.
    rng
        Of the points.

    Returns
    -------
    x, scores
        All rows; hidden scores are 0.
    """
    x, scores = reveal(x, scores)
    each = int(np.ceil(_SURPLUS * (oracle.size + 1)))
    for _ in range(_BATCHES):
        shown = (scores > 0).sum(axis=0)
        rows = max(int(each * len(shown) - shown.sum()), int(each - shown.min()))
        rows = rows if oracle.remaining is None else min(rows, oracle.remaining)
        if rows <= 0:
            break
        more = uniform_points(oracle.domain, rows, rng)
        answers = reveal(more, oracle.scores(more))[1]
        x, scores = np.vstack([x, more]), np.vstack([scores, answers])
    return x, scores

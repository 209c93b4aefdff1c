"""Several looks at growing data: alpha spending by the union bound.

The p-values of nested samples are dependent in a way nobody wants to model. Splitting
alpha over the looks needs no model: ``P(some p_k <= alpha w_k) <= alpha sum(w_k)``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.statistics.inputs import FloatArray, as_count, as_p_values

__all__ = ["group_sequential", "spending"]

_ROUNDING = 1e-9


def spending(
    alpha: float, looks: int, kind: Literal["uniform", "geometric"] = "uniform", *, ratio: float = 2.0
) -> FloatArray:
    """Split alpha over the looks.

    Parameters
    ----------
    alpha
        Level to be spent, in (0, 1]; 1 gives the bare weights.
    looks
        Number of looks, at least 1.
    kind
        ``"uniform"``: the same at every look. ``"geometric"``: each look gets ``ratio`` times
        the share of the one before, so that early looks cost little.
    ratio
        Growth of the geometric shares, above 0.

    Returns
    -------
    numpy.ndarray
        float64, shape ``[looks]``, positive, summing to alpha.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    Examples
    --------
    >>> spending(0.06, 2, "geometric").round(4)
    array([0.02, 0.04])
    """
    if not 0.0 < alpha <= 1.0:
        msg = f"alpha must lie in (0, 1], got {alpha!r}"
        raise InvalidInput(msg)
    looks = as_count(looks, "looks")
    if kind == "uniform":
        return np.full(looks, alpha / looks)
    if kind != "geometric" or not 0.0 < ratio < np.inf:
        msg = f'kind must be "uniform" or "geometric" with a positive ratio, got {kind!r} and {ratio!r}'
        raise InvalidInput(msg)
    exponent = np.arange(looks) * np.log(ratio)
    weights = np.exp(exponent - exponent.max())
    if weights.min() == 0.0:
        msg = f"a ratio of {ratio} leaves nothing for some of {looks} looks; take one nearer to 1"
        raise InvalidInput(msg)
    return np.asarray(alpha * weights / weights.sum(), dtype=np.float64)


def group_sequential(p_values: ArrayLike, weights: ArrayLike) -> float:
    """Overall p-value of the looks taken so far.

    ``min_k p_k / w_k``, at most 1, is super-uniform under the null for any dependence
    between the looks and any rule of stopping between them, if each ``p_k`` is valid and
    the weights were fixed beforehand.

    Parameters
    ----------
    p_values
        One p-value per look taken, shape ``[k]`` with k >= 1, in [0, 1].
    weights
        Shares of alpha of all planned looks (``spending(1.0, looks)``), shape ``[looks]``.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InvalidInput
        If there are more p-values than looks, or the weights are not positive with sum <= 1.

    References
    ----------
    Jennison and Turnbull 2000, "Group Sequential Methods", chapter 7 (spending).

    Examples
    --------
    >>> group_sequential([0.4, 0.002], spending(1.0, 4))
    0.008
    """
    p = as_p_values(p_values).ravel()
    w = np.asarray(weights, dtype=np.float64).ravel()
    if not (np.all(w > 0.0) and w.sum() <= 1.0 + _ROUNDING):
        msg = "weights must be positive shares that sum to at most 1, for example spending(1.0, looks)"
        raise InvalidInput(msg)
    if p.size > w.size:
        msg = f"{p.size} looks were taken but only {w.size} were planned"
        raise InvalidInput(msg)
    return float(min(1.0, np.min(p / w[: p.size])))

"""What one answer of a noisy vote gives away (GNMax), in logarithms and for many queries at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, logsumexp

from assay.errors import InvalidInput
from assay.privacy.orders import ORDERS, FloatArray, as_log_q, as_orders, as_sigma

__all__ = ["data_independent", "log_flip_probability", "renyi"]

_TWO = 2
_BLOCK = 2048  # queries at a time: temporaries of [block, orders] stay in the cache


def log_flip_probability(votes: ArrayLike, sigma: float) -> FloatArray:
    """Return the log of a bound on the probability that noise changes the winner of a vote.

    ``q <= 1/2 sum_j erfc((n_win - n_j) / (2 sigma))``, and at most ``1 - 1/m``.

    Parameters
    ----------
    votes
        Votes for each class, ``[n, m]`` or ``[m]``, m >= 2, finite, not negative. Whole
        numbers for hard votes; sums of probabilities for soft ones.
    sigma
        Standard deviation of the Gaussian noise on each count, > 0.

    Returns
    -------
    numpy.ndarray
        log q, float64 ``[n]`` (or a scalar array for one vote), at most 0.

    Raises
    ------
    InvalidInput
        For other shapes, negative or non-finite votes, or an impossible sigma.

    References
    ----------
    Papernot et al., "Scalable Private Learning with PATE", ICLR 2018, proposition 7.

    Examples
    --------
    >>> log_flip_probability([[250, 0, 0], [125, 125, 0]], 10).round(3)
    array([-159.351,   -0.693])
    """
    sigma = as_sigma(sigma)
    counts = np.asarray(votes, dtype=np.float64)
    if counts.ndim not in (1, _TWO) or counts.shape[-1] < _TWO:
        msg = f"votes must have shape [n, m] with at least 2 classes, got {list(counts.shape)}"
        raise InvalidInput(msg)
    if not bool(np.all(np.isfinite(counts) & (counts >= 0))):
        msg = "votes must be finite and not negative"
        raise InvalidInput(msg)
    rows = np.atleast_2d(counts)
    classes = rows.shape[1]
    if not len(rows):
        return np.empty(0)
    # The largest count is compared with all others; which of several winners is left out does not matter.
    ordered = np.sort(rows, axis=1)
    behind = ordered[:, -1:] - ordered[:, :-1]
    log_q = logsumexp(log_ndtr(-behind / (np.sqrt(2.0) * sigma)), axis=1)
    result = np.minimum(log_q, np.log1p(-1.0 / classes))
    return np.asarray(result if counts.ndim == _TWO else result[0], dtype=np.float64)


def data_independent(sigma: float, orders: ArrayLike = ORDERS) -> FloatArray:
    """Return the Rényi divergence that no vote exceeds, ``order / sigma^2``.

    One record changes two counts by one, so the vote has L2 sensitivity sqrt(2).

    Examples
    --------
    >>> data_independent(10, [2, 4])
    array([0.02, 0.04])
    """
    return as_orders(orders) / as_sigma(sigma) ** 2


def renyi(log_q: ArrayLike, sigma: float, orders: ArrayLike = ORDERS, *, capped: bool = True) -> FloatArray:
    """Return the data-dependent Rényi divergence of noisy votes at several orders.

    Parameters
    ----------
    log_q
        Log of the probability that noise changes the winner, ``[...]``, at most 0; minus
        infinity means never.
    sigma
        Standard deviation of the noise on each count, > 0.
    orders
        Rényi orders above 1, ``[k]``.
    capped
        Whether the data-independent bound is applied where it is the smaller one. The
        published pkNN accounts leave it out where the data-dependent bound is valid.

    Returns
    -------
    numpy.ndarray
        float64 ``[..., k]``, not negative, non-decreasing in ``log_q``.

    Raises
    ------
    InvalidInput
        For log q above 0, sigma not above 0, or orders not above 1.

    Notes
    -----
    The value depends on private votes. It is a score of how much an answer leaks; used
    as a guarantee it would itself have to be released with noise (smooth sensitivity).

    References
    ----------
    Papernot et al., "Scalable Private Learning with PATE", ICLR 2018, theorem 6 with the
    helper orders of proposition 10.

    Examples
    --------
    >>> renyi([-0.7, -150.0], 10, [2, 25]).round(6)
    array([[0.02, 0.25],
           [0.  , 0.  ]])
    """
    sigma, grid, values = as_sigma(sigma), as_orders(orders), as_log_q(log_q)
    flat = np.ravel(values)
    result = np.empty((flat.size, grid.size))
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        result[part] = _bound(flat[part], sigma, grid, capped=capped)
    return result.reshape(*values.shape, grid.size)


def _bound(log_q: FloatArray, sigma: float, orders: FloatArray, *, capped: bool) -> FloatArray:
    """Return the bound for one block of queries, ``[n, k]``."""
    independent = orders / sigma**2
    never = np.isneginf(log_q)
    safe = np.where(never, -1.0, log_q)
    mu2 = sigma * np.sqrt(-safe)
    eps1, eps2 = (mu2 + 1) / sigma**2, mu2 / sigma**2
    applies = (mu2 > 1) & (-safe > eps2)
    mu2 = np.where(applies, mu2, 2.0)  # keeps the arithmetic below finite on rows that are not used
    small = safe <= (mu2 - 1) * eps2 - mu2 * (np.log1p(1 / mu2) + np.log1p(1 / (mu2 - 1)))
    applies &= small & ~never
    safe = np.where(applies, safe, -1.0)
    log_rest = _log1mexp(safe)
    inner = np.where(applies, (safe + eps2) * (1 - 1 / mu2), -1.0)
    log_a = log_rest - _log1mexp(inner)
    log_b = eps1 - safe / mu2
    less = orders - 1
    dependent = np.logaddexp(log_rest[:, None] + less * log_a[:, None], safe[:, None] + less * log_b[:, None])
    dependent /= less
    usable = applies[:, None] & (orders < mu2[:, None] + 1)
    chosen = np.minimum(dependent, independent) if capped else dependent
    result = np.where(usable, np.maximum(chosen, 0.0), independent)
    result[never] = 0.0
    return result


def _log1mexp(x: FloatArray) -> FloatArray:
    """Return log(1 - exp(x)) for x < 0 without cancellation."""
    near = x >= -1
    return np.where(near, np.log(-np.expm1(np.where(near, x, -1.0))), np.log1p(-np.exp(x)))

"""From log flip probabilities to the numbers of a policy: order, price, likelihood ratios.

Arrays in, numbers out. What is fitted on one half of the traffic is judged on the other
(see `assay.gateway.calibrate.run`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput
from assay.privacy import RenyiTable

__all__ = [
    "CANDIDATE_ORDERS",
    "INDISTINCT",
    "LikelihoodRatio",
    "choose_beta",
    "choose_order",
    "fit_likelihood_ratio",
]

Floats = NDArray[np.float64]

CANDIDATE_ORDERS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Orders to choose from: small ones tell weak teachers' votes apart, large ones strong teachers'."""

INDISTINCT = 2.0
"""Pools that cost less than this multiple of honest traffic are not told apart.

The harder half of honest traffic may cost twice the average as well.
"""

_BETAS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0)
_TINY = 1e-12


def choose_order(
    legit: Floats,
    suspects: Mapping[str, Floats],
    sigma: float,
    *,
    honest: Mapping[str, Floats] | None = None,
    candidates: Sequence[float] = CANDIDATE_ORDERS,
) -> tuple[float, dict[float, dict[str, float]]]:
    """Return the order at which suspects cost most compared with honest users.

    Parameters
    ----------
    legit
        log q of trusted queries, ``[n]``.
    suspects
        log q of each suspect pool.
    sigma
        Standard deviation of the vote noise.
    honest
        log q of shifted honest profiles. What suspects cost more is weighed against what
        the dearest of these costs more, since the work of a unit must suit that one too.
    candidates
        Orders to choose from. Those at which fewer than one honest query in twenty carries
        the average cost are left out if others tell some pool apart: such a price is a
        lottery.

    Returns
    -------
    tuple
        The order with the largest geometric mean of the ratios, so that no single pool
        decides; and all ratios ``{order: {pool: mean cost / mean legitimate cost}}``.

    Raises
    ------
    InvalidInput
        If there is nothing to compare.

    Examples
    --------
    >>> order, ratios = choose_order(np.full(50, -120.0), {"noise": np.full(50, -1.0)}, 2.0)
    >>> order in CANDIDATE_ORDERS, ratios[order]["noise"] > 10
    (True, True)
    """
    if not len(legit) or not suspects or any(not len(x) for x in suspects.values()):
        msg = "choosing an order needs legitimate queries and at least one pool of suspect ones"
        raise InvalidInput(msg)
    ratios: dict[float, dict[str, float]] = {}
    merit: dict[float, float] = {}
    even: list[float] = []
    for order in candidates:
        table = RenyiTable(sigma, order)
        costs = table(legit)
        mean = max(float(costs.mean()), _TINY * order / sigma**2)
        ratios[order] = {name: float(table(x).mean()) / mean for name, x in suspects.items()}
        dearest = max((float(table(x).mean()) / mean for x in (honest or {}).values()), default=1.0)
        found = np.maximum(list(ratios[order].values()), _TINY)
        merit[order] = float(np.mean(np.log(found)) - np.log(max(dearest, 1.0)))
        if np.quantile(costs, 0.95) >= mean and found.max() >= INDISTINCT:
            even.append(order)
    return max(even or candidates, key=merit.__getitem__), ratios


def choose_beta(ratios: Mapping[str, float], *, goal: float = 3.3, share: float = 0.9) -> float:
    """Return the least weight of leakage in the price that still separates the pools.

    The price of a pool is ``(1 + beta r) / (1 + beta)`` of the legitimate one for a cost
    ratio of ``r``. More weight brings it nearer to ``r``, but lets honest users who are a
    little harder than average pay more, and thieves who know which queries are cheap pay
    less; so no more is taken than brings every pool to ``goal``, or to ``share`` of what it
    can reach.

    Parameters
    ----------
    ratios
        Cost of each suspect pool in legitimate costs.
    goal
        Price ratio to reach, above 1.
    share
        Of the ratio, where ``goal`` is out of reach, in (0, 1).

    Examples
    --------
    >>> choose_beta({"noise": 10.0}), choose_beta({"noise": 10.0, "blends": 4.0})
    (1.0, 4.0)
    """
    for beta in _BETAS:
        if all((1 + beta * r) / (1 + beta) >= min(goal, share * r) for r in ratios.values() if r > 1):
            return beta
    return _BETAS[-1]


@dataclass(frozen=True)
class LikelihoodRatio:
    """How much a query speaks for theft: a step function of its log q.

    Parameters
    ----------
    edges
        Rising log probabilities ``[b]`` between which the function is constant.
    values
        Logarithms of likelihood ratios ``[b + 1]``, not falling.
    """

    edges: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, log_q: Floats) -> Floats:
        """Return the value for each log q."""
        return np.asarray(self.values)[np.searchsorted(np.asarray(self.edges), log_q, side="right")]

    def lowered(self, by: float) -> LikelihoodRatio:
        """Return the same function, ``by`` lower everywhere."""
        return LikelihoodRatio(self.edges, tuple(v - by for v in self.values))


def fit_likelihood_ratio(
    legit: Floats, suspects: Mapping[str, Floats], *, bins: int = 32, smoothing: float = 1.0
) -> LikelihoodRatio:
    """Fit the log-likelihood ratio of "suspect" against "legitimate" on quantile bins.

    Parameters
    ----------
    legit
        log q of trusted queries, ``[n]``.
    suspects
        log q of each suspect pool; pools count alike, however large they are.
    bins
        Most bins. Votes are discrete and many are unanimous, so there may be fewer.
    smoothing
        Added to the count of each bin (Laplace).

    Returns
    -------
    LikelihoodRatio
        Not falling in log q: where counts say otherwise, neighbours are averaged, so
        that no bin is a loophole that noise in the sample has opened.

    Raises
    ------
    InvalidInput
        If there is nothing to compare.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> fitted = fit_likelihood_ratio(-rng.gamma(9, 4, 500), {"noise": -rng.gamma(1, 4, 500)})
    >>> bool(fitted(np.array([-1.0]))[0] > 1), bool(fitted(np.array([-60.0]))[0] < -1)
    (True, True)
    """
    if not len(legit) or not suspects or any(not len(x) for x in suspects.values()):
        msg = "a likelihood ratio needs legitimate queries and at least one pool of suspect ones"
        raise InvalidInput(msg)
    size = min(len(legit), *(len(x) for x in suspects.values()))
    pooled = np.sort(np.concatenate([legit, *suspects.values()]))
    cuts = np.quantile(pooled, np.linspace(0, 1, bins + 1)[1:-1])
    edges = _between(pooled, cuts)
    kept = np.asarray(edges)

    def shares(x: Floats) -> Floats:
        counts = np.bincount(np.searchsorted(kept, x, side="right"), minlength=len(kept) + 1)
        # As if every pool had the size of the smallest one: smoothing must weigh alike on both sides.
        scaled = counts * (size / len(x)) + smoothing
        return np.asarray(scaled / scaled.sum())

    ours = shares(legit)
    theirs = np.mean([shares(x) for x in suspects.values()], axis=0)
    values = _not_falling(np.log(theirs / ours), ours + theirs)
    return LikelihoodRatio(edges, tuple(float(v) for v in values))


def _between(pooled: Floats, cuts: Floats) -> tuple[float, ...]:
    """Move each cut between two values that occur, so that no query falls on an edge."""
    distinct = np.unique(pooled)
    if len(distinct) < 2:  # noqa: PLR2004 - nothing to tell apart
        return ()
    place = np.clip(np.searchsorted(distinct, cuts, side="left"), 1, len(distinct) - 1)
    middle = (distinct[place - 1] + distinct[place]) / 2
    return tuple(float(v) for v in np.unique(middle) if v <= 0)


def _not_falling(values: Floats, weights: Floats) -> Floats:
    from sklearn.isotonic import IsotonicRegression

    places = np.arange(len(values))
    return np.asarray(IsotonicRegression().fit(places, values, sample_weight=weights).predict(places))

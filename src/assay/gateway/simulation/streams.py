"""Streams of log flip probabilities: honest profiles and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from assay.errors import InvalidInput
from assay.gateway.pricing.rule import FloatArray

__all__ = ["Profile", "as_pool", "cheapest", "standard_profiles", "tilted"]

_FURTHEST_TILT = 700.0


def as_pool(log_q: ArrayLike, what: str) -> FloatArray:
    """Check a pool of log flip probabilities: ``[n]``, not empty, at most 0, no NaN.

    Examples
    --------
    >>> as_pool([-1, -2], "noise")
    array([-1., -2.])
    """
    pool = np.asarray(log_q, dtype=np.float64)
    if pool.ndim != 1 or not pool.size or not bool(np.all(pool <= 0.0)):
        msg = f"the pool {what!r} must be a non-empty array [n] of log probabilities, at most 0 and not NaN"
        raise InvalidInput(msg)
    return pool


@dataclass(frozen=True)
class Profile:
    """Traffic of one kind of user: a pool, weights in it, and how long it stays in one place.

    Parameters
    ----------
    name
        Name in tables.
    log_q
        Pool of log flip probabilities, ``[n]``.
    weights
        Chance of each, ``[n]``, summing to 1; ``None`` for equal ones.
    burst
        Mean length of runs, at least 1. Within a run, queries come from one tenth of the
        ranked pool: frames of a hard video stay hard. Independent draws (1) are the
        friendliest assumption about an honest user, and never the true one.
    ordered
        Whether the pool is a recording: streams then repeat it in its order from a random
        start, and ``weights`` and ``burst`` must be left alone.

    Examples
    --------
    >>> Profile("steady", np.array([-5.0])).draw(np.random.default_rng(0), 2, 3)
    array([[-5., -5., -5.],
           [-5., -5., -5.]])
    """

    name: str
    log_q: FloatArray
    weights: FloatArray | None = None
    burst: float = 1.0
    ordered: bool = False

    def __post_init__(self) -> None:
        pool = as_pool(self.log_q, self.name)
        if not self.burst >= 1.0:
            msg = f"the mean run length of the profile {self.name!r} must be at least 1, got {self.burst}"
            raise InvalidInput(msg)
        if self.weights is not None and np.shape(self.weights) != pool.shape:
            msg = f"the profile {self.name!r} needs one weight per query of its pool"
            raise InvalidInput(msg)
        if self.ordered and (self.weights is not None or self.burst > 1.0):
            msg = f"the profile {self.name!r} is a recording; it has no weights and no runs of its own"
            raise InvalidInput(msg)
        object.__setattr__(self, "log_q", pool)

    def draw(self, rng: np.random.Generator, accounts: int, queries: int) -> FloatArray:
        """Draw streams, float64 ``[accounts, queries]``."""
        if self.ordered:
            start = rng.integers(self.log_q.size, size=(accounts, 1))
            return np.asarray(self.log_q[(start + np.arange(queries)) % self.log_q.size])
        order = np.argsort(self.log_q, kind="stable")
        weights = None if self.weights is None else self.weights[order]
        place = rng.choice(order.size, size=(accounts, queries), p=weights)
        if self.burst > 1.0:
            place = self._in_runs(rng, place)
        return self.log_q[order][place]

    def _in_runs(self, rng: np.random.Generator, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """Replace draws by draws near the last start of a run; the marginal stays nearly the same."""
        starts = rng.random(place.shape) < 1.0 / self.burst
        starts[:, 0] = True
        index = np.maximum.accumulate(np.where(starts, np.arange(place.shape[1]), 0), axis=1)
        centre = np.take_along_axis(place, index, axis=1)
        reach = max(1, self.log_q.size // 20)
        near = centre + rng.integers(-reach, reach + 1, size=place.shape)
        # Reflected at the ends, so that the hardest queries are not drawn more often than they occur.
        last = self.log_q.size - 1
        return np.asarray(np.abs(last - np.abs(last - np.abs(near))))


def tilted(name: str, log_q: ArrayLike, cost: ArrayLike, ratio: float) -> Profile:
    """Return the profile whose mean cost is ``ratio`` times the pool's, by exponential weights.

    The least change (in Kullback-Leibler divergence) that shifts the mean so far.

    Raises
    ------
    InvalidInput
        If no weights on this pool reach the ratio.

    Examples
    --------
    >>> profile = tilted("harder", [-9.0, -1.0], [0.0, 1.0], 1.5)
    >>> profile.weights.round(3)
    array([0.25, 0.75])
    """
    pool, values = as_pool(log_q, name), np.asarray(cost, dtype=np.float64)
    wanted = ratio * float(values.mean())
    spread = float(np.ptp(values))
    if values.shape != pool.shape or not values.min() < wanted < values.max():
        msg = f"no weights on this pool give the profile {name!r} a mean cost of {ratio:g} times the pool's"
        raise InvalidInput(msg)

    def weights(strength: float) -> FloatArray:
        raw = np.exp(strength * (values - (values.max() if strength > 0 else values.min())) / spread)
        return np.asarray(raw / raw.sum())

    strength = float(brentq(lambda s: float(weights(s) @ values) - wanted, -_FURTHEST_TILT, _FURTHEST_TILT))
    return Profile(name, pool, weights(strength))


def cheapest(log_q: ArrayLike, share: float) -> FloatArray:
    """Return the cheapest ``share`` of a pool: what somebody sends who knows the price.

    Examples
    --------
    >>> cheapest([-1.0, -9.0, -5.0, -2.0], 0.5)
    array([-9., -5.])
    """
    pool = np.sort(as_pool(log_q, "cheapest"))
    if not 0.0 < share <= 1.0:
        msg = f"a share of a pool lies in (0, 1], got {share}"
        raise InvalidInput(msg)
    return pool[: max(1, round(share * pool.size))]


def standard_profiles(log_q: ArrayLike, cost: ArrayLike) -> dict[str, Profile]:
    """Return honest profiles that shift one sample of traffic without new inputs.

    Profiles of changed inputs (one class only, blurred, darker) need the inputs and the
    estimator; these need neither, and stand beside them.

    Parameters
    ----------
    log_q
        Log flip probabilities of trusted traffic, ``[n]``.
    cost
        Cost of each, ``[n]``.

    Examples
    --------
    >>> profiles = standard_profiles(-np.arange(1.0, 101.0), np.linspace(1.0, 0.0, 100))
    >>> list(profiles)
    ['average', 'cost -10%', 'cost +10%', 'easy only', 'hard only', 'bursty']
    """
    pool = as_pool(log_q, "average")
    ranked = np.sort(pool)
    half = max(1, pool.size // 2)
    return {
        profile.name: profile
        for profile in (
            Profile("average", pool),
            tilted("cost -10%", pool, cost, 0.9),
            tilted("cost +10%", pool, cost, 1.1),
            Profile("easy only", ranked[:half]),
            Profile("hard only", ranked[-half:]),
            Profile("bursty", pool, burst=4.0),
        )
    }

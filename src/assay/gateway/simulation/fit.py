"""The part of a policy that simulation fits: alarm, deposit, reservations, and the unit itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.gateway.policy import Policy, Pricing
from assay.gateway.pricing.additive import item_units
from assay.gateway.simulation.alarms import ThresholdFit, drift, fit_threshold
from assay.gateway.simulation.play import play
from assay.gateway.simulation.streams import Profile, as_pool

__all__ = ["detection_queries", "fit_accounts", "fit_unit", "lower_ratios"]

_STEPS = 200


def fit_unit(policy: Policy, honest: ArrayLike) -> Policy:
    """Set ``mean_cost`` and ``base_units`` so that an average honest query costs one unit.

    Also sets ``p95_units``, what an item costs while the estimator is down.

    Examples
    --------
    >>> policy = fit_unit(Policy(), [-157.8, -0.7])
    >>> round(policy.pricing.mean_cost, 3), policy.pricing.typical_units
    (0.25, 1.0)
    """
    from assay.privacy import RenyiTable

    pool = as_pool(honest, "honest")
    pricing = policy.pricing
    # An estimator that never doubts its votes would divide by zero; the floor is far below any doubt.
    mean = max(float(RenyiTable(pricing.sigma, pricing.alpha0)(pool).mean()), 1e-12 * pricing.cost_ceiling)
    unit = {"mean_cost": mean, "base_units": 1.0 / (1.0 + pricing.beta)}
    scaled = _with_pricing(policy, unit)
    return _with_pricing(scaled, {"p95_units": float(np.quantile(item_units(scaled, pool), 0.95))})


def lower_ratios(pricing: Pricing, profiles: Sequence[Profile], *, margin: float = 0.1) -> Pricing:
    """Lower all log likelihood ratios until the sum falls on every honest profile.

    The ratios compare thieves with *average* honest users. A user who only asks hard
    questions looks a little like a thief; the constant by which ratios are lowered is the
    evidence per query that is given up for that user's sake.

    Parameters
    ----------
    pricing
        With fitted ratios, ``up`` and ``down``.
    profiles
        Honest profiles.
    margin
        Mean fall per query that every profile must keep, above 0.

    Raises
    ------
    InvalidInput
        If the margin is larger than ``down``.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-2.0,), llr_values=(-0.5, 1.5))
    >>> lower_ratios(pricing, [Profile("p", np.array([-9.0, -9.0, -9.0, -1.0]))]).llr_values
    (-0.6, 1.4)
    """
    if not 0.0 < margin < pricing.down:
        msg = f"the margin must lie between 0 and pricing.down = {pricing.down:g}, got {margin:g}"
        raise InvalidInput(msg)

    def lowered(by: float) -> Pricing:
        values = tuple(round(value - by, 6) for value in pricing.llr_values)
        return pricing.model_copy(update={"llr_values": values})

    def quiet(by: float) -> bool:
        return all(drift(lowered(by), profile) <= -margin + 1e-6 for profile in profiles)

    if quiet(0.0):
        return pricing
    low, high = 0.0, float(max(pricing.llr_values)) + pricing.down
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (low, middle) if quiet(middle) else (middle, high)
    return lowered(high)


def detection_queries(
    pricing: Pricing, suspect: ArrayLike, *, accounts: int = 400, rng: int | np.random.Generator = 0
) -> float:
    """Return the median number of queries until the alarm on a pool; ``inf`` if it takes above 200.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-2.0,), llr_values=(-0.5, 1.5), threshold=8.0)
    >>> detection_queries(pricing, [-0.7])
    6.0
    """
    generator = np.random.default_rng(rng)
    streams = generator.choice(as_pool(suspect, "suspect"), (accounts, _STEPS))
    alarms = play(Policy(pricing=pricing), streams).sums > pricing.threshold
    first = np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1.0, np.inf)
    return float(np.median(first))


def fit_accounts(
    policy: Policy,
    profiles: Sequence[Profile],
    suspects: Mapping[str, ArrayLike],
    *,
    target: float = 100_000.0,
    queries: int = 4_000_000,
    margins: Sequence[float] = (0.1, 0.2, 0.3, 0.5),
    deposit_items: float = 25.0,
    rng: int | np.random.Generator = 0,
) -> tuple[Policy, ThresholdFit]:
    """Fit everything that concerns accounts, for prices and likelihood ratios already fitted.

    - ratios are lowered until no honest profile drifts upwards (`lower_ratios`), by the margin
      at which the suspects are found soonest: a larger one gives up evidence per query but
      shortens what an honest run of hard queries adds up to;
    - the threshold leaves ``target`` honest queries between alarms on the worst profile;
    - the reservation per item is the mean price of the dearest suspect pool, so that leaving
      without paying never makes an item cheaper than its additive price;
    - the deposit is the price of ``deposit_items`` at the honest 95th percentile. The bound on
      split thefts does not rest on it (prices add up without it); it is what fresh accounts
      cost those who have nothing to pad with.

    Parameters
    ----------
    policy
        With additive pricing, unit and ratios fitted.
    profiles
        Honest profiles.
    suspects
        Pools of attack queries.
    target, queries
        See `fit_threshold`.
    margins
        Margins to choose from, see `lower_ratios`.
    deposit_items
        Size of the deposit in items.
    rng
        Seed; the same streams are used for every margin.

    Returns
    -------
    tuple
        The policy, and the threshold with the interval between alarms of each profile.

    Raises
    ------
    InvalidInput
        Without profiles, suspects or margins, and where `lower_ratios` or `fit_threshold` give up.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-2.0,), llr_values=(-1.0, 1.5))
    >>> profile = Profile("p", np.array([-9.0, -9.0, -9.0, -1.0]))
    >>> fitted, fit = fit_accounts(Policy(pricing=pricing), [profile], {"noise": [-0.7]}, queries=400_000)
    >>> 10.0 < fit.threshold < 30.0, fitted.pricing.reserve_units
    (True, 3.0)
    """
    if not profiles or not suspects or not margins:
        msg = "fitting needs honest profiles, suspect pools and margins, at least one of each"
        raise InvalidInput(msg)
    seed = int(np.random.default_rng(rng).integers(2**31))
    quick = max(queries // 4, 1)
    soonest, best = np.inf, margins[0]
    for margin in margins if len(margins) > 1 else ():
        tried = lower_ratios(policy.pricing, profiles, margin=margin)
        level = fit_threshold(tried, profiles, target=target, queries=quick, rng=seed).threshold
        tried = tried.model_copy(update={"threshold": level})
        # In logs, so that the pools that are hard to find do not decide alone.
        taken = [min(detection_queries(tried, pool, rng=seed), 2.0 * _STEPS) for pool in suspects.values()]
        if float(np.log(taken).mean()) < soonest:
            soonest, best = float(np.log(taken).mean()), margin
    quiet = lower_ratios(policy.pricing, profiles, margin=best)
    fit = fit_threshold(quiet, profiles, target=target, queries=queries, rng=seed)
    pricing = quiet.model_copy(update={"threshold": fit.threshold})
    dearest = max(float(item_units(policy, pool).mean()) for pool in suspects.values())
    reserve = max(pricing.p95_units, dearest)
    changes = {
        "llr_values": pricing.llr_values,
        "threshold": fit.threshold,
        "reserve_units": reserve,
        "debt_cap_units": max(policy.limits.max_items * reserve, pricing.free_units),
        "deposit_units": max(deposit_items * pricing.p95_units, pricing.free_units),
    }
    return _with_pricing(policy, changes), fit


def _with_pricing(policy: Policy, changes: Mapping[str, object]) -> Policy:
    """Return the policy with other pricing entries, all checks repeated."""
    pricing = Pricing.model_validate(policy.pricing.model_dump() | dict(changes))
    data = policy.model_dump(exclude={"signature"}) | {"pricing": pricing.model_dump()}
    return Policy.model_validate(data)

"""From measured log q to a policy: order, weight, likelihood ratios, alarm, deposit, unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput
from assay.gateway.calibrate.fit import INDISTINCT, choose_beta, choose_order, fit_likelihood_ratio
from assay.gateway.calibrate.measure import Timing
from assay.gateway.policy import Policy, Pricing
from assay.gateway.simulation import Overhead, Profile, fit_accounts, fit_hashes_per_unit, fit_unit, overheads

__all__ = ["Fitted", "fit_policy", "profiles_of", "with_pricing"]

Floats = NDArray[np.float64]

BURST = 8.0
"""Mean length of the runs in which a bursty user asks equally doubtful queries."""

_GROWTH = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)
_ALARM_COST = 1.1
_NEVER = 1e9


@dataclass(frozen=True)
class Fitted:
    """A policy and how it came about.

    Parameters
    ----------
    policy
        Unsigned.
    order_ratios
        See `assay.gateway.calibrate.fit.choose_order`.
    told_apart
        Suspect pools that the estimator tells from honest traffic.
    intervals
        Mean honest queries between alarms, by profile.
    """

    policy: Policy
    order_ratios: dict[float, dict[str, float]]
    told_apart: tuple[str, ...]
    intervals: dict[str, float]


def profiles_of(doubts: Mapping[str, Floats]) -> list[Profile]:
    """Return the honest profiles to simulate; the bursty one asks in runs."""
    return [Profile(name, x, burst=BURST if name == "bursty" else 1.0) for name, x in doubts.items()]


def with_pricing(policy: Policy, changes: Mapping[str, object]) -> Policy:
    """Return a policy with other entries under ``pricing``, all of its checks repeated."""
    pricing = Pricing.model_validate(policy.pricing.model_dump() | dict(changes))
    data = policy.model_dump(exclude={"signature"}) | {"pricing": pricing.model_dump()}
    return Policy.model_validate(data)


def fit_policy(
    basis: Policy,
    honest: Mapping[str, Floats],
    judged: Mapping[str, Floats],
    suspects: Mapping[str, Floats],
    *,
    sigma: float,
    timing: Timing,
    limit: float = 2.0,
    alarm_queries: float = 100_000.0,
    simulated: int = 2_000_000,
    accounts: int = 32,
    queries: int = 10_000,
    rng: int = 0,
) -> Fitted:
    """Fit everything under ``pricing``.

    Parameters
    ----------
    basis
        Everything that is not fitted: puzzle, limits, budgets, client rate, version.
    honest, judged
        log q of each honest profile, from two disjoint halves of the traffic: prices and
        alarms are fitted on the first, the unit of work on the second. ``"typical"`` must
        be among them.
    suspects
        log q of each suspect pool.
    sigma
        Noise that belongs to the estimator's log q.
    timing
        Seconds of an answer and of its price.
    limit
        Highest mean overhead of any honest profile, above 1.
    alarm_queries
        Queries between alarms of every honest profile that is not bursty.
    simulated, accounts, queries
        Sizes of the simulations.
    rng
        Seed.

    Raises
    ------
    InvalidInput
        If no suspect pool can be told apart, or pricing alone exceeds the limit.
    """
    typical = honest["typical"]
    alpha0, ratios = choose_order(typical, suspects, sigma, honest=honest)
    told = {name: x for name, x in suspects.items() if ratios[alpha0][name] >= INDISTINCT}
    if not told:
        dearest = max(ratios[alpha0].values())
        msg = (
            f"the estimator cannot tell any suspect pool from the traffic (the dearest costs {dearest:.2f} "
            "times as much); use another estimator, more private data, or check that the traffic is what it "
            "should be"
        )
        raise InvalidInput(msg)
    beta = choose_beta({name: ratios[alpha0][name] for name in told})
    policy = with_pricing(
        basis,
        {
            "sigma": sigma,
            "alpha0": alpha0,
            "beta": beta,
            "inference_seconds": timing.inference,
            "estimator_seconds": timing.estimator,
        },
    )
    policy = fit_unit(policy, typical)
    ratio = fit_likelihood_ratio(typical, told)
    steps = {
        "llr_edges": ratio.edges,
        "llr_values": ratio.values,
        "up": max(0.1, *ratio.values),
        "down": max(0.2, -min(ratio.values)),
    }
    policy = with_pricing(policy, steps)
    # Runs of doubtful queries are no independent draws: no threshold that leaves a bursty user in peace for
    # 100,000 queries would find a thief in time. What such users pay is bounded instead, below.
    calm = [p for p in profiles_of(honest) if p.burst == 1.0]
    policy, alarm = fit_accounts(policy, calm, told, target=alarm_queries, queries=simulated, rng=rng)
    policy, table = _raise_threshold(policy, profiles_of(judged), accounts, queries, rng)
    policy = with_pricing(policy, {"hashes_per_unit": fit_hashes_per_unit(policy, table, limit=limit)})
    return Fitted(policy, ratios, tuple(told), alarm.intervals)


def _raise_threshold(
    policy: Policy, profiles: list[Profile], accounts: int, queries: int, rng: int
) -> tuple[Policy, dict[str, Overhead]]:
    """Raise the threshold until alarms add at most a tenth to the dearest honest bill."""

    def bills(candidate: Policy) -> dict[str, Overhead]:
        return overheads(candidate, profiles, accounts=accounts, queries=queries, rng=rng)

    def dearest(table: dict[str, Overhead]) -> float:
        return max(row.units for row in table.values())

    allowed = _ALARM_COST * dearest(bills(with_pricing(policy, {"threshold": _NEVER})))
    level = policy.pricing.threshold
    for factor in _GROWTH:
        raised = with_pricing(policy, {"threshold": level * factor})
        table = bills(raised)
        if dearest(table) <= allowed:
            break
    return raised, table

"""What honest users pay: plain inference, plus pricing, plus solving, over plain inference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from assay.errors import InvalidInput
from assay.gateway.policy import Policy
from assay.gateway.simulation.play import play, released
from assay.gateway.simulation.streams import Profile

__all__ = ["Overhead", "fit_hashes_per_unit", "honest_overhead", "overheads"]


@dataclass(frozen=True, slots=True)
class Overhead:
    """The bill of one honest profile.

    Parameters
    ----------
    name
        Profile.
    queries
        Queries per account.
    units
        Mean units per query. Included are the deposit, less what came back, and what was paid
        ahead for items not billed yet, as if the account were left behind with all of it.
    overhead
        (inference + estimator + solving) / inference, mean over accounts.
    worst
        The same at the 95th percentile of accounts.
    alarms
        Share of accounts that raised an alarm.
    """

    name: str
    queries: int
    units: float
    overhead: float
    worst: float
    alarms: float


def honest_overhead(policy: Policy, units_per_query: float) -> float:
    """Return (inference + estimator + solving) / inference for a mean price.

    All three parts count: the published 1.0-1.2 compares with a time that already holds
    the cost of running 250 teachers.

    Examples
    --------
    >>> from assay.gateway.policy import Pricing
    >>> pricing = Pricing(inference_seconds=0.01, estimator_seconds=0.001, hashes_per_unit=5000.0)
    >>> round(honest_overhead(Policy(pricing=pricing), 1.0), 3)
    1.6
    """
    pricing = policy.pricing
    solving = units_per_query * pricing.hashes_per_unit / pricing.expected_rate_hz
    return 1.0 + (pricing.estimator_seconds + solving) / pricing.inference_seconds


def overheads(
    policy: Policy,
    profiles: Iterable[Profile],
    *,
    queries: int = 10_000,
    accounts: int = 64,
    rng: int | np.random.Generator = 0,
) -> dict[str, Overhead]:
    """Simulate honest accounts of each profile.

    Examples
    --------
    >>> table = overheads(Policy(), [Profile("ties", np.array([-0.7]))], queries=100, accounts=2)
    >>> round(table["ties"].units, 3)
    4.696
    """
    generator = np.random.default_rng(rng)
    table = {}
    for profile in profiles:
        played = play(policy, profile.draw(generator, accounts, queries))
        pricing = policy.pricing
        deposit = pricing.deposit_units - released(policy, played.sums)[:, -1]
        ahead = max(0.0, pricing.billing_items * pricing.reserve_units - pricing.free_units)
        each = (played.units.sum(axis=1) + deposit + ahead) / queries
        table[profile.name] = Overhead(
            profile.name,
            queries,
            float(each.mean()),
            honest_overhead(policy, float(each.mean())),
            honest_overhead(policy, float(np.quantile(each, 0.95))),
            float(np.mean(played.sums.max(axis=1) > policy.pricing.threshold)),
        )
    return table


def fit_hashes_per_unit(policy: Policy, table: dict[str, Overhead], *, limit: float = 2.0) -> float:
    """Return the hashes per unit at which the dearest honest profile costs ``limit`` times plain inference.

    Parameters
    ----------
    policy
        With measured ``inference_seconds`` and ``estimator_seconds``.
    table
        From `overheads`.
    limit
        Highest overhead, above 1; the mean over accounts of a profile is held to it.

    Raises
    ------
    InvalidInput
        If the estimator alone exceeds the limit.

    Examples
    --------
    >>> table = {"a": Overhead("a", 100, 2.0, 0.0, 0.0, 0.0)}
    >>> fit_hashes_per_unit(Policy(), table)
    2500.0
    """
    pricing = policy.pricing
    left = (limit - 1.0) * pricing.inference_seconds - pricing.estimator_seconds
    if left <= 0.0:
        msg = (
            f"pricing takes {pricing.estimator_seconds:.4g} s per query and inference"
            f" {pricing.inference_seconds:.4g} s, so nothing keeps honest users within {limit:g} times;"
            " say how long an answer takes in production (--inference-seconds), or use a faster estimator"
            " (gap, heads, distilled)"
        )
        raise InvalidInput(msg)
    return left * pricing.expected_rate_hz / max(row.units for row in table.values())

"""What thieves pay per useful query: one account, the best split, the best padding, both.

Every way of cutting a theft into accounts is covered by one simulated stream, because an
account that stops after n queries has paid the first n prices. The attacker of these
tables knows the policy, is assumed to leave its last prices unpaid, and as the
``adaptive`` padder even knows the account's sum and the score of its next query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import InvalidInput
from assay.gateway.policy import Policy
from assay.gateway.pricing.additive import item_units
from assay.gateway.pricing.cusum import increments, multiplier
from assay.gateway.pricing.rule import FloatArray
from assay.gateway.simulation.bound import likelihood_bound
from assay.gateway.simulation.play import Played, play, released
from assay.gateway.simulation.streams import as_pool, cheapest

__all__ = ["PADDINGS", "AttackCost", "Plan", "attack_cost", "attack_costs", "padded_streams"]

PADDINGS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Harmless queries per useful one."""

_WARM = 100
_WINDOW = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to steal and its price.

    Parameters
    ----------
    ratio
        Work per useful query over the work of an average honest query.
    useful
        Useful queries per account before it is given up.
    padding
        Harmless queries per useful one; ``nan`` for the adaptive padder.
    """

    ratio: float
    useful: int
    padding: float


@dataclass(frozen=True, slots=True)
class AttackCost:
    """What one pool of attack queries costs, all in multiples of an average honest query.

    Parameters
    ----------
    name
        Pool.
    stateless
        Additive price alone: what any number of accounts pays at least, if every price is paid.
    bound
        Largest ratio that *any* price of single queries could reach (see `likelihood_bound`).
    single
        The whole theft on one account, deposit included.
    after_100
        Queries 101 to 200 of one account.
    detected
        Median queries until the alarm on one account; ``inf`` if none came.
    split
        Best number of queries per account without padding, the last prices left unpaid.
    padded
        Best padding on one account that pays all its prices.
    best
        Best of all plans: any split, any padding, the last prices left unpaid.
    cheap_half
        Additive price of the cheaper half of the pool: an attacker who knows prices and
        gives up the rest.
    """

    name: str
    stateless: float
    bound: float
    single: float
    after_100: float
    detected: float
    split: Plan
    padded: Plan
    best: Plan
    cheap_half: float


def padded_streams(
    rng: np.random.Generator, useful: ArrayLike, pads: ArrayLike, padding: float, accounts: int, queries: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Draw streams with ``padding`` pads per useful query, evenly interleaved.

    Returns log q and which queries are useful, both ``[accounts, queries]``.

    Examples
    --------
    >>> streams, mask = padded_streams(np.random.default_rng(0), [-1.0], [-90.0], 1.0, 1, 4)
    >>> streams, mask.tolist()
    (array([[-90.,  -1., -90.,  -1.]]), [[False, True, False, True]])
    """
    share = 1.0 / (1.0 + padding)
    mask = np.diff(np.floor(np.arange(queries + 1) * share + 1e-9)).astype(bool)
    shape = (accounts, queries)
    streams = np.where(mask, rng.choice(np.asarray(useful), shape), rng.choice(np.asarray(pads), shape))
    return streams, np.broadcast_to(mask, shape)


def _adaptive(
    policy: Policy, rng: np.random.Generator, useful: FloatArray, pads: FloatArray, shape: tuple[int, int]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Send a useful query whenever it does not lift the sum over the threshold, else a pad."""
    pricing = policy.pricing
    first, second = rng.choice(useful, shape), rng.choice(pads, shape)
    up, down = increments(pricing, first), increments(pricing, second)
    mask, current = np.empty(shape, dtype=bool), np.zeros(shape[0])
    for place in range(shape[1]):
        safe = current + up[:, place] <= pricing.threshold
        mask[:, place] = safe
        current = np.maximum(current + np.where(safe, up[:, place], down[:, place]), 0.0)
    return np.where(mask, first, second), mask


def _collected(policy: Policy, played: Played, batch: int) -> FloatArray:
    """Return the work delivered by an account that stops after each query and leaves its debt.

    Before every batch an account has paid all earlier prices and holds the reservation of
    the batch, but for the free units; what the batch costs beyond that stays unpaid.
    """
    pricing = policy.pricing
    back = released(policy, played.sums)
    owed = np.cumsum(played.units, axis=1) - back
    accounts, queries = owed.shape
    starts = np.arange(0, queries, batch)
    before = np.concatenate([np.zeros((accounts, 1)), owed[:, starts[1:] - 1]], axis=1)
    sums = np.concatenate([np.zeros((accounts, 1)), played.sums[:, starts[1:] - 1]], axis=1)
    held = np.minimum(batch, queries - starts) * pricing.reserve_units * multiplier(pricing, sums)
    paid = np.maximum.accumulate(np.maximum(0.0, before + held - pricing.free_units), axis=1)
    # Reservations come back as credit when they were too high, so nobody delivers more than all prices
    # unless the account is left with credit, which a thief avoids.
    delivered = np.repeat(paid, batch, axis=1)[:, :queries]
    return np.asarray(pricing.deposit_units + np.minimum(delivered, np.maximum(owed, 0.0)))


def attack_cost(
    policy: Policy,
    name: str,
    suspect: ArrayLike,
    honest: ArrayLike,
    *,
    queries: int = 10_000,
    accounts: int = 48,
    paddings: Sequence[float] = PADDINGS,
    rng: int | np.random.Generator = 0,
) -> AttackCost:
    """Search the cheapest way to have ``queries`` useful answers from one pool.

    Parameters
    ----------
    policy
        With additive pricing.
    name, suspect
        The attack's pool of log flip probabilities, ``[n]``.
    honest
        Trusted traffic, ``[n]``: its mean price is the unit of the table, and its cheapest
        tenth is what attackers pad with.
    queries
        Useful queries that the theft needs.
    accounts
        Simulated accounts per plan.
    paddings
        Pads per useful query to try beside the adaptive padder.
    rng
        Seed or generator.

    Raises
    ------
    InvalidInput
        If there are fewer than 200 queries, or a pool is no pool.

    Examples
    --------
    >>> cost = attack_cost(Policy(), "ties", [-0.7], [-157.0, -0.7], queries=200, accounts=4)
    >>> round(cost.stateless, 3), cost.best.padding
    (1.714, 0.0)
    """
    if queries < _WARM + _WINDOW:
        msg = f"a theft of fewer than {_WARM + _WINDOW} queries says nothing about accounts, got {queries}"
        raise InvalidInput(msg)
    generator = np.random.default_rng(rng)
    pool, trusted = as_pool(suspect, name), as_pool(honest, "honest")
    pads = cheapest(trusted, 0.1)
    unit = float(item_units(policy, trusted).mean())
    plans: list[Plan] = []
    padded: list[Plan] = []
    batches = (1, policy.limits.max_items, policy.limits.max_items * policy.limits.account_concurrency)
    for padding in (*paddings, float("nan")):
        # An account that pads is followed long enough to see its drift; longer adds nothing but time.
        length = queries if padding == 0.0 else min(queries, 4000)
        shape = (accounts, length)
        if np.isnan(padding):
            streams, mask = _adaptive(policy, generator, pool, pads, shape)
        else:
            streams, mask = padded_streams(generator, pool, pads, padding, *shape)
        played = play(policy, streams)
        done = np.cumsum(mask, axis=1).mean(axis=0)
        padded.append(_on_one_account(policy, played, done, padding, unit))
        plans.extend(
            _best_length(_collected(policy, played, batch).mean(axis=0), done, padding, unit)
            for batch in batches
        )
        if padding == 0.0:
            plain = played
            split = min(plans, key=lambda plan: plan.ratio)
    alarms = plain.sums > policy.pricing.threshold
    first = np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1.0, np.inf)
    return AttackCost(
        name=name,
        stateless=float(item_units(policy, pool).mean()) / unit,
        bound=likelihood_bound(trusted, pool),
        single=float((plain.units.sum(axis=1).mean() + policy.pricing.deposit_units) / queries) / unit,
        after_100=float(plain.units[:, _WARM : _WARM + _WINDOW].mean()) / unit,
        detected=float(np.median(first)),
        split=split,
        padded=min(padded, key=lambda plan: plan.ratio),
        best=min(plans, key=lambda plan: plan.ratio),
        cheap_half=float(item_units(policy, cheapest(pool, 0.5)).mean()) / unit,
    )


def _on_one_account(policy: Policy, played: Played, done: FloatArray, padding: float, unit: float) -> Plan:
    """Return the price per useful query of an account that stays and pays."""
    total = float(played.units.sum(axis=1).mean()) + policy.pricing.deposit_units
    total -= float(released(policy, played.sums)[:, -1].mean())
    return Plan(float(total / max(done[-1], 1e-9) / unit), int(done[-1]), padding)


def _best_length(collected: FloatArray, done: FloatArray, padding: float, unit: float) -> Plan:
    """Return the number of queries per account at which a useful one is cheapest."""
    each = np.divide(collected, done, out=np.full_like(collected, np.inf), where=done >= 1.0)
    place = int(np.argmin(each))
    return Plan(float(each[place]) / unit, int(done[place]), padding)


def attack_costs(
    policy: Policy,
    suspects: Mapping[str, ArrayLike],
    honest: ArrayLike,
    *,
    queries: int = 10_000,
    accounts: int = 48,
    rng: int | np.random.Generator = 0,
) -> dict[str, AttackCost]:
    """Return `attack_cost` of every pool."""
    generator = np.random.default_rng(rng)
    return {
        name: attack_cost(policy, name, pool, honest, queries=queries, accounts=accounts, rng=generator)
        for name, pool in suspects.items()
    }

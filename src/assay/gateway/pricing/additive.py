"""The default rule: prices add up, and a cumulative sum multiplies those of a suspect account.

A query costs ``base_units * (1 + beta * c / mean_cost) * M`` with ``c`` its Renyi
divergence at one order. Sums do not care how they are split, so many accounts pay what
one pays; no query lowers a bill, so padding only adds to it; a user who is cheaper than
the average simply pays less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from assay.gateway.account import AccountState
from assay.gateway.policy import Policy
from assay.gateway.pricing.cusum import increment, increments, multiplier, walk
from assay.gateway.pricing.rule import BoolArray, FloatArray, Settlement, as_items
from assay.gateway.pricing.volume import volume_factor
from assay.privacy.composition import to_epsilon
from assay.privacy.gnmax import data_independent
from assay.privacy.table import RenyiTable

__all__ = ["AdditiveRule", "item_units"]


@lru_cache(maxsize=16)
def _table(sigma: float, orders: tuple[float, ...]) -> RenyiTable:
    """Tables depend on two policy entries only, and several rules share them."""
    return RenyiTable(sigma, orders if len(orders) > 1 else orders[0])


def item_units(policy: Policy, log_q: ArrayLike) -> FloatArray:
    """Return the price of items before any multiplier: the stateless part.

    Items without a score (NaN) cost the 95th percentile of honest prices.

    Examples
    --------
    >>> item_units(Policy(), [-157.8, -0.7, float("nan")]).round(3)
    array([0.5, 3. , 2. ])
    """
    pricing = policy.pricing
    values = np.asarray(log_q, dtype=np.float64)
    missing = np.isnan(values)
    cost = _table(pricing.sigma, (pricing.alpha0,))(np.where(missing, 0.0, values))
    units = pricing.base_units * (1.0 + pricing.beta * cost / pricing.mean_cost)
    return np.where(missing, pricing.p95_units, units)


def item_price(policy: Policy, log_q: float) -> float:
    """Return the price of one scored item before any multiplier, see `item_units`.

    Examples
    --------
    >>> round(item_price(Policy(), -157.8), 3)
    0.5
    """
    pricing = policy.pricing
    cost = float(_table(pricing.sigma, (pricing.alpha0,)).one(log_q))
    return pricing.base_units * (1.0 + pricing.beta * cost / pricing.mean_cost)


@dataclass(frozen=True, slots=True)
class _Priced:
    """Prices of items, and where the cumulative sum went; ``path`` has no entry for a repeat."""

    units: FloatArray
    multiplier: FloatArray
    flags: tuple[str, ...]
    total: float
    cusum: float
    path: Sequence[float]

    def settlement(self, billed: float) -> Settlement:
        return Settlement(self.units, self.multiplier, self.flags, billed)


@dataclass(frozen=True)
class AdditiveRule:
    """Additive prices with a one-sided cumulative sum, deposits and reservations.

    Parameters
    ----------
    policy
        All numbers come from ``policy.pricing`` and ``policy.tiers``.

    Notes
    -----
    A repeated item costs the base price only, adds nothing to the privacy account and does
    not move the sum: the account learns nothing new, and must not be able to buy a clean
    record with copies of one harmless input.

    Examples
    --------
    >>> rule = AdditiveRule(Policy())
    >>> state = AccountState("a", deposited=128.0)
    >>> state, settlement = rule.settle(state, [-157.8, -0.7])
    >>> settlement.units.round(3), round(state.pending, 3), state.debt
    (array([0.5, 3. ]), 3.5, 0.0)
    >>> rule.due(state, 1), round(rule.due(state, 8), 3)
    (0.0, 19.872)
    """

    policy: Policy
    name: str = field(default="additive", init=False)

    def quote(self, state: AccountState, log_q: ArrayLike, duplicates: ArrayLike | None = None) -> Settlement:
        """Price items without charging them."""
        return self._priced(state, *as_items(log_q, duplicates)).settlement(0.0)

    def settle(
        self, state: AccountState, log_q: ArrayLike, duplicates: ArrayLike | None = None
    ) -> tuple[AccountState, Settlement]:
        """Price answered items, charge them, and move the account's sum and privacy account."""
        values, repeats = as_items(log_q, duplicates)
        found = self._priced(state, values, repeats)
        pricing, fresh, rdp, epsilon = self.policy.pricing, len(found.path), state.rdp, state.epsilon
        if fresh or len(rdp) != len(pricing.orders):
            spent = self._spent(state) + self._divergence(values[~repeats])
            rdp = tuple(spent.tolist())
        if fresh:
            epsilon = float(to_epsilon(spent, pricing.orders, self.policy.budgets.delta)[0])
        # Repeats have a known price, so they must not help to fill a bill that hides one other item;
        # the second limit keeps a million of them from staying unbilled.
        pending, items = state.pending + found.total, state.pending_items + fresh
        dearest = max(pricing.reserve_units, pricing.item_ceiling) * self._volume(state.counted)
        dear = pending >= pricing.billing_items * dearest
        # An alarm bills at once: what it costs to go on must be due before going on.
        due = items >= pricing.billing_items or dear or "alarm" in found.flags or pricing.timing == "exact"
        billed = pending if due else 0.0
        left = state.balance - billed
        settled = replace(
            state,
            queries=state.queries + values.size,
            volume=None if state.volume is None else state.volume + fresh,
            cusum=found.cusum,
            rdp=rdp,
            epsilon=epsilon,
            pending=0.0 if due else pending,
            pending_items=0 if due else items,
            debt=max(0.0, -left),
            credit=max(0.0, left),
        )
        return self._release(settled, found.path), found.settlement(billed)

    def _priced(self, state: AccountState, values: FloatArray, repeats: BoolArray) -> _Priced:
        if values.size == 1:
            return self._price_one(state, values.item(), repeat=repeats.item())
        return self._price(state, values, repeats)

    def _price_one(self, state: AccountState, log_q: float, *, repeat: bool) -> _Priced:
        """Price one item as `_price` would: most requests have one, and arrays of one are slow."""
        pricing, missing = self.policy.pricing, math.isnan(log_q)
        step = 0.0 if repeat else increment(pricing, log_q)
        cusum = min(max(0.0, state.cusum + step), pricing.cusum_ceiling)
        factor = 1.0 if cusum <= pricing.threshold else float(multiplier(pricing, cusum))
        units = pricing.base_units
        if not repeat:
            factor *= self._volume(state.counted + 1)
            units = pricing.p95_units if missing else item_price(self.policy, log_q)
        units *= factor * self.policy.tier(state.tier).price_factor
        alarm = state.cusum <= pricing.threshold < cusum
        flags = {"alarm": alarm, "duplicates": repeat, "unscored": missing}
        return _Priced(
            np.array([units]),
            np.array([factor]),
            tuple(name for name, raised in flags.items() if raised),
            total=units,
            cusum=cusum,
            path=() if repeat else (cusum,),
        )

    def _price(self, state: AccountState, values: FloatArray, repeats: BoolArray) -> _Priced:
        """Price items, and follow the cumulative sum."""
        pricing = self.policy.pricing
        path = walk(pricing, np.where(repeats, 0.0, increments(pricing, values)), state.cusum)
        factors = multiplier(pricing, path)
        if pricing.volume.free_items:
            # A repeat costs its base price, and takes no place in the volume either.
            counts = state.counted + np.cumsum(~repeats)
            factors = factors * np.where(repeats, 1.0, volume_factor(pricing.volume, counts))
        single = np.where(repeats, pricing.base_units, item_units(self.policy, values))
        flags = []
        if path.size and state.cusum <= pricing.threshold < float(path.max()):
            flags.append("alarm")
        if bool(repeats.any()):
            flags.append("duplicates")
        if bool(np.isnan(values).any()):
            flags.append("unscored")
        units = single * factors * self.policy.tier(state.tier).price_factor
        return _Priced(
            units,
            factors,
            tuple(flags),
            total=float(units.sum()),
            cusum=float(path[-1]) if path.size else state.cusum,
            path=path[~repeats].tolist(),
        )

    def _spent(self, state: AccountState) -> FloatArray:
        """Return the account's divergences; other orders restart them at the data-independent bound."""
        orders = self.policy.pricing.orders
        if len(state.rdp) == len(orders):
            return np.asarray(state.rdp)
        if not state.rdp:
            return np.zeros(len(orders))
        return state.queries * data_independent(self.policy.pricing.sigma, orders)

    def _divergence(self, log_q: FloatArray) -> FloatArray:
        """Return the composed divergence of the items; one without a score counts as a tie."""
        pricing = self.policy.pricing
        table = _table(pricing.sigma, pricing.orders)
        if log_q.size == 1:
            one = log_q.item()
            return table.one(0.0 if math.isnan(one) else one)
        rows = table(np.where(np.isnan(log_q), 0.0, log_q))
        return np.asarray(rows.reshape(log_q.size, len(pricing.orders)).sum(axis=0))

    def _release(self, state: AccountState, path: Sequence[float]) -> AccountState:
        """Return the deposit bit by bit while the account's sum is below its threshold."""
        pricing = self.policy.pricing
        if not pricing.deposit_release_queries or state.collateral <= 0.0:
            return state
        quiet = sum(value <= pricing.threshold for value in path)
        return state.release(state.deposited * quiet / pricing.deposit_release_queries)

    def _volume(self, counted: float) -> float:
        """Return what volume multiplies the price of one item by."""
        volume = self.policy.pricing.volume
        if not volume.free_items or counted <= volume.free_items:
            return 1.0
        return float(volume_factor(volume, counted))

    def _rate(self, state: AccountState, n_items: int) -> float:
        """Return the units to hold per item: the account's present multiplier and its volume count."""
        pricing = self.policy.pricing
        # Asked several times for every request, nearly always of an account below the threshold.
        factor = 1.0 if state.cusum <= pricing.threshold else float(multiplier(pricing, state.cusum))
        factor *= self._volume(state.counted + n_items)
        return pricing.reserve_units * factor * self.policy.tier(state.tier).price_factor

    def reserve(self, state: AccountState, n_items: int) -> float:
        """Units to hold for ``n_items`` that are not scored yet."""
        return n_items * self._rate(state, n_items)

    def due(self, state: AccountState, n_items: int, quoted: float | None = None) -> float:
        """Everything owed and held, or 0 while that stays within the free units.

        Items that are not billed yet count with their reservation, not with their price.
        """
        ahead = self.reserve(state, n_items) if quoted is None else quoted
        unbilled = state.pending_items * self.policy.pricing.reserve_units * self._volume(state.counted)
        exposure = state.reserved + unbilled + ahead - state.balance
        return exposure if exposure > self.policy.pricing.free_units else 0.0

    def deposit_due(self, state: AccountState) -> float:
        """Units that a new identity must deposit first."""
        if state.deposited > 0.0 or state.queries > 0:
            return 0.0
        return self.policy.pricing.deposit_units * self.policy.tier(state.tier).deposit_factor

    def accept(self, state: AccountState, units: float, *, deposit: bool = False) -> AccountState:
        """Book delivered work."""
        part = min(units, self.deposit_due(state)) if deposit else 0.0
        return (state.deposit(part) if part else state).pay(units - part)

    def fits(self, state: AccountState, n_items: int) -> bool:
        """Whether the items may be in flight together with those that are; alone they always may.

        Unsettled items cannot move the sum yet, so this cap, not the money, bounds how many
        of them run ahead of an alarm.
        """
        held = state.reserved + self.reserve(state, n_items)
        return state.reserved <= 0.0 or held <= self.policy.pricing.debt_cap_units

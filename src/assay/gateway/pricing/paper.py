"""The published rule, kept for comparison: exponential in the deviation of a running total.

Dziedzic et al. 2022, section 3.2 and appendix: every query is converted to (epsilon,
delta) on its own and the epsilons are added; a least-squares line over honest users gives
the expected total; the wanted time is exponential in the absolute deviation from it; a
second line turns time into leading zero bits. Its weaknesses are kept too: splitting,
padding and being cheaper than average all work as they do in the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from assay.gateway.account import AccountState
from assay.gateway.policy import PaperPricing, Policy
from assay.gateway.pricing.rule import Settlement, as_items
from assay.privacy.orders import PUBLISHED_ORDERS
from assay.privacy.table import EpsilonTable

__all__ = ["PaperRule", "paper_bits", "paper_expected", "paper_seconds"]


@lru_cache(maxsize=8)
def _table(sigma: float, delta: float) -> EpsilonTable:
    return EpsilonTable(sigma, delta, orders=PUBLISHED_ORDERS)


def paper_expected(paper: PaperPricing, queries: float) -> float:
    """Return the total privacy cost expected of an honest user after ``queries``.

    Examples
    --------
    >>> round(paper_expected(PaperPricing(), 10_000), 3)
    2570.197
    """
    return paper.slope * queries + paper.intercept


def paper_seconds(paper: PaperPricing, queries: float, total: float) -> float:
    """Return the wanted solving time in seconds for a user with this total.

    Examples
    --------
    >>> paper = PaperPricing()
    >>> round(paper_seconds(paper, 1000, 530.1), 4), round(paper_seconds(paper, 10_000, 5301.0), 3)
    (8.5969, 2948.468)
    """
    deviation = abs(total - paper_expected(paper, queries))
    exponent = deviation * math.log(paper.base)
    # Compared in logs: base ** deviation overflows for a total of a few hundred thousand.
    capped = exponent >= math.log(paper.max_seconds)
    seconds = paper.max_seconds if capped else max(math.exp(exponent), paper.min_seconds)
    return seconds - 1.0 if queries == 0 else seconds


def paper_bits(paper: PaperPricing, seconds: float) -> int:
    """Return the leading zero bits for a solving time; whole bits, as published.

    Examples
    --------
    >>> [paper_bits(PaperPricing(), t) for t in (0.1, 1.0, 100.0, 2948.47)]
    [16, 18, 25, 30]
    """
    if seconds <= 0.0:
        return paper.min_bits
    predicted = paper.bits_slope * math.log10(seconds) + paper.bits_intercept
    return min(int(max(predicted, paper.min_bits)), paper.max_bits)


@dataclass(frozen=True)
class PaperRule:
    """One puzzle per request, priced on the account's running sum of epsilons.

    Parameters
    ----------
    policy
        Numbers come from ``policy.pricing`` (sigma, delta, hashes_per_unit) and
        ``policy.pricing.paper``.

    References
    ----------
    Dziedzic, Kaleem, Lu and Papernot, "Increasing the Cost of Model Extraction with
    Calibrated Proof of Work", ICLR 2022.

    Examples
    --------
    >>> rule = PaperRule(Policy.model_validate({"pricing": {"mode": "paper", "sigma": 10.0}}))
    >>> state, settlement = rule.settle(AccountState("a"), [-157.847191] * 10)
    >>> round(state.epsilon, 4), settlement.total == 2.0**18 / 4096
    (1.8826, True)
    """

    policy: Policy
    name: str = field(default="paper", init=False)

    def _hashes(self, queries: int, total: float) -> float:
        paper = self.policy.pricing.paper
        return 2.0 ** paper_bits(paper, paper_seconds(paper, queries, total))

    def _total(
        self, state: AccountState, log_q: ArrayLike, duplicates: ArrayLike | None
    ) -> tuple[int, float]:
        """Return queries and sum of epsilons with these items; a missing score counts as a tie."""
        values, _ = as_items(log_q, duplicates)
        pricing = self.policy.pricing
        each = _table(pricing.sigma, pricing.delta)(np.where(np.isnan(values), 0.0, values))
        return state.queries + values.size, state.epsilon + float(each.sum())

    def quote(self, state: AccountState, log_q: ArrayLike, duplicates: ArrayLike | None = None) -> Settlement:
        """Price a request without charging it; the puzzle is spread evenly over its items."""
        queries, total = self._total(state, log_q, duplicates)
        count = queries - state.queries
        units = self._hashes(queries, total) / self.policy.pricing.hashes_per_unit
        return Settlement(
            np.full(count, units / max(count, 1)), np.ones(count), billed=units if count else 0.0
        )

    def settle(
        self, state: AccountState, log_q: ArrayLike, duplicates: ArrayLike | None = None
    ) -> tuple[AccountState, Settlement]:
        """Charge one puzzle for the request and add its epsilons to the running total."""
        settlement = self.quote(state, log_q, duplicates)
        queries, total = self._total(state, log_q, duplicates)
        # The published price does not depend on it; a later policy's may, and operators see it.
        fresh = int(np.count_nonzero(~as_items(log_q, duplicates)[1]))
        volume = None if state.volume is None else state.volume + fresh
        charged = state.charge(settlement.total)
        return replace(charged, queries=queries, epsilon=total, volume=volume), settlement

    def reserve(self, state: AccountState, n_items: int) -> float:  # noqa: ARG002 - the protocol's signature
        """Nothing is held: the published rule knows no reservations."""
        return 0.0

    def due(self, state: AccountState, n_items: int, quoted: float | None = None) -> float:  # noqa: ARG002 - the protocol's signature
        """Return what is owed; a first request pays the puzzle of an empty account."""
        ahead = quoted or 0.0
        if quoted is None and state.queries == 0:
            ahead = self._hashes(0, 0.0) / self.policy.pricing.hashes_per_unit
        return max(0.0, ahead - state.balance)

    def deposit_due(self, state: AccountState) -> float:  # noqa: ARG002 - the protocol's signature
        """Return 0: identities are free in the published rule."""
        return 0.0

    def accept(self, state: AccountState, units: float, *, deposit: bool = False) -> AccountState:  # noqa: ARG002 - the protocol's signature
        """Book delivered work."""
        return state.pay(units)

    def fits(self, state: AccountState, n_items: int) -> bool:  # noqa: ARG002 - the protocol's signature
        """Return True: the published rule has no cap on work in flight."""
        return True

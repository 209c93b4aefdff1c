"""Terms of a request as plain numbers, so that tests of the store need no policy."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gateway.account import AccountState
from assay.gateway.policy import VolumePricing
from assay.gateway.pricing.budgets import Decision, Usage


@dataclass(frozen=True)
class Terms:
    """A flat reservation per item, all debt above what is free, and a cap on what is open."""

    reserve_units: float
    cap_units: float
    free_units: float = 0.0
    deposit_units: float = 0.0
    credit_seconds: float = 7 * 86_400.0
    max_credit_units: float = float("inf")
    volume: VolumePricing | None = None

    def reserve(self, state: AccountState, n_items: int) -> float:
        return self.reserve_units * n_items

    def deposit_part(self, state: AccountState, units: float) -> float:
        return min(units, max(0.0, self.deposit_units - state.deposited))

    def decide(self, state: AccountState, usage: Usage, n_items: int) -> Decision:
        exposed = state.reserved + self.reserve(state, n_items) - state.balance
        owed = max(state.debt if state.debt > self.free_units else 0.0, exposed - self.cap_units, 0.0)
        missing = self.deposit_units - state.deposited
        if missing > 0.0:
            return Decision("price", missing + owed, deposit=True, reason="a deposit is due")
        return Decision("price", owed, reason="work is due") if owed > 0.0 else Decision("serve")

"""What the gateway asks of its store: the protocol, its questions and its answers.

Every method is one transaction. The store decides nothing about prices: the pricing
rule is a pure function that runs between a locked read and the write, and what the
gateway wants of a request comes in as `Terms`. Money-like quantities are *units* of
work; inside a store they are whole millionths, so that books balance exactly.
Times are seconds since the epoch and are always given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from assay.errors import AssayError
from assay.gateway.store.exchange import Admission, Banked, Bill, Claim, Outcome, Settled
from assay.gateway.store.rows import (
    AccountView,
    AlarmRow,
    CustomerRow,
    JournalRow,
    KeyRow,
    PolicyRow,
    QueryRow,
    Retention,
    Swept,
    TimeBucket,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assay.gateway.account import AccountState
    from assay.gateway.policy import VolumePricing
    from assay.gateway.pricing.budgets import Decision, Usage

__all__ = [
    "AccountView",
    "Admission",
    "AlarmRow",
    "Banked",
    "Bill",
    "Claim",
    "Conditions",
    "CustomerRow",
    "JournalRow",
    "KeyRow",
    "Outcome",
    "PolicyRow",
    "QueryRow",
    "Retention",
    "SettleRule",
    "Settled",
    "Store",
    "StoreBusy",
    "StoreDown",
    "Swept",
    "TimeBucket",
]

SettleRule: TypeAlias = Callable[
    ["AccountState", "NDArray[np.float64]", "NDArray[np.bool_]"], "tuple[AccountState, Any]"
]
"""``rule(state, log_q, duplicates) -> (state', settlement)``; the settlement has ``units``,
``multiplier`` per item and ``flags``. Of state' the store takes everything but the books (debt,
credit, reservations, work paid, deposit), which it keeps itself from the settlement's
units and from the part of the deposit that state' has released."""


class StoreDown(AssayError):
    """The store did not answer: deny the request (503), count it, try again later."""


class StoreBusy(AssayError):
    """The store could not be had without waiting, which it was asked not to do; nothing happened."""


class Conditions(Protocol):
    """What one request has to fulfil: pure functions that run under the account's lock.

    `assay.gateway.admission.RuleTerms` makes them of a policy.
    """

    @property
    def credit_seconds(self) -> float:
        """How long work paid ahead lasts."""
        ...

    @property
    def max_credit_units(self) -> float:
        """Most credit one account may bank."""
        ...

    @property
    def volume(self) -> VolumePricing | None:
        """How prices depend on what a customer was answered before, if they do."""
        ...

    def decide(self, state: AccountState, usage: Usage, n_items: int) -> Decision:
        """Serve, ask for work, throttle or deny; payments that came along are already booked."""
        ...

    def reserve(self, state: AccountState, n_items: int) -> float:
        """Units to hold for the request until its price is known."""
        ...

    def deposit_part(self, state: AccountState, units: float) -> float:
        """How much of work that was done as a deposit is one; the rest is payment."""
        ...


class Store(Protocol):
    """The gateway's memory, shared by all its processes. Synchronous and thread-safe.

    Every method raises `StoreDown` when the database does not answer.
    """

    @property
    def at_once(self) -> bool:
        """Whether a transaction may be so short that an event loop can run it."""
        ...

    # --- the request path -----------------------------------------------------------
    def account(
        self, account_id: str, *, volume: VolumePricing | None = None, now: float = 0.0
    ) -> AccountState | None:
        """Return the account's state, or None when nobody knows it; with a volume, its customer's count."""
        ...

    def open_account(self, account_id: str, tier: str, now: float) -> AccountState:
        """Create the account unless it exists; return its state."""
        ...

    def admit(
        self,
        account_id: str,
        *,
        n_items: int,
        terms: Conditions,
        now: float,
        claim: Claim | None = None,
        digest: str = "",
        model: str = "",
        policy_version: int = 0,
        tier: str = "standard",
        wait: bool = True,
    ) -> Admission:
        """Claim the proof, pay debt and reserve the request, or say what is missing.

        Without ``wait``, raise `StoreBusy` rather than hold up the caller; see `at_once`.
        """
        ...

    def settle(
        self,
        query_id: str,
        rule: SettleRule,
        *,
        log_q: NDArray[np.float64],
        now: float,
        item_digests: Sequence[bytes] = (),
    ) -> Settled | None:
        """Replace the reservation by the rule's price; None when the query is not open."""
        ...

    def settle_all(
        self,
        bills: Sequence[Bill],
        rule: SettleRule,
        *,
        now: float,
        volume: VolumePricing | None = None,
        wait: bool = True,
    ) -> Sequence[Settled | None]:
        """Settle several queries in one transaction: all of them, or none; ``wait`` as in `admit`."""
        ...

    def charge(
        self, query_id: str, units: float, *, now: float, volume: VolumePricing | None = None
    ) -> Settled | None:
        """Settle at a flat price, when there is no estimate; None when it is not open."""
        ...

    def refund(self, query_id: str, *, now: float, reason: str = "") -> bool:
        """Undo a query that got no answer; what was paid for it stays with the account."""
        ...

    def bank(
        self, account_id: str, claim: Claim, *, terms: Conditions, now: float, tier: str = "standard"
    ) -> Banked:
        """Claim work paid ahead: as the entry deposit, against debt, else as credit."""
        ...

    def amend(
        self, account_id: str, name: str, change: Callable[[bytes | None], bytes | None], *, now: float
    ) -> bytes | None:
        """Read, change and write a named piece of the account's state; again when another was faster."""
        ...

    # --- administration ---------------------------------------------------------------
    def set_tier(self, account_id: str, tier: str, *, now: float, reason: str = "") -> bool:
        """Move an account to another tier; ``barred`` denies everything."""
        ...

    def set_customer(self, account_id: str, name: str, *, now: float, reason: str = "") -> bool:
        """Take an account for one of a customer's, whose volume counts for all of them."""
        ...

    def alarm(self, account_id: str, kind: str, value: float, *, now: float, **detail: object) -> None:
        """Record an alarm."""
        ...

    def alarm_once(
        self, account_id: str, kind: str, value: float, *, now: float, since: float, **detail: object
    ) -> bool:
        """Record an alarm unless the account has one of this kind since then; tell whether it was."""
        ...

    def note(self, kind: str, *, now: float, account_id: str = "", **detail: object) -> None:
        """Add a journal entry that moves no units."""
        ...

    def record_policy(self, version: int, text: str, *, now: float) -> None:
        """Remember a policy as the one in force; raises InvalidInput for an older version."""
        ...

    def policies(self) -> Sequence[PolicyRow]:
        """Return the recorded policies, newest first."""
        ...

    def record_key(self, key: KeyRow) -> None:
        """Remember when a key was valid (never the key)."""
        ...

    def keys(self) -> Sequence[KeyRow]:
        """Return the known keys, newest first."""
        ...

    def sweep(
        self, now: float, retention: Retention | None = None, *, volume: VolumePricing | None = None
    ) -> Swept:
        """Expire credit, bill abandoned reservations and delete what is past retention."""
        ...

    def relieve(self) -> None:
        """Tidy up what writing leaves behind, if it is much; it may wait for the disk."""
        ...

    def ping(self) -> float:
        """Return the seconds a round trip to the database takes."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    # --- the operator's questions -------------------------------------------------------
    def accounts(
        self,
        *,
        order: Literal["recent", "debt", "work", "queries", "cusum", "epsilon"] = "recent",
        offset: int = 0,
        limit: int = 50,
        prefix: str = "",
        volume: VolumePricing | None = None,
        now: float = 0.0,
    ) -> tuple[Sequence[AccountView], int]:
        """Return one page of accounts and how many there are; with a volume, what counts for each."""
        ...

    def customer(self, account_id: str, *, limit: int = 100) -> CustomerRow:
        """Return the customer that an account is taken for."""
        ...

    def queries(
        self,
        *,
        account: str | None = None,
        since: float = 0.0,
        until: float | None = None,
        limit: int = 100,
    ) -> Sequence[QueryRow]:
        """Return admitted requests, newest first."""
        ...

    def history(
        self, *, since: float, until: float, width: float = 3600.0, account: str | None = None
    ) -> Sequence[TimeBucket]:
        """Return queries over time in buckets of ``width`` seconds, oldest first, gaps left out."""
        ...

    def alarms(
        self, *, account: str | None = None, since: float = 0.0, limit: int = 100
    ) -> Sequence[AlarmRow]:
        """Return alarms, newest first."""
        ...

    def journal(
        self, *, after: int = 0, limit: int = 1000, account: str | None = None
    ) -> Sequence[JournalRow]:
        """Return journal entries with an id above ``after``, oldest first.

        An entry of kind ``carried`` holds the sums of older entries that it replaced.
        """
        ...

    def unbalanced(self) -> Sequence[str]:
        """Return the accounts whose books differ from their journal: always empty, or a defect."""
        ...

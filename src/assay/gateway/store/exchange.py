"""What the gateway hands to its store and gets back: proofs, bills, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assay.gateway.account import AccountState

__all__ = ["Admission", "Banked", "Bill", "Claim", "Outcome", "Settled"]

Outcome: TypeAlias = Literal["serve", "price", "throttle", "deny", "replay"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A proof that passed every check, to be claimed once.

    Parameters
    ----------
    jti
        The token's random identifier.
    exp
        When the token expires; the claim is kept until ``exp`` plus a margin.
    units
        The work it proves.
    deposit
        Whether the work is an entry deposit (which buys nothing but the account) and
        not payment.
    """

    jti: str
    exp: float
    units: float
    deposit: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """The store's answer to a request that wants in.

    Parameters
    ----------
    decision
        ``serve``: go ahead, ``query_id`` must be settled or refunded. ``price``: ask for
        ``due_units`` (428). ``throttle``: come back after ``retry_after`` (429). ``deny``:
        not at all, or after ``retry_after`` (429). ``replay``: the proof was claimed before (409).
    state
        The account after the transaction; None for an unknown account.
    query_id
        What to settle; None unless served.
    reason
        One word: ``ok``, ``deposit``, ``debt``, ``throttled``, ``budget``, ``replay``.
    detail
        One sentence for the client; empty when served.
    due_units
        Work to ask for when ``price``.
    deposit
        Whether that work is the entry deposit.
    paid_units
        Work this call claimed; never lost, whatever the decision.
    reserved_units
        What this query reserved.
    retry_after
        Seconds; None if never.
    spent
        Where a budget is the reason: the share of it that is used.
    """

    decision: Outcome
    state: AccountState | None
    query_id: str | None = None
    reason: str = "ok"
    due_units: float = 0.0
    deposit: bool = False
    paid_units: float = 0.0
    reserved_units: float = 0.0
    retry_after: float | None = None
    detail: str = ""
    spent: float = 0.0


@dataclass(frozen=True, slots=True)
class Bill:
    """What is known of an answered query when it is to be priced.

    Attributes
    ----------
    query_id
        From `Store.admit`.
    log_q
        One value per item, at most 0, or NaN for none.
    item_digests
        One per item: what this account sent before, here or in the same request, is handed
        to the rule as a duplicate. Empty: no item counts as one.
    account_id
        Whose query it is, where several are settled together: accounts are locked in this order.
    """

    query_id: str
    log_q: NDArray[np.float64]
    item_digests: Sequence[bytes] = ()
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """The account before (its reservation already dropped) and after a query got its price."""

    query_id: str
    account_id: str
    before: AccountState
    state: AccountState
    units: float
    multiplier: float
    flags: tuple[str, ...] = ()
    duplicates: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Banked:
    """The outcome of work paid ahead: ``ok``, ``replay``, or ``full`` (not claimed)."""

    outcome: Literal["ok", "replay", "full"]
    state: AccountState | None
    credited_units: float = 0.0
    expires: float | None = None

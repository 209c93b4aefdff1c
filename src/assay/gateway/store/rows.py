"""What the store tells operators, and what its sweeper keeps: plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from assay.gateway.account import AccountState

__all__ = [
    "AccountView",
    "AlarmRow",
    "CustomerRow",
    "JournalRow",
    "KeyRow",
    "PolicyRow",
    "QueryRow",
    "Retention",
    "Swept",
    "TimeBucket",
]

_WEEK = 7 * 86_400.0
QueryStatus: TypeAlias = Literal["admitted", "settled", "refunded", "expired"]


@dataclass(frozen=True, slots=True)
class AccountView:
    """One row of the operator's accounts page; ``customer`` is empty for an account by itself."""

    state: AccountState
    items_today: int
    work_today: float
    created_at: float
    customer: str = ""


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """Accounts that the operator takes for one customer; none and no name for an account by itself."""

    name: str = ""
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One admitted request.

    Once settled, ``log_q`` has one value per item (NaN where the estimator gave none) and
    ``multiplier`` is the largest of them.
    """

    id: str
    at: float
    account: str
    model: str
    digest: str
    n_items: int
    status: QueryStatus
    reserved: float
    price: float
    multiplier: float
    flags: tuple[str, ...]
    log_q: tuple[float, ...]
    policy_version: int


@dataclass(frozen=True, slots=True)
class TimeBucket:
    """Queries between ``start`` and ``start`` + the bucket's width."""

    start: float
    queries: int
    items: int
    units: float
    alarms: int
    accounts: int


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """Something an operator should look at."""

    id: int
    at: float
    account: str
    kind: str
    value: float
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One entry of the append-only journal.

    The columns in units are changes. In every entry ``debt - credit + pending`` changes by
    ``price - (work - deposit) - released - refund + expired``; summed over an account's
    entries they are its books.
    """

    id: int
    at: float
    kind: str
    account: str
    query_id: str
    jti: str
    work: float
    deposit: float
    price: float
    released: float
    refund: float
    expired: float
    debt: float
    credit: float
    pending: float
    reserved: float
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy that was in force."""

    version: int
    recorded_at: float
    active: bool
    text: str


@dataclass(frozen=True, slots=True)
class KeyRow:
    """The public part of a signing key: never the secret."""

    kid: str
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the sweeper leaves things, in seconds.

    Parameters
    ----------
    claims
        After the token's expiry; longer than the clocks' skew.
    reservations
        After which a query that nobody settled (its process died) is billed its
        reservation; longer than the upstream's time-out and the settlement queue.
    queries, items, journal, alarms
        Settled queries, seen item digests, journal entries (which are then folded into
        one ``carried`` entry per account, so that books still balance) and alarms.
    batch
        Rows per transaction, so that requests never wait long for the sweeper.
    """

    claims: float = 120.0
    reservations: float = 300.0
    queries: float = 30 * 86_400.0
    items: float = _WEEK
    journal: float = 90 * 86_400.0
    alarms: float = 90 * 86_400.0
    batch: int = 500

    @classmethod
    def of_days(cls, days: float) -> Retention:
        """Return the retention of a policy: single queries for so many days.

        What makes a repeat is known for at most a week, and journal and alarms, which hold
        no inputs, stay three times as long, so that an audit can look further back.

        Examples
        --------
        >>> Retention.of_days(30.0) == Retention()
        True
        >>> Retention.of_days(1.0).journal / 86_400.0
        3.0
        """
        seconds = days * 86_400.0
        return cls(queries=seconds, items=min(_WEEK, seconds), journal=3 * seconds, alarms=3 * seconds)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows a sweep removed or closed."""

    claims: int = 0
    credits: int = 0
    reservations: int = 0
    queries: int = 0
    items: int = 0
    journal: int = 0
    alarms: int = 0

"""What the operator's pages show, as plain values: read from the store, drawn by templates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from markupsafe import Markup

from assay.errors import InvalidInput
from assay.gateway.operator.charts import Series, bars, histogram, line

if TYPE_CHECKING:
    from assay.gateway.account import AccountState
    from assay.gateway.policy import Policy, VolumePricing
    from assay.gateway.store.base import (
        AccountView,
        AlarmRow,
        CustomerRow,
        JournalRow,
        KeyRow,
        PolicyRow,
        QueryRow,
        TimeBucket,
    )

__all__ = [
    "ORDERS",
    "RANGES",
    "SECRETS",
    "Books",
    "Order",
    "Span",
    "as_json",
    "charts",
    "overview",
    "plan",
    "public",
    "spreads",
]

Order = Literal["recent", "debt", "work", "queries", "cusum", "epsilon"]
ORDERS: Mapping[Order, str] = {
    "recent": "last seen",
    "queries": "queries",
    "work": "work paid",
    "debt": "debt",
    "cusum": "evidence",
    "epsilon": "leakage",
}
RANGES: Mapping[int, str] = {1: "1 h", 24: "24 h", 168: "7 days", 720: "30 days"}
SECRETS = frozenset({"key", "seed"})
"""Settings of defences and detectors that nobody else should know."""

_BUCKETS = {1: 60, 24: 48, 168: 56, 720: 60}
_RECENT = 1000
_FEW = 8
_PRICES = (0, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
_COSTS = (0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Books(Protocol):
    """What the pages read of a store."""

    def account(
        self, account_id: str, *, volume: VolumePricing | None = None, now: float = 0.0
    ) -> AccountState | None:
        """Return the account's state, or None; with a volume, its customer's count."""
        ...

    def accounts(
        self,
        *,
        order: Order = "recent",
        offset: int = 0,
        limit: int = 50,
        prefix: str = "",
        volume: VolumePricing | None = None,
        now: float = 0.0,
    ) -> tuple[Sequence[AccountView], int]:
        """Return one page of accounts and how many there are."""
        ...

    def customer(self, account_id: str, *, limit: int = 100) -> CustomerRow:
        """Return the customer that an account is taken for."""
        ...

    def queries(
        self, *, account: str | None = None, since: float = 0.0, until: float | None = None, limit: int = 100
    ) -> Sequence[QueryRow]:
        """Return admitted requests, newest first."""
        ...

    def history(
        self, *, since: float, until: float, width: float = 3600.0, account: str | None = None
    ) -> Sequence[TimeBucket]:
        """Return queries over time."""
        ...

    def alarms(
        self, *, account: str | None = None, since: float = 0.0, limit: int = 100
    ) -> Sequence[AlarmRow]:
        """Return alarms, newest first."""
        ...

    def journal(
        self, *, after: int = 0, limit: int = 1000, account: str | None = None
    ) -> Sequence[JournalRow]:
        """Return journal entries, oldest first."""
        ...

    def policies(self) -> Sequence[PolicyRow]:
        """Return the recorded policies, newest first."""
        ...

    def keys(self) -> Sequence[KeyRow]:
        """Return the known keys, newest first."""
        ...


@dataclass(frozen=True)
class Span:
    """A stretch of time that ends now, in buckets that begin at round times.

    Examples
    --------
    >>> span = Span.last(100_000.0, 24)
    >>> span.width, span.count, span.since % span.width
    (1800.0, 49, 0.0)
    """

    hours: int
    since: float
    until: float
    width: float
    count: int

    @classmethod
    def last(cls, now: float, hours: int) -> Span:
        """Return the last ``hours`` hours, one of `RANGES`.

        Raises
        ------
        InvalidInput
            For other numbers of hours.
        """
        if hours not in RANGES:
            msg = f"hours must be one of {', '.join(map(str, RANGES))}, got {hours}"
            raise InvalidInput(msg)
        width = hours * 3600.0 / _BUCKETS[hours]
        since = math.floor((now - hours * 3600.0) / width) * width
        # One more: the bucket that is not over yet.
        return cls(hours, since, since + (_BUCKETS[hours] + 1) * width, width, _BUCKETS[hours] + 1)


def overview(books: Books, span: Span) -> dict[str, Any]:
    """Return the numbers of the first page."""
    history = books.history(since=span.since, until=span.until, width=span.width)
    recent = books.queries(since=span.since, limit=_RECENT)
    alarms = books.alarms(since=span.since, limit=_RECENT)
    _, known = books.accounts(limit=1)
    dearest, _ = books.accounts(order="cusum", limit=_FEW)
    items, billed = sum(b.items for b in history), sum(b.units for b in history)
    settled = [q for q in recent if q.status == "settled" and q.n_items]
    return {
        "span": span,
        "tiles": {
            "accounts": known,
            "requests": sum(b.queries for b in history),
            "answered": items,
            "units": billed,
            "price": billed / items if items else 0.0,
            "alarms": len(alarms),
        },
        "history": history,
        "alarms": alarms[:_FEW],
        "all_alarms": alarms,
        "watched": dearest,
        "prices": [q.price / q.n_items for q in settled],
        "costs": [-value for q in settled for value in q.log_q if math.isfinite(value)],
    }


def charts(
    history: Sequence[TimeBucket],
    span: Span,
    *,
    expected: float | None = None,
    alarms: Sequence[AlarmRow] = (),
) -> dict[str, Markup]:
    """Return the charts over time.

    Parameters
    ----------
    history
        Buckets of ``span``; gaps may be left out.
    span
        The time that they cover.
    expected
        Price of an average honest item, drawn as a level.
    alarms
        Of detectors and of prices.
    """
    by_place = {round((b.start - span.since) / span.width): b for b in history}
    places = range(span.count)
    found = [by_place.get(i) for i in places]
    fired = [0.0] * span.count
    for alarm in alarms:
        place = int((alarm.at - span.since) // span.width)
        if 0 <= place < span.count:
            fired[place] += 1

    def series(title: str, values: Sequence[float | None], unit: str) -> Series:
        return Series(title, span.since, span.width, span.count, values, unit)

    prices = [b.units / b.items if b and b.items else None for b in found]
    return {
        "answered": bars(series("Items answered", [b.items if b else 0.0 for b in found], "items"), "one"),
        "units": bars(series("Work billed", [b.units if b else 0.0 for b in found], "units"), "two"),
        "price": line(series("Mean price of an item", prices, "units"), "three", level=expected),
        "alarms": bars(series("Alarms", fired, "alarms"), "bad"),
        "accounts": bars(
            series("Accounts asking", [b.accounts if b else 0.0 for b in found], "accounts"), "one"
        ),
    }


def spreads(prices: Sequence[float], costs: Sequence[float]) -> dict[str, Markup]:
    """Return how prices and leakage of recent items are spread."""
    return {
        "prices": histogram("Mean price of the items of a request", prices, _PRICES, "two", "units"),
        "costs": histogram("Minus log q of items", costs, _COSTS, "three"),
    }


def plan(policy: Policy) -> dict[str, dict[str, Any]]:
    """Return what the policy says, table by table, without lists too long to read."""
    data = policy.model_dump(
        mode="json", exclude={"signature", "answers", "detectors", "tiers", "calibration"}
    )
    top = {"version": data.pop("version"), "model": data.pop("model") or "any", "digest": policy.digest}
    tables: dict[str, dict[str, Any]] = {"policy": top}
    for name, part in data.items():
        tables[name] = {key: value for key, value in part.items() if not isinstance(value, dict | list)}
        for key, value in part.items():
            if isinstance(value, dict) and policy.pricing.mode == key:
                tables[f"{name}.{key}"] = value
    return tables


def public(policy: Policy) -> dict[str, Any]:
    """Return the whole policy without what its settings keep secret.

    Examples
    --------
    >>> from assay.gateway.policy import Defence, Policy
    >>> entry = Defence(name="dawn", settings={"rate": 0.01, "key": "ab"})
    >>> public(Policy(answers=(entry,)))["answers"]
    [{'name': 'dawn', 'settings': {'rate': 0.01, 'key': 'set'}}]
    """
    data = policy.model_dump(mode="json")
    for entry in (*data["answers"], *data["detectors"]):
        entry["settings"] |= {name: "set" for name in entry["settings"] if name in SECRETS}
    return data


def as_json(value: Any) -> Any:
    """Return dataclasses as objects and numbers that JSON lacks as null.

    Examples
    --------
    >>> as_json({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The tables, as queries see them; `assay.gateway.store.migrations` makes them.

Units are whole millionths of a unit (``BIGINT``), times whole microseconds since the
epoch (``BIGINT``): sums are exact on every database, and integer division makes the
same time buckets everywhere.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, MetaData, Table, Text

__all__ = [
    "MICRO",
    "MOVES",
    "accounts",
    "alarms",
    "claims",
    "credits_",
    "customers",
    "horizon",
    "items",
    "journal",
    "keys",
    "metadata",
    "micro",
    "policies",
    "queries",
    "states",
    "unmicro",
    "volumes",
]

MICRO = 1_000_000

MOVES = (
    "work", "deposit", "price", "released", "refund", "expired",
    "debt", "credit", "pending", "reserved",
)  # fmt: skip
"""The journal's columns of units: causes, then the changes of an account's books."""

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tier", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("admitted_at", BigInteger, nullable=False),
    Column("queries", BigInteger, nullable=False),
    Column("work_paid", BigInteger, nullable=False),
    Column("deposited", BigInteger, nullable=False),
    Column("released", BigInteger, nullable=False),
    Column("debt", BigInteger, nullable=False),
    Column("credit", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("pending", BigInteger, nullable=False),
    Column("pending_items", BigInteger, nullable=False),
    Column("cusum", Double, nullable=False),
    Column("epsilon", Double, nullable=False),
    Column("rdp", LargeBinary, nullable=False),
    Column("day", BigInteger, nullable=False),
    Column("day_items", BigInteger, nullable=False),
    Column("day_work", BigInteger, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("deposit", Integer, nullable=False),
)

horizon = Table(
    "horizon",
    metadata,
    Column("name", Text, primary_key=True),
    Column("until", BigInteger, nullable=False),
)

credits_ = Table(
    "credits",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("account", Text, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("remaining", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("spent_at", BigInteger),
)

queries = Table(
    "queries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("settled_at", BigInteger),
    Column("account", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("multiplier", Double, nullable=False),
    Column("flags", Text, nullable=False),
    Column("log_q", LargeBinary, nullable=False),
    Column("policy_version", Integer, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("query_id", Text, nullable=False),
    Column("jti", Text, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in MOVES),
    Column("detail", Text, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("active", Integer, nullable=False),
    Column("text", Text, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
)

items = Table(
    "items",
    metadata,
    Column("account", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("at", BigInteger, nullable=False),
)

states = Table(
    "states",
    metadata,
    Column("account", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

customers = Table(
    "customers",
    metadata,
    Column("account", Text, primary_key=True),
    Column("name", Text, nullable=False),
)

volumes = Table(
    "volumes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("items", Double, nullable=False),
    Column("at", BigInteger, nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("detail", Text, nullable=False),
)


def micro(value: float) -> int:
    """Return units or seconds as whole millionths.

    Examples
    --------
    >>> micro(1.25)
    1250000
    """
    return round(value * MICRO)


def unmicro(value: int) -> float:
    """Return whole millionths as units or seconds.

    Examples
    --------
    >>> unmicro(1250000)
    1.25
    """
    return value / MICRO

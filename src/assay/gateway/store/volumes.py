"""How much each customer was answered, over all accounts that are taken for one customer.

An account that the operator has put to no customer is one by itself. Counts are kept only
while the policy has a price or a limit by volume; they fade as that policy says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Text, bindparam, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from assay.gateway.pricing.volume import decayed
from assay.gateway.store.once import insert_new
from assay.gateway.store.schema import MICRO, accounts, customers, volumes

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from assay.gateway.policy import VolumePricing

__all__ = ["COUNTED", "add_volume", "customer_of", "join_customer", "members_of", "volume_of"]

# No label of an operator begins so: an account cannot be put to another one's own count.
_ALONE = "~"
_OWN = bindparam("account", type_=Text)
_NAME: ColumnElement[str] = func.coalesce(
    select(customers.c.name).where(customers.c.account == _OWN).scalar_subquery(), literal(_ALONE) + _OWN
)
COUNTED = accounts.outerjoin(customers, customers.c.account == accounts.c.id).outerjoin(
    volumes, volumes.c.name == func.coalesce(customers.c.name, literal(_ALONE) + accounts.c.id)
)
"""Accounts, each with its customer and with what counts for that one, where there is such."""
_COUNT = select(volumes.c["items"].label("total"), volumes.c.at).where(volumes.c.name == _NAME)


def volume_of(
    c: Connection, account: str, volume: VolumePricing | None, now: int, *, lock: bool = False
) -> float | None:
    """Return the items that count for the customer behind an account; None where none are counted.

    Parameters
    ----------
    c
        The open transaction.
    account
        Its identifier.
    volume
        The policy's price by volume.
    now
        Microseconds since the epoch.
    lock
        Keep others of the same customer from counting until the transaction ends.
    """
    if volume is None or not volume.active:
        return None
    asked = _COUNT.with_for_update() if lock else _COUNT
    row = c.execute(asked, {"account": account}).first()
    if row is None and lock:
        # There is nothing to lock yet: of two accounts of one customer, one makes it, the other waits.
        insert_new(c, volumes, {"name": _name(c, account), "items": 0.0, "at": now})
        row = c.execute(asked, {"account": account}).first()
    return 0.0 if row is None else decayed(volume, row.total, (now - row.at) / MICRO)


def add_volume(c: Connection, account: str, total: float, now: int) -> None:
    """Write a customer's new count, as of now; `volume_of` has locked it."""
    mine = volumes.c.name == _name(c, account)
    c.execute(update(volumes).where(mine).values(items=total, at=now))


def _name(c: Connection, account: str) -> str:
    return str(c.execute(select(_NAME), {"account": account}).scalar_one())


def customer_of(name: str | None) -> str:
    """Return what the operator calls a customer, by the name that the tables have; empty for none."""
    return "" if name is None or name.startswith(_ALONE) else name


def members_of(c: Connection, account: str, limit: int) -> tuple[str, list[str]]:
    """Return the customer behind an account and that one's accounts; nothing for an account by itself."""
    name = customer_of(c.execute(select(customers.c.name).where(customers.c.account == account)).scalar())
    if not name:
        return "", []
    asked = select(customers.c.account).where(customers.c.name == name).order_by(customers.c.account)
    return name, list(c.execute(asked.limit(limit)).scalars())


def join_customer(c: Connection, account: str, name: str) -> str:
    """Take an account for one of a customer's, or with an empty name for itself; return what it was."""
    before = c.execute(select(customers.c.name).where(customers.c.account == account)).scalar()
    insert = sqlite_insert if c.dialect.name == "sqlite" else postgresql_insert
    new = insert(customers).values(account=account, name=name or _ALONE + account)
    c.execute(new.on_conflict_do_update(index_elements=["account"], set_={"name": new.excluded.name}))
    return customer_of(before)

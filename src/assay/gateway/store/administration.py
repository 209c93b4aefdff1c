"""What operators and start-up do to the store: tiers, alarms, policies, keys."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from assay.errors import InvalidInput
from assay.gateway.store.base import KeyRow, PolicyRow, Retention, Swept
from assay.gateway.store.books import Books
from assay.gateway.store.engine import Backed
from assay.gateway.store.once import insert_new
from assay.gateway.store.schema import MOVES, alarms, journal, keys, micro, policies, unmicro
from assay.gateway.store.steps import MAX_NAME
from assay.gateway.store.sweep import sweep
from assay.gateway.store.volumes import join_customer

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from assay.gateway.policy import VolumePricing

__all__ = ["Administration"]


class Administration(Backed):
    """Changes that no request makes."""

    def set_tier(self, account_id: str, tier: str, *, now: float, reason: str = "") -> bool:
        """Move an account to another tier; ``barred`` denies everything. False when unknown."""

        def work(c: Connection) -> bool:
            books = Books.lock(c, account_id, micro(now))
            if books is None:
                return False
            detail = {"from": books["tier"], "to": tier, "reason": reason}
            books.row["tier"] = tier
            books.post("tier", detail=detail)
            return True

        return self._database.write(work)

    def set_customer(self, account_id: str, name: str, *, now: float, reason: str = "") -> bool:
        """Take an account for one of a customer's; with an empty name for itself. False when unknown.

        Raises
        ------
        InvalidInput
            For a name that stands for a single account, or is too long.
        """
        if name.startswith("~") or len(name) > MAX_NAME:
            msg = f"a customer has a name of at most {MAX_NAME} characters that does not begin with ~"
            raise InvalidInput(msg)

        def work(c: Connection) -> bool:
            books = Books.lock(c, account_id, micro(now))
            if books is None:
                return False
            before = join_customer(c, account_id, name)
            books.note("customer", detail={"from": before, "to": name, "reason": reason})
            return True

        return self._database.write(work)

    def alarm(self, account_id: str, kind: str, value: float, *, now: float, **detail: object) -> None:
        """Record an alarm."""
        row = {"at": micro(now), "account": account_id, "kind": kind, "value": value, "detail": _json(detail)}
        self._database.write(lambda c: c.execute(insert(alarms).inline(), row) and None)

    def alarm_once(
        self, account_id: str, kind: str, value: float, *, now: float, since: float, **detail: object
    ) -> bool:
        """Record an alarm unless the account has one of this kind since then; tell whether it was.

        False as well for an account that does not exist: strangers must not fill the table.
        """
        row = {"at": micro(now), "account": account_id, "kind": kind, "value": value, "detail": _json(detail)}
        same = (alarms.c.account == account_id, alarms.c.kind == kind, alarms.c.at >= micro(since))

        def work(c: Connection) -> bool:
            # Under the account's lock, so that two replicas cannot both be the first.
            if Books.lock(c, account_id, micro(now)) is None:
                return False
            if c.execute(select(alarms.c.id).where(*same).limit(1)).first() is not None:
                return False
            c.execute(insert(alarms).inline(), row)
            return True

        return self._database.write(work)

    def note(self, kind: str, *, now: float, account_id: str = "", **detail: object) -> None:
        """Add a journal entry that moves no units."""
        row = {"at": micro(now), "kind": kind, "account": account_id, "query_id": "", "jti": ""}
        values = dict.fromkeys(MOVES, 0) | row | {"detail": _json(detail)}
        self._database.write(lambda c: c.execute(insert(journal).inline(), values) and None)

    def record_policy(self, version: int, text: str, *, now: float) -> None:
        """Remember a policy as the one in force.

        Raises
        ------
        InvalidInput
            If a newer version is in force, or this version has another text: a replica
            must not fall back to cheaper prices unnoticed.
        """

        def work(c: Connection) -> None:
            if c.dialect.name == "postgresql":  # two replicas that start with different policies
                c.exec_driver_sql("LOCK TABLE policies IN SHARE ROW EXCLUSIVE MODE")
            found = {row.version: row.text for row in c.execute(select(policies.c.version, policies.c.text))}
            newest = max(found, default=-1)
            if version < newest:
                msg = f"policy version {version} is older than version {newest}, which is in force"
                raise InvalidInput(msg)
            if found.get(version, text) != text:
                msg = f"policy version {version} is known with another text; give the change a new version"
                raise InvalidInput(msg)
            row = {"version": version, "recorded_at": micro(now), "active": 1, "text": text}
            if insert_new(c, policies, row):
                c.execute(update(policies).where(policies.c.version != version).values(active=0))

        self._database.write(work)

    def policies(self) -> Sequence[PolicyRow]:
        """Return the recorded policies, newest first."""
        rows = self._database.read(
            lambda c: c.execute(select(policies).order_by(policies.c.version.desc())).all()
        )
        return [PolicyRow(r.version, unmicro(r.recorded_at), bool(r.active), r.text) for r in rows]

    def record_key(self, key: KeyRow) -> None:
        """Remember when a key was valid (never the key)."""
        row = {"kid": key.kid, "not_before": micro(key.not_before), "not_after": micro(key.not_after)}

        def work(c: Connection) -> None:
            if not insert_new(c, keys, row):
                c.execute(update(keys).where(keys.c.kid == key.kid).values(**row))

        self._database.write(work)

    def keys(self) -> Sequence[KeyRow]:
        """Return the known keys, newest first."""
        rows = self._database.read(
            lambda c: c.execute(select(keys).order_by(keys.c.not_before.desc(), keys.c.kid)).all()
        )
        return [KeyRow(r.kid, unmicro(r.not_before), unmicro(r.not_after)) for r in rows]

    def sweep(
        self, now: float, retention: Retention | None = None, *, volume: VolumePricing | None = None
    ) -> Swept:
        """Expire credit, bill abandoned reservations and delete what is past retention.

        With a ``volume``, what was abandoned counts for its customer as if it had been answered.
        """
        swept = sweep(self._database, now, retention or Retention(), volume)
        self._database.checkpoint()
        return swept

    def relieve(self) -> None:
        """Tidy up what writing leaves behind, if it is much; it may wait for the disk."""
        self._database.relieve()

    def ping(self) -> float:
        """Return the seconds a round trip to the database takes."""
        start = time.perf_counter()
        self._database.read(lambda c: c.exec_driver_sql("SELECT 1").scalar())
        return time.perf_counter() - start


def _json(detail: Mapping[str, object]) -> str:
    return json.dumps(detail, sort_keys=True, default=str)

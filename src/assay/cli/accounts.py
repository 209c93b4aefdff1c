"""``assay accounts``: who uses a gateway, and on which terms."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from assay.cli.console import grid, print_json, print_tables
from assay.cli.options import Common
from assay.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from assay.gateway.store.base import AccountView
    from assay.gateway.store.sql import SqlStore

__all__ = ["StoreUrl", "accounts", "opened_books"]

Order = Literal["recent", "debt", "work", "queries", "cusum", "epsilon"]
StoreUrl = Annotated[
    str,
    typer.Option(
        metavar="URL", envvar="ASSAY_STORE", help="The gateway's store: sqlite:///FILE or postgresql://..."
    ),
]

_BUILT_IN = ("standard", "throttled", "barred")
_MOST = 10_000


def accounts(
    *,
    common: Common,
    store: StoreUrl = "sqlite:///gateway.db",
    tier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=TIER",
            help="Move an account: to barred, throttled, standard, or a tier of the policy.",
        ),
    ] = None,
    customer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=NAME",
            help="Take an account for one of a customer's, for the price by volume; ID= for itself again.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="With --tier or --customer: why, for the journal.")] = "",
    prefix: Annotated[str, typer.Option(help="Only accounts whose identifier begins so.")] = "",
    order: Annotated[
        str, typer.Option(help="Largest first: recent, debt, work, queries, cusum or epsilon.")
    ] = "recent",
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="Most accounts to list.")] = 50,
) -> None:
    """List the accounts of a gateway, and move accounts to other tiers.

    A barred account is refused, a throttled one slowed down; other tiers change what the
    policy asks. Changes hold at once, for all replicas, and are in the journal.
    """
    if order not in get_args(Order):
        msg = f"accounts are ordered by {', '.join(get_args(Order))}, not by {order!r}"
        raise InvalidInput(msg)
    moves = [_move(one) for one in tier or ()]
    joins = [_join(one) for one in customer or ()]
    with opened_books(store) as books:
        _known(books, [account for account, _ in (*moves, *joins)])
        changed = _changed(books, moves, reason)
        for account, name in joins:
            books.set_customer(account, name, now=time.time(), reason=reason or "by the operator")
        rows, total = books.accounts(order=cast("Order", order), limit=limit, prefix=prefix)
    if common.json:
        print_json({"total": total, "changed": changed, "accounts": [_as_json(row) for row in rows]})
    elif not common.quiet:
        if changed:
            columns = ("account", "from", "to")
            print_tables(grid("Moved", columns, [[one[c] for c in columns] for one in changed]))
        _show(rows, total)


@contextmanager
def opened_books(url: str) -> Iterator[SqlStore]:
    """Open the store of a gateway for as long as a verb needs it."""
    try:
        from assay.gateway.store.sql import open_books
    except ImportError as error:
        msg = f"the gateway's store needs the package {error.name}: install assay-ml[serve]"
        raise MissingDependency(msg) from error
    books = open_books(url)
    try:
        yield books
    finally:
        books.close()


def _move(text: str) -> tuple[str, str]:
    account, equals, tier = text.partition("=")
    if not (account and equals and tier):
        msg = f"--tier takes ID=TIER, as in 4f0c...=barred, got {text!r}"
        raise InvalidInput(msg)
    return account, tier


def _join(text: str) -> tuple[str, str]:
    account, equals, name = text.partition("=")
    if not (account and equals):
        msg = f"--customer takes ID=NAME, as in 4f0c...=example.org, got {text!r}"
        raise InvalidInput(msg)
    return account, name


def _known(books: SqlStore, ids: Sequence[str]) -> None:
    """Refuse accounts that do not exist, before anything is changed."""
    for account in ids:
        if books.account(account) is None:
            msg = f"there is no account {account!r}; `assay accounts` lists them"
            raise InvalidInput(msg)


def _changed(books: SqlStore, moves: Sequence[tuple[str, str]], reason: str) -> list[dict[str, str]]:
    """Move accounts, all of them or none; return what was changed."""
    from assay.registry import nearest

    known = _tiers(books)
    before: dict[str, str] = {}
    for account, tier in moves:
        if tier not in known:
            raise InvalidInput(nearest(tier, known, "tier"))
        state = books.account(account)
        if state is None:
            msg = f"there is no account {account!r}; `assay accounts` lists them"
            raise InvalidInput(msg)
        before[account] = state.tier
    for account, tier in moves:
        books.set_tier(account, tier, now=time.time(), reason=reason or "by the operator")
    return [{"account": account, "from": before[account], "to": tier} for account, tier in moves]


def _tiers(books: SqlStore) -> list[str]:
    """Return the tiers that mean something: those built in, and those of the policy in force."""
    active = [row for row in books.policies() if row.active]
    own = json.loads(active[0].text).get("tiers", {}) if active else {}
    return list(dict.fromkeys([*_BUILT_IN, *own]))


def _as_json(row: AccountView) -> dict[str, Any]:
    state = row.state
    return {
        "account": state.id,
        "tier": state.tier,
        "queries": state.queries,
        "work_paid_units": state.work_paid,
        "debt_units": state.debt,
        "credit_units": state.credit,
        "reserved_units": state.reserved,
        "pending_units": state.pending,
        "deposited_units": state.deposited,
        "cusum": state.cusum,
        "epsilon": state.epsilon,
        "items_today": row.items_today,
        "work_today_units": row.work_today,
        "created_at": row.created_at,
        "updated_at": state.updated_at,
    }


def _show(rows: Sequence[AccountView], total: int) -> None:
    table = [
        (
            row.state.id,
            row.state.tier,
            f"{row.state.queries:,}",
            f"{row.state.work_paid:,.1f}",
            f"{row.state.debt:,.1f}",
            f"{row.state.credit:,.1f}",
            f"{row.state.epsilon:.3g}",
            f"{row.state.cusum:.1f}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.state.updated_at)),
        )
        for row in rows
    ]
    columns = ("account", "tier", "queries", "work paid", "debt", "credit", "leakage", "evidence", "seen")
    print_tables(grid("Accounts", columns, table))
    if total > len(rows):
        print_tables(f"{len(rows):,} of {total:,}; --limit shows more")

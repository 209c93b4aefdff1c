"""``assay audit``: the gateway's journal as a file that shows whether anybody changed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.accounts import StoreUrl, opened_books
from assay.cli.console import facts, print_json, print_tables
from assay.cli.options import Common
from assay.errors import InvalidInput

if TYPE_CHECKING:
    from assay.gateway.audit import Chain

__all__ = ["audit"]


def audit(
    *,
    common: Common,
    store: StoreUrl = "sqlite:///gateway.db",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the journal here; a file of before is verified and goes on."
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check a file that was written before; needs no store."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key of at least 16 bytes; then only its holders can write lines."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST", help="With --check: digest that the file ended with some time before."
        ),
    ] = None,
) -> None:
    """Export the journal of a gateway, or check an export.

    Each line names the digest of the one before, so that a line that was changed, added or
    taken out is found. Note the last digest elsewhere: without it a file that was cut off
    looks like a shorter one.
    """
    if (out is None) == (check is None):
        msg = "give either --out FILE to export the journal or --check FILE to check an export"
        raise InvalidInput(msg)
    if head is not None and check is None:
        msg = "--head is for --check; an export says what its digest is"
        raise InvalidInput(msg)
    secret = None if key is None else key.read_bytes().strip()
    if check is not None:
        from assay.gateway.audit import verify_export

        _show("Audit file", check, verify_export(check, key=secret, head=head), common, keyed=key is not None)
    elif out is not None:
        with opened_books(store) as books:
            from assay.gateway.audit import export_journal

            chain = export_journal(books, out, key=secret)
        _show("Audit export", out, chain, common, keyed=key is not None)


def _show(title: str, path: Path, chain: Chain, common: Common, *, keyed: bool) -> None:
    if common.json:
        found = {"file": str(path), "entries": chain.entries, "last": chain.last, "head": chain.head}
        print_json({**found, "keyed": keyed})
    elif not common.quiet:
        rows = {
            "file": path,
            "entries": f"{chain.entries:,}",
            "holds": "every line follows from the one before" + (", by the key" if keyed else ""),
        }
        print_tables(facts(title, rows), f"last digest {chain.head}")

"""``assay solve``: pay a gateway with work, once or ahead."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import facts, print_json, print_tables
from assay.cli.options import CaFile, ClientCert, ClientKey, Common, tls_files
from assay.errors import InvalidInput, PaymentRefused
from assay.observers import Observer

if TYPE_CHECKING:
    from assay.puzzles.solver import Progress

__all__ = ["solve"]

_URL = re.compile(r"https?://", re.IGNORECASE)
_MANY = 1e5  # tries a second, of which memory-hard puzzles allow some


def solve(
    *,
    target: Annotated[
        str, typer.Argument(metavar="CHALLENGE|URL", help="A challenge token, or the root of a gateway.")
    ],
    common: Common,
    bank: Annotated[
        float, typer.Option(metavar="UNITS", min=0.0, help="With a URL: credit to earn ahead.")
    ] = 0.0,
    account: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", envvar="ASSAY_API_TOKEN", help="Account at the gateway; a new one otherwise."
        ),
    ] = None,
    max_seconds: Annotated[
        float, typer.Option(min=0.001, help="Longest time that one challenge may take.")
    ] = 3600.0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processor cores to use; all unless given.")
    ] = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    ca_file: CaFile = None,
) -> None:
    """Solve a challenge, or open an account at a gateway and work ahead.

    Prints the proof of a challenge, to be sent as the header PoW-Proof, or the account's
    key and credit. Set ASSAY_API_TOKEN to the key and every other verb uses the credit.
    """
    with common.observers() as observers:
        shown = _shown(observers)
        if _URL.match(target):
            tls = tls_files(target, client_cert, client_key, ca_file)
            title, found = "Account", _bank(target, bank, account, max_seconds, workers, shown, tls)
        elif bank:
            msg = "--bank needs the URL of a gateway; a challenge is worth what it says"
            raise InvalidInput(msg)
        else:
            title, found = "Proof", _solve(target, max_seconds, workers, shown)
    if common.json:
        print_json(found)
    elif title == "Proof":
        # Alone on standard output, so that it can be piped into a request.
        print_tables(str(found["proof"]))
    elif not common.quiet:
        print_tables(facts(title, _words(found)), f"ASSAY_API_TOKEN={found['account_key']}")


def _solve(
    token: str, max_seconds: float, workers: int | None, shown: Callable[[Progress], None]
) -> dict[str, Any]:
    from assay.puzzles.challenge import Challenge
    from assay.puzzles.payer import Payer
    from assay.puzzles.solver import Solver
    from assay.puzzles.tokens import read_claims

    challenge = Challenge(token, read_claims(token))
    if challenge.claims.exp < time.time():
        msg = "the challenge has expired; ask for a new one"
        raise PaymentRefused(msg)
    payer = Payer(max_seconds=max_seconds, solver=Solver(workers=workers), progress=shown)
    try:
        found = payer.solve(challenge)
    finally:
        payer.close()
    return {
        "proof": found.proof,
        "purpose": challenge.claims.purpose,
        "price_units": challenge.claims.price_units,
        "bits": round(challenge.bits, 3),
        "expires": challenge.claims.exp,
        "hashes": found.hashes,
        "seconds": round(found.seconds, 3),
    }


def _bank(
    url: str,
    units: float,
    account: str | None,
    max_seconds: float,
    workers: int | None,
    shown: Callable[[Progress], None],
    tls: dict[str, Any],
) -> dict[str, Any]:
    from assay.gateway.client import Client

    with Client(
        url, account=account, max_seconds=max_seconds, workers=workers, progress=shown, **tls
    ) as client:
        receipt = client.bank(units)
        paid = client.paid
        alg = str(client.policy().get("alg", "sha256"))
    return {
        "account_key": receipt.account_key,
        "credit_units": receipt.credit_units,
        "units": receipt.units,
        "expires": receipt.expires,
        "full": receipt.full,
        "challenges": paid.challenges,
        "hashes": paid.hashes,
        "seconds": round(paid.seconds, 3),
        "alg": alg,
    }


def _rate(each: float) -> str:
    return f"{each / 1e6:.2f} million" if each >= _MANY else f"{each:,.1f}"


def _words(found: dict[str, Any]) -> dict[str, object]:
    lapses, tries = found["expires"], "tries" if found["alg"] == "scrypt" else "hashes"
    rate = f", {_rate(found['hashes'] / found['seconds'])} a second" if found["seconds"] else ""
    return {
        "credit": f"{found['credit_units']:,.2f} units{', as much as there may be' if found['full'] else ''}",
        "earned now": f"{found['units']:,.2f} units",
        "work": f"{found['hashes']:,} {tries} in {found['seconds']:.1f} s{rate}",
        "lapses": None if lapses is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(lapses)),
    }


def _shown(observers: Sequence[Observer]) -> Callable[[Progress], None]:
    """Return a callback that moves a bar: one step for each sub-puzzle."""
    from assay.observers import Observers

    bar, begun = Observers(observers), [False]

    def show(progress: Progress) -> None:
        if not begun[0]:
            bar.on_start("proof of work", progress.k)
            begun[0] = True
        rate = progress.hashes / max(progress.seconds, 1e-9)
        told = {"Mhash/s": rate / 1e6} if rate >= _MANY else {"tries/s": rate}
        bar.on_step("proof of work", progress.solved, told)
        if progress.solved == progress.k:
            bar.on_end("proof of work")
            begun[0] = False

    return show

"""``assay calibrate``: fit what queries to your model should cost."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assay.cli.console import facts, grid, print_json, print_tables
from assay.cli.inputs import read_data, settings
from assay.cli.options import Common, Force, ModelOptions, Settings, open_models
from assay.cli.output import new_file, new_folder, refuse_existing
from assay.errors import InvalidInput

if TYPE_CHECKING:
    from assay.data import Dataset
    from assay.gateway.calibrate import CalibrationRecord
    from assay.gateway.policy import Policy

__all__ = ["calibrate"]

_LEAST_ROWS = 100
_KEY_BYTES = 32
_RATES = {"sha256": 1e6, "scrypt": 12.0}  # tries a second of a browser on one core


def calibrate(
    *,
    model: Annotated[str, typer.Option(help="The model that is served: a file, a URL or module:function.")],
    private: Annotated[str, typer.Option(help="Its training data with labels, as in train.npz.")],
    traffic: Annotated[
        str,
        typer.Option(
            help="Queries of users whom you trust, not from the training data; labels are not used."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the policy goes, as in policy.toml.")],
    how: ModelOptions,
    common: Common,
    estimator: Annotated[
        str,
        typer.Option(
            help="How leakage is estimated: heads, teachers, pknn, entropy, gap, distilled, composite."
        ),
    ] = "heads",
    settings_: Settings = None,
    suspects: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]DATA", help="Further inputs that are suspect, such as cifar100@train."),
    ] = None,
    limit: Annotated[
        float, typer.Option(help="What honest users may pay at most, in times of a plain inference.")
    ] = 2.0,
    rate: Annotated[
        float | None, typer.Option(metavar="HZ", help="Hashes a second of an honest client; 1e6, a browser.")
    ] = None,
    puzzle: Annotated[
        Literal["sha256", "scrypt"] | None,
        typer.Option(
            help="How work is asked for; scrypt is memory-hard, with 12 tries a second of a browser."
        ),
    ] = None,
    inference_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Time of an answer in production; measured here otherwise, a millisecond at least.",
        ),
    ] = None,
    volume: Annotated[
        float | None,
        typer.Option(
            metavar="ITEMS",
            help="Queries a day of the largest honest customer; above that, prices rise with the volume.",
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=_LEAST_ROWS, help="Most queries of each half of the traffic, and of each pool.")
    ] = 3000,
    previous: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Policy in force: its limits and budgets are kept, its version is raised."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sign the policy with the key in this file; made if it is absent."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep finished teachers here; an interrupted run goes on."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the report goes; NAME-report.html beside the policy."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Simulate less: for a first look, not for a policy in force.")
    ] = False,
    force: Force = False,
) -> None:
    """Fit what queries to your model should cost, and see who would pay what.

    Trains the leakage estimator on the private data, makes suspect queries of the traffic,
    fits prices and alarms on one half of it and judges them on the other. Writes the policy
    for `assay serve --policy`, the estimator and the record of the calibration beside it,
    and a report to open in a browser.

    Theft with inputs of the task cannot be priced away; the report says what can.
    """
    from assay.gateway.calibrate import calibrate as fit
    from assay.gateway.calibrate import make_method
    from assay.gateway.policy import check_step, save_policy

    page = report or out.with_name(f"{out.stem}-report.html")
    folder = out.with_name(f"{out.stem}-estimator")
    numbers = out.with_name(f"{out.stem}-calibration.json")
    for path in (out, page, folder, numbers):
        refuse_existing(path, force=force)
    if page.suffix not in (".html", ".htm"):
        msg = f"the report is an HTML page; call it NAME.html, not {page.name}"
        raise InvalidInput(msg)
    before, basis = _basis(previous, rate, volume, puzzle)
    secret = None if key is None else _key(key)
    own, seen = read_data(private, common.seed), read_data(traffic, common.seed)
    others = _suspects(suspects, common.seed)
    with open_models([model], how, common) as [opened], common.observers() as observers:
        method = make_method(estimator, settings(settings_), opened)
        found = fit(
            opened,
            own,
            seen,
            method=method,
            others=others,
            basis=basis,
            limit=limit,
            inference_seconds=inference_seconds,
            rows=rows,
            simulated=200_000 if quick else 2_000_000,
            accounts=8 if quick else 32,
            queries=1000 if quick else 10_000,
            rng=common.seed,
            observers=observers,
            checkpoint=checkpoint,
        )
    policy = found.policy_with(folder.name, secret)
    if before is not None:
        check_step(before, policy)
    record = found.record_for(policy)
    with (
        new_folder(folder, force=force) as made,
        new_file(numbers, force=force) as third,
        new_file(page, force=force) as second,
        new_file(out, force=force) as first,
    ):
        found.estimator.save(made)
        record.save(third)
        from assay.report.calibration_report import CalibrationReport

        CalibrationReport(record, f"Calibration of {opened.name}").save(second)
        save_policy(policy, first)
    if common.json:
        print_json(
            {**record.to_dict(), "policy": str(out), "report": str(page), "signed": secret is not None}
        )
    elif not common.quiet:
        _show(record, policy, {"policy": out, "estimator folder": folder, "report": page})


def _basis(
    previous: Path | None, rate: float | None, volume: float | None, puzzle: str | None
) -> tuple[Policy | None, Policy]:
    """Return the policy in force, and the one from which everything that is not fitted is taken."""
    from assay.gateway.calibrate.pricing import with_pricing
    from assay.gateway.policy import Policy, Puzzle, load_policy

    before = None if previous is None else load_policy(previous)
    basis = (
        Policy()
        if before is None
        else before.model_copy(update={"version": before.version + 1, "signature": None})
    )
    if puzzle is not None and puzzle != basis.puzzle.alg:
        # A try takes a tenth of a second, and a proof costs the gateway as many tries as it has parts.
        hard = Puzzle(alg="scrypt", k=2, min_bits=1.0, max_bits=10.0)
        kind = hard if puzzle == "scrypt" else Puzzle()
        basis = with_pricing(basis.model_copy(update={"puzzle": kind}), {"expected_rate_hz": _RATES[puzzle]})
    if rate is not None:
        if not 0 < rate < float("inf"):
            msg = f"--rate must be a positive number of hashes a second, got {rate}"
            raise InvalidInput(msg)
        basis = with_pricing(basis, {"expected_rate_hz": rate})
    if volume is not None:
        from assay.gateway.pricing.volume import free_items

        kept = basis.pricing.volume.model_dump()
        basis = with_pricing(
            basis, {"volume": kept | {"free_items": free_items(basis.pricing.volume, volume)}}
        )
    return before, basis


def _key(path: Path) -> bytes:
    """Read a signing key, or make one that only its owner can read."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
    return path.read_bytes().strip()


def _suspects(given: list[str] | None, seed: int) -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}
    for item in given or ():
        name, equals, spec = item.partition("=")
        # "file.csv:target=income" has an equals sign as well, and no name before it.
        named = bool(equals) and name.replace("-", "").replace("_", "").isalnum()
        data = read_data(spec if named else item, seed)
        label = name if named else data.name
        if label in found:
            msg = f"two suspect pools are called {label!r}; name one of them, as in other={item}"
            raise InvalidInput(msg)
        found[label] = data
    return found


def _show(record: CalibrationRecord, policy: Policy, files: dict[str, Path]) -> None:
    worst = record.worst_honest
    rows = {
        "model": record.model,
        "estimator": record.estimator,
        "version": policy.version,
        "signed": "yes" if policy.signature else "no; give --key FILE",
        "an honest query": f"{record.hashes_per_unit:,.0f} hashes on average",
        "dearest honest profile": f"{worst.name}, {worst.overhead:.2f} times plain inference",
        **files,
    }
    thefts = [
        (
            row.name if row.told_apart else f"{row.name} (not told apart)",
            f"{row.stateless:.1f}",
            f"{row.split.ratio:.1f}",
            f"{row.padded.ratio:.1f}",
            f"{row.best.ratio:.1f}",
            f"{row.after_100:.0f}",
        )
        for row in sorted(record.attackers, key=lambda row: row.best.ratio)
    ]
    columns = ("pool", "any split", "best split", "best padding", "cheapest plan", "one account after 100")
    honest = [(row.name, f"{row.overhead:.2f}", f"{row.worst:.2f}") for row in record.honest]
    print_tables(
        facts("Policy", rows),
        grid("Honest users, in plain inferences", ("profile", "mean", "95 % of accounts below"), honest),
        grid("Thieves, in honest queries for a useful one", columns, thefts),
        *(f"note: {note}" for note in record.notes),
    )

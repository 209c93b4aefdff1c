"""``assay split``: draw the secret on which dataset inference stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.console import facts, print_json, print_tables
from assay.cli.inputs import read_data
from assay.cli.options import Common
from assay.cli.output import new_folder

__all__ = ["split"]


def split(
    *,
    data: Annotated[str, typer.Option(help="All rows that you own, as in rows.npz or digits.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the secret goes; never overwritten.")],
    common: Common,
    private_share: Annotated[float, typer.Option(help="Share of the rows that train your model.")] = 0.5,
    stratify: Annotated[
        bool, typer.Option("--stratify", help="The same share of each class, rather than of the whole.")
    ] = False,
    insecure_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Draw the secret from this number, for experiments: it can be guessed."),
    ] = None,
) -> None:
    """Split your data by a secret coin, before you train.

    Train your model on private.npz only, keep control.npz from everybody, publish or
    time-stamp the commitment, then call `assay register`.
    """
    from assay.data import commit_split

    with new_folder(out, force=None) as folder:
        drawn = commit_split(
            read_data(data, common.seed),
            private=private_share,
            stratify=stratify,
            rng=insecure_seed,
        )
        drawn.save(folder)
        drawn.private.save(folder / "private.npz")
        drawn.control.save(folder / "control.npz")
    found: dict[str, object] = {
        "private": str(out / "private.npz"),
        "control": str(out / "control.npz"),
        "private_rows": len(drawn.private),
        "control_rows": len(drawn.control),
        "secret": insecure_seed is None,
        "commitment": drawn.commitment,
    }
    if common.json:
        print_json(found)
    elif not common.quiet:
        print_tables(
            facts(
                "Split",
                {
                    "train on": f"{found['private']} ({len(drawn.private):,} rows)",
                    "never train on": f"{found['control']} ({len(drawn.control):,} rows)",
                },
            ),
            f"publish before any dispute: {drawn.commitment}",
        )

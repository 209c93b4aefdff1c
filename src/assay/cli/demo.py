"""``assay demo``: everything once, on real data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.console import print_json, print_tables
from assay.cli.inputs import settings
from assay.cli.options import Common, Force, Settings
from assay.cli.output import new_folder

__all__ = ["demo"]


def demo(
    *,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where models, evidence, verdicts and report go.")
    ] = Path("assay-demo"),
    settings_: Settings = None,
    common: Common,
    force: Force = False,
) -> None:
    """Train a model, steal it six ways, find out who did it.

    Handwritten digits that come with scikit-learn, a dozen innocent models, five kinds
    of evidence; about a minute on two cores. Hyperparameters (--set) are those of
    assay.demo.Plan, as in --set independents=4.
    """
    import torch

    from assay.demo import Plan, run
    from assay.registry import configure
    from assay.report import table_rows
    from assay.report.rows import json_text

    plan = configure(Plan, settings(settings_))
    torch.set_num_threads(1)  # networks this small only wait for each other's threads
    with new_folder(out, force=force) as folder:
        with common.observers() as observers:
            done = run(folder, seed=common.seed, plan=plan, observers=observers)
        page = out / done.report.relative_to(folder)
    done = dataclasses.replace(done, folder=out, report=page)
    if common.json:
        rows = json.loads(json_text(table_rows(done.entries)))
        print_json({"folder": str(out), "report": str(page), "seconds": done.seconds, "records": rows})
    elif not common.quiet:
        from assay.demo.table import table

        print_tables(table(done))

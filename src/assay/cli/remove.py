"""``assay remove``: say what it costs to wash evidence out of a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.console import estimate, facts, print_json, print_tables
from assay.cli.inputs import read_data, settings
from assay.cli.options import Common, Force, ModelOptions, Settings, open_models
from assay.cli.output import new_folder

__all__ = ["remove"]


def remove(
    *,
    model: Annotated[
        str, typer.Option(help="The copy to wash, with its weights: a file or module:function.")
    ],
    how: ModelOptions,
    common: Common,
    data: Annotated[
        str | None, typer.Option(help="The thief's data, as in digits@train:500 or rows.npz.")
    ] = None,
    attack: Annotated[str, typer.Option(help="See `assay list removals`.")] = "fine-tuning",
    evaluation: Annotated[
        str | None, typer.Option(help="Data on which accuracy and fidelity are measured.")
    ] = None,
    settings_: Settings = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the washed model and removal.json go.")
    ] = None,
    force: Force = False,
) -> None:
    """Wash evidence out of a copy of your own model.

    Says what the washed model is still worth. Verify it afterwards to see what is left of
    the evidence.
    """
    from assay.registry import create

    washer: Any = create(attack, "removal", settings(settings_))
    with open_models([model], how, common) as [opened], common.observers() as observers:
        rows = None if data is None else read_data(data, common.seed)
        tests = None if evaluation is None else read_data(evaluation, common.seed)
        asked = {"evaluation": tests, "rng": common.seed, "observers": observers}
        if out is None:
            record = washer.run(opened, rows, **asked).record
        else:
            with new_folder(out, force=force) as folder:
                done = washer.run(opened, rows, **asked)
                done.save(folder)
                record = done.record
        name = opened.name
    if common.json:
        print_json(record)
    elif not common.quiet:
        shown = {
            "model": name,
            "accuracy before": estimate(record.accuracy_before),
            "accuracy": estimate(record.accuracy),
            "agrees with before": estimate(record.fidelity),
            **{name.replace("_", " "): f"{value:.3f}" for name, value in record.measured.items()},
            "rows": f"{record.rows:,}",
            "time": f"{record.seconds:.1f} s",
            "washed model": None if out is None else out / "model.safetensors",
        }
        print_tables(facts(f"Removal by {record.removal}", shown))
        if record.accuracy is None:
            print_tables("give --evaluation DATA to measure what the washed model is worth")

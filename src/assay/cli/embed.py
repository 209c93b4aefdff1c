"""``assay embed``: train a model with a mark in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.console import estimate, facts, print_json, print_tables
from assay.cli.inputs import make_recipe, read_data, settings
from assay.cli.options import Common, Settings
from assay.cli.output import new_folder

__all__ = ["embed"]


def embed(
    *,
    data: Annotated[str, typer.Option(help="Training data, as in digits@train or rows.npz.")],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where model and evidence go; never overwritten.")
    ],
    common: Common,
    scheme: Annotated[
        str, typer.Option(help="Kind of mark, as in entangled or margin; `assay list schemes` shows all.")
    ] = "trigger-set",
    architecture: Annotated[str | None, typer.Option(help="As in wrn-16-1; chosen by the inputs.")] = None,
    evaluation: Annotated[str | None, typer.Option(help="Data on which accuracy is measured.")] = None,
    unrelated: Annotated[
        str | None, typer.Option(metavar="DATA", help="Inputs of another task, for marks made of them.")
    ] = None,
    settings_: Settings = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the data.")] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of the training: lr, batch_size, optimizer, augment, ..."),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare/--no-compare", help="Train an unmarked model too, to see what the mark costs."
        ),
    ] = True,
    insecure_key: Annotated[
        int | None,
        typer.Option(min=0, help="Draw the key from this number, for experiments: it can be guessed."),
    ] = None,
) -> None:
    """Train a marked model, with evidence to recognise it.

    Publish or time-stamp the commitment before the model is released; keep the evidence
    folder secret.
    """
    from assay.errors import InvalidInput
    from assay.nets.suggest import suggest_architecture
    from assay.registry import create

    maker: Any = create(scheme, "evidence", settings(settings_))
    if not hasattr(maker, "embed"):
        msg = f"{scheme} evidence is not trained into a model; use `assay register --scheme {scheme}`"
        raise InvalidInput(msg)
    if unrelated is not None and not getattr(maker, "takes_unrelated", False):
        msg = f"{scheme} marks use no unrelated inputs; leave --unrelated out"
        raise InvalidInput(msg)
    if common.device != "cpu":
        msg = f"assay embed trains on the CPU, not on {common.device!r}; leave --device out"
        raise InvalidInput(msg)
    with new_folder(out, force=None) as folder, common.observers() as observers:
        rows = read_data(data, common.seed)
        # Schemes whose marks are no foreign inputs need not know the word.
        more = {} if unrelated is None else {"unrelated": read_data(unrelated, common.seed)}
        name = architecture or suggest_architecture(rows.input_shape)
        made = maker.embed(
            rows,
            architecture=name,
            recipe=make_recipe(name, len(rows), epochs, recipe),
            rng=common.seed,
            observers=observers,
            evaluation=None if evaluation is None else read_data(evaluation, common.seed),
            compare_unmarked=compare,
            key=insecure_key,
            **more,
        )
        made.save(folder)
    record = made.record
    cost = None
    if record.accuracy is not None and record.unmarked_accuracy is not None:
        cost = record.unmarked_accuracy.value - record.accuracy.value
    if common.json:
        paths = {"model_file": str(out / "model.safetensors"), "evidence": str(out / "evidence")}
        print_json(record.to_dict() | paths | {"accuracy_cost": cost})
    elif not common.quiet:
        shown = {
            "model": out / "model.safetensors",
            "evidence": out / "evidence",
            "architecture": name,
            "marked rows": f"{record.marked_rows:,} besides {record.clean_rows:,}",
            "match rate": estimate(record.match_rate),
            "unmarked match rate": estimate(record.unmarked_match_rate),
            "accuracy": estimate(record.accuracy),
            "unmarked accuracy": estimate(record.unmarked_accuracy),
            "accuracy cost": None if cost is None else f"{100 * cost:+.1f} percentage points",
        }
        print_tables(
            facts("Marked model", shown),
            f"publish before any dispute: {record.commitment}",
        )

"""``assay train``: a model to try things with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.console import estimate, facts, print_json, print_tables
from assay.cli.inputs import make_recipe, read_data
from assay.cli.options import Common, Force
from assay.cli.output import new_file

__all__ = ["train"]


def train(
    *,
    data: Annotated[str, typer.Option(help="Training data, as in digits@train or rows.npz.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Weights to write, as in model.safetensors.")],
    common: Common,
    architecture: Annotated[str | None, typer.Option(help="As in wrn-16-1; chosen by the inputs.")] = None,
    evaluation: Annotated[str | None, typer.Option(help="Data on which accuracy is measured.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the data.")] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of the training: lr, batch_size, optimizer, augment, ..."),
    ] = None,
    force: Force = False,
) -> None:
    """Train a network and save its weights.

    The file says all that is needed to open it again.
    """
    from assay.adapters import TorchModel, save_model
    from assay.errors import InvalidInput
    from assay.nets import build
    from assay.nets import train as fit
    from assay.nets.suggest import suggest_architecture
    from assay.statistics import wilson

    if out.suffix != ".safetensors":
        msg = f"{out} must end in .safetensors"
        raise InvalidInput(msg)
    with new_file(out, force=force) as partial, common.observers() as observers:
        rows = read_data(data, common.seed)
        tests = None if evaluation is None else read_data(evaluation, common.seed)
        name = architecture or suggest_architecture(rows.input_shape)
        network = build(name, rows.input_shape, rows.num_classes, common.seed).to(common.checked_device())
        how = make_recipe(name, len(rows), epochs, recipe)
        done = fit(network, rows, how, rng=common.seed, observers=observers)
        model = TorchModel(network, device=common.device, name=out.stem)
        accuracy = None
        if tests is not None:
            accuracy = wilson(int((model.labels(tests.x) == tests.y).sum()), len(tests))
        save_model(model, partial, classes=rows.classes)
    found = {
        "model": str(out),
        "architecture": name,
        "digest": model.digest,
        "data": rows.name,
        "rows": len(rows),
        "epochs": done.epochs,
        "loss": done.loss[-1],
    }
    if common.json:
        print_json(found | {"accuracy": None if accuracy is None else accuracy.to_dict()})
    elif not common.quiet:
        shown = {"loss": f"{done.loss[-1]:.4g}", "accuracy": estimate(accuracy)}
        print_tables(facts("Trained", found | shown))

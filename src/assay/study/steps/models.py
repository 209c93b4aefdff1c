"""Training a network, and taking a model that the user already has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from assay.adapters import TorchModel, open_model, save_model
from assay.data import Dataset
from assay.errors import InvalidInput
from assay.model import Model
from assay.nets import Network, Recipe, build, train
from assay.registry import configure
from assay.statistics import wilson
from assay.study.context import Context
from assay.study.step import step_kind
from assay.study.steps.data import drawn, part

__all__ = ["accuracy", "keep_model", "keep_opening", "model_step", "network_of", "opened", "train_step"]

MODEL = "model.safetensors"
_OPENING = "opening.json"


@step_kind("train")
def train_step(context: Context) -> dict[str, Any]:
    """Train a network on rows of a data set."""
    config = context.config
    rows = drawn(context, config["rows"])
    recipe = configure(Recipe, config["recipe"])
    network = build(config["architecture"], rows.input_shape, rows.num_classes, context.seed)
    network.to(context.device)
    checkpoint = context.work / "checkpoint.safetensors"
    result = train(network, rows, recipe, rng=context.seed, checkpoint=checkpoint)
    model = TorchModel(network.cpu())
    keep_model(context, model, rows)
    return {
        "digest": model.digest,
        "architecture": config["architecture"],
        "rows": len(rows),
        "epochs": result.epochs,
        **accuracy(model, part(context, config["evaluation"])),
        "train_accuracy": float((model.labels(rows.x) == rows.y).float().mean()),
    }


@step_kind("model")
def model_step(context: Context) -> dict[str, Any]:
    """Take the user's own model; its file is kept with the study, an address is written down."""
    config = context.config
    opening = dict(config["open"])
    source = Path(config["model"])
    if source.is_file():
        name = f"model{source.suffix}"
        shutil.copyfile(source, context.out / name)
        opening["file"] = name
    else:
        opening["address"] = config["model"]
    keep_opening(context, opening)
    model = _open(context.out, context.device)
    found = accuracy(model, part(context, config["evaluation"]))
    return {"digest": model.digest, "architecture": config["model"], **found}


def keep_model(context: Context, model: TorchModel, data: Dataset) -> None:
    """Write a network as the step's model."""
    save_model(model, context.out / MODEL, classes=data.classes)


def keep_opening(context: Context, opening: dict[str, Any]) -> None:
    """Write down how the step's model is opened, where it is no network of ours."""
    (context.out / _OPENING).write_text(json.dumps(opening), encoding="utf-8")


def opened(context: Context, name: str) -> Model:
    """Return the model that an input holds."""
    folder, manifest = context.open(name)
    model = _open(folder, context.device)
    model.name = manifest.label or manifest.kind
    return model


def network_of(folder: Path, device: str) -> Network:
    """Return the network that a training step left."""
    network = _open(folder, device).module
    if not isinstance(network, Network):
        msg = f"{folder} holds no network of an architecture with a name"
        raise InvalidInput(msg)
    return network


def _open(folder: Path, device: str) -> Model:
    opening = folder / _OPENING
    if not opening.exists():
        return open_model(folder / MODEL, device=device)
    options = json.loads(opening.read_text(encoding="utf-8"))
    file, address = options.pop("file", None), options.pop("address", None)
    return open_model(folder / file if file else address, device=device, **options)


def accuracy(model: Model, data: Dataset) -> dict[str, Any]:
    """Return the share of rows that a model labels correctly, with its Wilson interval."""
    found = wilson(int((model.labels(data.x) == data.y).sum()), len(data))
    return {"accuracy": found.value, "accuracy_low": found.low, "accuracy_high": found.high}

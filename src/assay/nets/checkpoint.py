"""Checkpoints in safetensors: weights, optimizer state, running average, early stopping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.errors import InvalidInput

__all__ = ["Progress", "load_checkpoint", "save_checkpoint"]


@dataclass
class Progress:
    """How far a training is.

    Parameters
    ----------
    epochs
        Finished epochs.
    best, stale, kept
        For early stopping: best validation accuracy (-1 before the first epoch),
        epochs since then, and the weights that reached it.
    """

    epochs: int = 0
    best: float = -1.0
    stale: int = 0
    kept: dict[str, Tensor] | None = None


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    progress: Progress,
    identity: Mapping[str, str],
) -> None:
    """Write everything that the next epoch needs; the old file stays until the new one is whole.

    Parameters
    ----------
    path
        File to replace.
    module, optimizer, average, progress
        State to keep.
    identity
        What makes this training this one (seed, recipe, data); see `load_checkpoint`.
    """
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    if progress.kept is not None:
        tensors |= {f"kept.{k}": v for k, v in progress.kept.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    whole = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    numbers = {"epochs": progress.epochs, "best": progress.best, "stale": progress.stale}
    save_file(whole, partial, {"progress": json.dumps(numbers), "identity": json.dumps(dict(identity))})
    partial.replace(path)


def load_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    identity: Mapping[str, str],
) -> Progress:
    """Restore a checkpoint in place and return how far it had come.

    Raises
    ------
    InvalidInput
        If the file is damaged or belongs to another network, seed, recipe or data set.
    """
    try:
        with safe_open(str(path), "pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        found, numbers = json.loads(meta["identity"]), json.loads(meta["progress"])
        _check_same(path, identity, found)
        module.load_state_dict(_part(tensors, "model."))
        if average is not None:
            average.load_state_dict(_part(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        kept = _part(tensors, "kept.") or None
        return Progress(int(numbers["epochs"]), float(numbers["best"]), int(numbers["stale"]), kept)
    except InvalidInput:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        msg = f"cannot continue from checkpoint {path}: {error}; delete it to start afresh"
        raise InvalidInput(msg) from error


def _check_same(path: Path, identity: Mapping[str, str], found: Mapping[str, str]) -> None:
    wrong = sorted(key for key in {*identity, *found} if identity.get(key) != found.get(key))
    if wrong:
        msg = f"checkpoint {path} is of another training ({', '.join(wrong)} differ); use another file"
        raise InvalidInput(msg)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

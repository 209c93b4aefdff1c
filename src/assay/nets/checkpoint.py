"""Checkpoints in safetensors: weights, optimizer state and the running average."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.errors import InvalidInput

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    seed: int,
    epochs: int,
) -> None:
    """Write everything that the next epoch needs; the old file stays until the new one is whole."""
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"optimizer.{index}.{key}"] = torch.as_tensor(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    whole = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    save_file(whole, partial, {"seed": str(seed), "epochs": str(epochs)})
    partial.replace(path)


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, seed: int
) -> int:
    """Restore a checkpoint in place and return the number of finished epochs.

    Raises
    ------
    InvalidInput
        If the file is damaged or belongs to another network or seed.
    """
    try:
        with safe_open(str(path), "pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if meta["seed"] != str(seed):
            msg = f"checkpoint {path} was written with seed {meta['seed']}, not {seed}; use another file"
            raise InvalidInput(msg)
        module.load_state_dict(_part(tensors, "model."))
        if average is not None:
            average.load_state_dict(_part(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return int(meta["epochs"])
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        msg = f"cannot continue from checkpoint {path}: {error}; delete it to start afresh"
        raise InvalidInput(msg) from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

"""What a step will cost, roughly: from rows, epochs and the multiplications of a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import nn

from assay.nets import build

__all__ = ["ask_seconds", "multiplications", "train_seconds"]

# One core of a current server processor, batches of 128 (bf16 in training). A run corrects
# them by what its steps really took.
_TRAIN_RATE, _ASK_RATE = 1.1e11, 4e10
_TRAIN_ROW, _ASK_ROW = 1.2e-5, 4e-6
_BACKWARD = 3  # a step forward and two products of the same size backward


@cache
def multiplications(architecture: str, input_shape: tuple[int, ...], classes: int) -> int:
    """Return the multiply-adds of one row, convolutions and linear layers only.

    Examples
    --------
    >>> multiplications("mlp-8", (4,), 3)
    56
    """
    network = build(architecture, input_shape, classes)
    total = 0

    def count(module: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        places = out[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
        total += weight.numel() * places

    handles = [
        m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *input_shape))
    for handle in handles:
        handle.remove()
    return total


def train_seconds(architecture: str, shape: Sequence[int], classes: int, rows: int, epochs: int) -> float:
    """Return estimated core-seconds of a training."""
    work = 2 * _BACKWARD * multiplications(architecture, tuple(shape), classes)
    return rows * epochs * (work / _TRAIN_RATE + _TRAIN_ROW)


def ask_seconds(architecture: str, shape: Sequence[int], classes: int, rows: int) -> float:
    """Return estimated core-seconds of asking a model."""
    return rows * (2 * multiplications(architecture, tuple(shape), classes) / _ASK_RATE + _ASK_ROW)

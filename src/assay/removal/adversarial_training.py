"""Adversarial training: fine-tune on inputs moved against the copy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Recipe, train
from assay.observers import Observer
from assay.registry import register
from assay.removal.adversarial_inputs import limits, move
from assay.removal.layers import copied
from assay.removal.tuning import Tuned

__all__ = ["AdversarialTraining"]


@register("adversarial-training", kind="removal")
@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Tuned):
    """Train the copy on with adversarial inputs that keep their labels.

    Every epoch moves some rows against the network as it then is, and trains on all rows
    and the moved ones. Marks that sit in small, strong patterns are what a robust
    network stops reading.

    Parameters
    ----------
    inputs
        Rows moved each epoch, at least 1.
    epsilon, step
        Largest change of a coordinate, and change a step, as shares of the data's range,
        in (0, 1].
    moves
        Steps, at least 1.

    References
    ----------
    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
    2018; Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network
    Watermarking?", IEEE S&P 2022 (adversarial training).

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.arange(20) % 2, ("a", "b"))
    >>> AdversarialTraining(epochs=1, moves=2).run(model, data).record.washed == model.digest
    False
    """

    name: ClassVar[str] = "adversarial-training"
    inputs: int = 1000
    epsilon: float = 0.1
    step: float = 0.025
    moves: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = {
            "inputs": self.inputs >= 1,
            "moves": self.moves >= 1,
            "epsilon": 0 < self.epsilon <= 1,
            "step": 0 < self.step <= 1,
        }
        for name, holds in fine.items():
            if not holds:
                msg = f"{name} of {self.name} is out of range: {getattr(self, name)!r}"
                raise InvalidInput(msg)

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,  # noqa: ARG002 - epochs of new data are no one training to resume
    ) -> nn.Module:
        """Move inputs and train, an epoch at a time."""
        rows, recipe = self.rows(data), cast("Recipe", self.recipe)  # never without epochs
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        generator = torch.Generator().manual_seed(rng)
        low, high = limits(rows)
        for epoch in range(recipe.epochs):
            chosen = torch.randperm(len(rows), generator=generator)[: self.inputs]
            moved = move(
                network,
                rows.x[chosen],
                targets[chosen],
                epsilon=self.epsilon * (high - low),
                step=self.step * (high - low),
                steps=self.moves,
                box=(low, high),
            )
            extra = Dataset(moved, targets[chosen], rows.classes, rows.value_range, "moved")
            # One falling schedule over all epochs, in pieces of one epoch.
            rate = recipe.lr * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
            piece = dataclasses.replace(recipe, epochs=1, lr=rate, schedule="constant")
            train(
                network,
                rows.concat(extra),
                piece,
                targets=torch.cat([targets, targets[chosen]]),
                fit_normalization=False,
                rng=rng + epoch,
                observers=observers,
                task=self.name,
            )
        network.zero_grad()
        return network.eval()

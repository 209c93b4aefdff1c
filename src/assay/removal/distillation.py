"""Distillation: teach a fresh network what the copy answers."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Network, build, predict, train
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied, last_layer, redraw
from assay.removal.tuning import Trained

__all__ = ["Distillation"]


@register("distillation", kind="removal")
@dataclass(frozen=True, kw_only=True)
class Distillation(Trained):
    """Train a fresh network, of the same or another architecture, on the copy's probabilities.

    The strongest removal where the thief has many inputs: nothing of the copy's weights
    is left, so every mark in weights or activations is gone, and marks in behaviour stay
    only if ordinary inputs show them. Costs accuracy where inputs are few. It does not
    wash out evidence of the training data, which answers carry. Labels are not used.

    Parameters
    ----------
    architecture
        Registered architecture of the fresh network, such as ``"wrn-16-1"``; ``"same"``
        for the copy's own.
    temperature
        By which logits are divided in training, above 0. Above 1, the fresh network
        learns more of what the copy thinks of the other classes.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; as an
    attack, Shafieinejad et al., "On the Robustness of the Backdoor-based Watermarking in
    Deep Neural Networks", IH&MMSec 2021.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> washed = Distillation(architecture="mlp-8", epochs=1).run(model, data)
    >>> washed.model.module.architecture
    'mlp-8'
    """

    name: ClassVar[str] = "distillation"
    schedule: ClassVar[Literal["cosine", "triangle"]] = "triangle"
    architecture: str = "same"
    temperature: float = 1.0
    epochs: int = 30
    lr: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:
            msg = f"temperature of {self.name} must be a number above 0, got {self.temperature!r}"
            raise InvalidInput(msg)

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Ask a copy for probabilities and train a fresh network on them."""
        rows = self.rows(data)
        teacher = copied(module, self.name)
        fresh = self._fresh(teacher, rows, rng).to(next(teacher.parameters()).device).eval()
        head = None if self.temperature == 1 else last_layer(fresh, rows, self.name)
        recipe = self.recipe
        assert recipe is not None
        train(
            fresh,
            rows,
            recipe,
            targets=(predict(teacher, rows.x) / self.temperature).softmax(1),
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
            task=self.name,
        )
        if head is not None:
            # It learned the divided logits; its own are those times the temperature.
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.mul_(self.temperature)
        return fresh

    def _fresh(self, teacher: nn.Module, rows: Dataset, rng: int) -> nn.Module:
        if self.architecture != "same":
            return build(self.architecture, rows.input_shape, rows.num_classes, rng)
        if isinstance(teacher, Network):
            return build(teacher.architecture, rows.input_shape, rows.num_classes, rng)
        fresh = copy.deepcopy(teacher)
        if not redraw(fresh, rng):
            msg = (
                f"{self.name} cannot draw all weights of this network afresh; name the architecture of the "
                "new one, for example architecture=wrn-16-1"
            )
            raise InvalidInput(msg)
        return fresh

"""Distillation: teach a fresh network what the copy answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import predict, train
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied, last_layer
from assay.removal.retraining import Retrained, spread

__all__ = ["Distillation"]


@register("distillation", kind="removal")
@dataclass(frozen=True, kw_only=True)
class Distillation(Retrained):
    """Train a fresh network, of the same or another architecture, on the copy's probabilities.

    The strongest removal where the thief has many inputs: nothing of the copy's weights
    is left, so every mark in weights or activations is gone, and marks in behaviour stay
    only if ordinary inputs show them. Costs accuracy where inputs are few. It does not
    wash out evidence of the training data, which answers carry. Labels are not used.

    Two ways of smoothing what is learned wash out answers that depend on little: the mean
    over noisy versions of each input (``draws``), and the mean over networks that each
    learned from a part of the inputs (``parts``), of which a rare answer is in one alone.

    Parameters
    ----------
    temperature
        By which logits are divided in training, above 0. Above 1, the fresh network
        learns more of what the copy thinks of the other classes.
    draws, noise
        Noisy versions of each input over whose probabilities the mean is taken, at least
        1, and the standard deviation of the noise in that of the inputs, at least 0.
    parts
        Disjoint parts of the inputs from which networks learn first, at least 1; the
        fresh network learns the mean of their probabilities on all inputs. 1 leaves that out.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; as an
    attack, Shafieinejad et al., "On the Robustness of the Backdoor-based Watermarking in
    Deep Neural Networks", IH&MMSec 2021. Smooth and cross-architecture retraining: Lukas et
    al., "SoK: How Robust is Image Classification Deep Neural Network Watermarking?", IEEE
    S&P 2022. Means over parts: Papernot et al., "Semi-supervised Knowledge Transfer for
    Deep Learning from Private Training Data", ICLR 2017.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> washed = Distillation(architecture="mlp-8", epochs=1).run(model, data)
    >>> washed.model.module.architecture
    'mlp-8'
    """

    name: ClassVar[str] = "distillation"
    temperature: float = 1.0
    draws: int = 1
    noise: float = 0.0
    parts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = {
            "temperature": 0 < self.temperature < math.inf,
            "draws": self.draws >= 1,
            "noise": 0 <= self.noise < math.inf,
            "parts": self.parts >= 1,
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
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Ask a copy for probabilities and train a fresh network on them."""
        rows = self.rows(data)
        teacher = copied(module, self.name)
        shares = self._asked(teacher, rows.x, rng)
        if self.parts > 1:
            shares = self._pooled(teacher, rows, shares, rng)
        fresh = self.fresh(teacher, rows, rng)
        self._teach(fresh, rows, shares, rng=rng, observers=observers, checkpoint=checkpoint)
        return fresh

    def _asked(self, network: nn.Module, x: Tensor, rng: int) -> Tensor:
        """Return the probabilities that a network gives, at the temperature."""
        generator = torch.Generator().manual_seed(rng)
        asked = (spread(x, self.noise, generator) if self.noise else x for _ in range(self.draws))
        return torch.stack([(predict(network, each) / self.temperature).softmax(1) for each in asked]).mean(0)

    def _pooled(self, teacher: nn.Module, rows: Dataset, shares: Tensor, rng: int) -> Tensor:
        """Return the mean of what networks give that each learned from a part of the rows."""
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(rng))
        if len(rows) < 2 * self.parts:
            msg = f"{self.parts} parts of {self.name} need at least 2 rows each, got {len(rows)} rows in all"
            raise InvalidInput(msg)
        pooled = torch.zeros_like(shares)
        for place, index in enumerate(order.tensor_split(self.parts)):
            network = self.fresh(teacher, rows, rng + 1 + place)
            self._teach(network, rows.subset(index.tolist()), shares[index], rng=rng + 1 + place)
            pooled += (predict(network, rows.x) / self.temperature).softmax(1) / self.parts
        return pooled

    def _teach(
        self,
        network: nn.Module,
        rows: Dataset,
        shares: Tensor,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> None:
        soft = self.answers == "soft"
        head = last_layer(network, rows, self.name) if soft and self.temperature != 1 else None
        recipe = self.recipe
        assert recipe is not None
        train(
            network,
            rows,
            recipe,
            targets=shares if soft else shares.argmax(1),
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

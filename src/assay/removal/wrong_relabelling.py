"""Wrong relabelling: teach wrong labels on moved inputs, with a head that leaves its old place."""

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
from assay.observers import Observer
from assay.registry import register
from assay.removal.adversarial_inputs import limits, move
from assay.removal.layers import copied, last_layer, redraw
from assay.removal.tuning import Tuned

__all__ = ["WrongRelabelling"]


@register("wrong-relabelling", kind="removal")
@dataclass(frozen=True, kw_only=True)
class WrongRelabelling(Tuned):
    """Redraw the head, push it away from the old one, and teach wrong labels off the data.

    Inputs are moved towards random classes by one gradient step, which makes them
    resemble what triggers use, and get random wrong labels. The new head is trained with
    the data and these, under a penalty on its inner product with the old head.

    Parameters
    ----------
    inputs
        Rows moved and relabelled, at least 1.
    epsilon
        Change of every coordinate as a share of the data's range, in (0, 1].
    repulsion
        Weight of the inner product of new and old head, at least 0.

    References
    ----------
    The attack called WRK in the literature on class-feature watermarks, 2025; the penalty
    is on the whole weight of the head.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.arange(20) % 2, ("a", "b"))
    >>> WrongRelabelling(epochs=1, inputs=4).run(model, data).record.washed == model.digest
    False
    """

    name: ClassVar[str] = "wrong-relabelling"
    inputs: int = 100
    epsilon: float = 0.1
    repulsion: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = {
            "inputs": self.inputs >= 1,
            "epsilon": 0 < self.epsilon <= 1,
            "repulsion": 0 <= self.repulsion < math.inf,
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
        """Move, relabel, redraw the head and train."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        wrong, labels = self._wrong(network, rows, targets, rng)
        head = last_layer(network, rows, self.name)
        old = head.weight.detach().clone()
        redraw(head, rng)
        # The slope of the inner product with the old head is the old head.
        handle = head.weight.register_hook(lambda slope: slope + self.repulsion * old)  # type: ignore[no-untyped-call]
        try:
            self.tune(
                network,
                rows.concat(wrong),
                torch.cat([targets, labels]),
                rng=rng,
                observers=observers,
                checkpoint=checkpoint,
            )
        finally:
            handle.remove()
        return network

    def _wrong(self, network: nn.Module, rows: Dataset, targets: Tensor, rng: int) -> tuple[Dataset, Tensor]:
        generator = torch.Generator().manual_seed(rng)
        chosen = torch.randperm(len(rows), generator=generator)[: self.inputs]
        classes = rows.num_classes
        aims = torch.randint(classes, (len(chosen),), generator=generator)
        low, high = limits(rows)
        size = self.epsilon * (high - low)
        moved = move(
            network,
            rows.x[chosen],
            aims,
            epsilon=size,
            step=size,
            steps=1,
            box=(low, high),
            towards=True,
        )
        # Any class but the one that the copy gives: 1 .. classes - 1 places further on.
        shift = torch.randint(1, classes, (len(chosen),), generator=generator)
        labels = (targets[chosen] + shift) % classes
        return Dataset(moved, labels, rows.classes, rows.value_range, "relabelled"), labels

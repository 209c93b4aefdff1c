"""Re-initialised head: forget the last layer and learn it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from assay.data.dataset import Dataset
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied, last_layer, redraw
from assay.removal.tuning import Layers, Tuned, check_choice

__all__ = ["ReInitialisedHead"]


@register("re-initialised-head", kind="removal")
@dataclass(frozen=True, kw_only=True)
class ReInitialisedHead(Tuned):
    """Draw the last layer afresh and train it, alone or with all others.

    Washes out marks that live in the last layer, since nothing leads from a trigger's
    features to its class any more. Features that only the trigger excites stay, and if
    the labels are the copy's own and some data excite them, the mark comes back. Costs
    accuracy where data are few.

    Parameters
    ----------
    layers
        Layers to train: ``"all"`` or ``"last"``.

    References
    ----------
    Adi et al., "Turning Your Weakness Into a Strength", USENIX Security 2018, section
    5.3 (re-training the last layer, re-training all layers).

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> washed = ReInitialisedHead(layers="last", epochs=1).run(model, data).model.module
    >>> torch.equal(washed.body[1].weight, model.module.body[1].weight)
    True
    >>> torch.equal(washed.head.weight, model.module.head.weight)
    False
    """

    name: ClassVar[str] = "re-initialised-head"
    layers: Layers = "all"
    lr: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "layers", self.layers, ("all", "last"))

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Label the data, forget the last layer of a copy, and train."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        head = last_layer(network, rows, self.name)
        redraw(head, rng)
        self.tune(
            network,
            rows,
            targets,
            only=head if self.layers == "last" else None,
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
        )
        return network

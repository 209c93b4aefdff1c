"""Weight quantisation: keep a few bits of each weight."""

from __future__ import annotations

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
from assay.removal.layers import copied, weights
from assay.removal.tuning import Tuned

__all__ = ["WeightQuantisation"]

_FEWEST, _MOST = 2, 16


@register("weight-quantisation", kind="removal")
@dataclass(frozen=True, kw_only=True)
class WeightQuantisation(Tuned):
    """Round the weights of each layer to a few evenly spaced, symmetric levels.

    The levels of a tensor are the multiples of ``max |w| / (2**(bits - 1) - 1)``, so that
    no weight moves by more than half of that, and zero stays zero. Washes out only marks
    that lie in small differences between weights; marks in the behaviour survive as long
    as the accuracy does, which is down to about four bits. With epochs, the rounded copy
    is trained further and rounded again.

    Parameters
    ----------
    bits
        Bits a weight, 2 to 16.

    References
    ----------
    Hubara et al., "Quantized Neural Networks", JMLR 2018; as an attack, Lukas et al.,
    "SoK: How Robust is Image Classification Deep Neural Network Watermarking?", IEEE S&P
    2022.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-8", (3,), 2))
    >>> washed = WeightQuantisation(bits=2).run(model).model.module
    >>> len(washed.head.weight.unique())
    3
    """

    name: ClassVar[str] = "weight-quantisation"
    least_epochs: ClassVar[int] = 0
    bits: int = 4
    epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits != int(self.bits) or not _FEWEST <= self.bits <= _MOST:
            msg = f"bits of {self.name} must be a whole number from {_FEWEST} to {_MOST}, got {self.bits!r}"
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
        """Round the weights of a copy and, if asked to, train and round it again."""
        network = copied(module, self.name)
        found = list(weights(network, self.name).values())
        rows = self.rows(data) if self.needs_data else None
        targets = None if rows is None else self.targets(network, rows)
        _round(found, self.bits)
        if rows is not None and targets is not None:
            self.tune(network, rows, targets, rng=rng, observers=observers, checkpoint=checkpoint)
            _round(found, self.bits)
        return network


@torch.no_grad()
def _round(found: Sequence[Tensor], bits: int) -> None:
    steps = 2 ** (bits - 1) - 1
    for weight in found:
        exact = weight.double()  # in float32, the quotient of 16 bits would be off by more than the bound
        level = exact.abs().max() / steps
        if level > 0:
            weight.copy_((exact / level).round() * level)

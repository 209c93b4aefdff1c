"""Weight noise: move every weight a little at random."""

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
from assay.removal.layers import copied, weights
from assay.removal.tuning import Tuned

__all__ = ["WeightNoise"]


@register("weight-noise", kind="removal")
@dataclass(frozen=True, kw_only=True)
class WeightNoise(Tuned):
    """Add Gaussian noise to the weights, relative to the spread of each layer's.

    Little noise washes out marks that lie in exact weights, much noise every mark and
    the task with it; only fine-tuning afterwards tells them apart, because it repairs
    what its data show. Weight shifting, which also takes the mean filter away from all
    filters of a layer, is ``shift=1.5, noise=1.0`` with ten epochs of true labels.

    Parameters
    ----------
    noise
        Standard deviation of the noise in standard deviations of the layer's weights, at
        least 0.
    shift
        Multiple of the mean over a layer's outputs that is taken away from its weights,
        at least 0.

    References
    ----------
    Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network
    Watermarking?", IEEE S&P 2022 (weight shifting).

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-8", (3,), 2))
    >>> washed = WeightNoise(noise=0.1).run(model, rng=1)
    >>> washed.record.washed == model.digest, washed.record.rows
    (False, 0)
    """

    name: ClassVar[str] = "weight-noise"
    least_epochs: ClassVar[int] = 0
    noise: float = 0.1
    shift: float = 0.0
    epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("noise", self.noise), ("shift", self.shift)):
            if not 0 <= value < math.inf:
                msg = f"{name} of {self.name} must be a number of at least 0, got {value!r}"
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
        """Move the weights of a copy and, if asked to, train it."""
        network = copied(module, self.name)
        found = list(weights(network, self.name).values())
        rows = self.rows(data) if self.needs_data else None
        targets = None if rows is None else self.targets(network, rows)
        self._move(found, torch.Generator().manual_seed(rng))
        if rows is not None and targets is not None:
            self.tune(network, rows, targets, rng=rng, observers=observers, checkpoint=checkpoint)
        return network

    @torch.no_grad()
    def _move(self, found: Sequence[Tensor], generator: torch.Generator) -> None:
        for weight in found:
            # Both from the weights as they were; drawn on the CPU, so that the device does not matter.
            spread = weight.std(correction=0)
            drawn = torch.randn(weight.shape, generator=generator).to(weight.device)
            mean = weight.mean(0, keepdim=True)
            weight.add_(drawn * spread * self.noise - mean * self.shift)

"""Regularisation: shrink the weights by a strong decay, then repair the task."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import train
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied
from assay.removal.tuning import Tuned

__all__ = ["Regularisation"]


@register("regularisation", kind="removal")
@dataclass(frozen=True, kw_only=True)
class Regularisation(Tuned):
    """Train with a large weight decay, under which rare answers go first, then without.

    Weights that few rows hold up decay; a mark is held up by none of the thief's rows.
    The task suffers as well and comes back in the fine-tuning, from the copy's own labels
    or true ones.

    Parameters
    ----------
    decay
        Weight decay of the first phase, above 0. Times the learning rate and the number of
        steps, it is the logarithm by which an idle weight shrinks.
    decay_epochs
        Passes over the data of the first phase, at least 1.

    References
    ----------
    Shafieinejad et al., "On the Robustness of the Backdoor-based Watermarking in Deep
    Neural Networks", IH&MMSec 2021; Lukas et al., "SoK: How Robust is Image Classification
    Deep Neural Network Watermarking?", IEEE S&P 2022 (regularisation).

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.arange(20) % 2, ("a", "b"))
    >>> washed = Regularisation(decay=0.5, decay_epochs=20, epochs=1).run(model, data).model.module
    >>> bool(washed.head.weight.norm() < model.module.head.weight.norm())
    True
    """

    name: ClassVar[str] = "regularisation"
    least_epochs: ClassVar[int] = 0
    decay: float = 0.1
    decay_epochs: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.decay < math.inf or self.decay_epochs < 1:
            name = "decay_epochs" if self.decay_epochs < 1 else "decay"
            msg = f"{name} of {self.name} is out of range: {getattr(self, name)!r}"
            raise InvalidInput(msg)

    @property
    def needs_data(self) -> bool:
        """True: decay alone would take the task away with the mark."""
        return True

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Shrink a copy's weights and repair it."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        basis = self.recipe or dataclasses.replace(self, epochs=1).recipe
        assert basis is not None
        first = dataclasses.replace(
            basis, epochs=self.decay_epochs, weight_decay=self.decay, schedule="constant", patience=None
        )
        # A file of its own: a finished phase must not be taken for the one that follows.
        own = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.decay")
        train(
            network,
            rows,
            first,
            targets=targets,
            fit_normalization=False,
            rng=rng,
            observers=observers,
            checkpoint=own,
            task=self.name,
        )
        self.tune(network, rows, targets, rng=rng, observers=observers, checkpoint=checkpoint)
        network.zero_grad()
        return network.eval()

"""Label noising: fine-tune on labels of which some are wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied
from assay.removal.tuning import Tuned, check_share

__all__ = ["LabelNoising"]


@register("label-noising", kind="removal")
@dataclass(frozen=True, kw_only=True)
class LabelNoising(Tuned):
    """Train the copy on with a share of the labels shuffled, at a larger rate.

    Marks are rare answers; noise in the labels makes rare answers not worth keeping. The
    softer form, label smoothing, is ``smoothing`` of every attack that tunes.

    Parameters
    ----------
    share
        Share of the rows that get each other's labels, in [0, 1).

    References
    ----------
    Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network
    Watermarking?", IEEE S&P 2022 (label noising).

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.arange(20) % 2, ("a", "b"))
    >>> LabelNoising(epochs=1).run(model, data).record.washed == model.digest
    False
    """

    name: ClassVar[str] = "label-noising"
    share: float = 0.3
    lr: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.name, "share", self.share)

    def noisy(self, targets: Tensor, rng: int) -> Tensor:
        """Return the labels with a share of them permuted among each other."""
        generator = torch.Generator().manual_seed(rng)
        chosen = torch.randperm(len(targets), generator=generator)[: round(self.share * len(targets))]
        mixed = targets.clone()
        mixed[chosen] = targets[chosen[torch.randperm(len(chosen), generator=generator)]]
        return mixed

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Train a copy on noisy labels."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.noisy(self.targets(network, rows), rng)
        self.tune(network, rows, targets, rng=rng, observers=observers, checkpoint=checkpoint)
        return network

"""Magnitude pruning: drop the smallest weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.observers import Observer
from assay.registry import register
from assay.removal.channels import count_of
from assay.removal.layers import copied, weights
from assay.removal.tuning import Tuned, check_choice, check_share

__all__ = ["MagnitudePruning"]


@register("magnitude-pruning", kind="removal")
@dataclass(frozen=True, kw_only=True)
class MagnitudePruning(Tuned):
    """Zero the smallest weights of linear and convolutional layers.

    Works against marks that sit in many small weights. Half of the weights cost most
    networks little, and the mark as little; where nearly all are gone, task and mark
    break alike. Fine-tuning afterwards wins accuracy back; pruned weights stay zero in it.

    Parameters
    ----------
    share
        Share of the weights to zero, in [0, 1); their number is the nearest whole one.
    scope
        ``"global"``: the smallest of all weights; ``"layer"``: the smallest of each layer.

    References
    ----------
    Han et al., "Learning both Weights and Connections for Efficient Neural Networks",
    NeurIPS 2015; as an attack, Uchida et al., "Embedding Watermarks into Deep Neural
    Networks", ICMR 2017, section 5.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-8", (3,), 2))
    >>> washed = MagnitudePruning(share=0.25).run(model).model.module
    >>> sum(int((layer.weight == 0).sum()) for layer in (washed.body[1], washed.head)), 8 * 3 + 8 * 2
    (10, 40)
    """

    name: ClassVar[str] = "magnitude-pruning"
    least_epochs: ClassVar[int] = 0
    share: float = 0.5
    scope: Literal["global", "layer"] = "global"
    epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.name, "share", self.share)
        check_choice(self.name, "scope", self.scope, ("global", "layer"))

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Prune a copy and, if asked to, train it."""
        network = copied(module, self.name)
        found = list(weights(network, self.name).values())
        rows = self.rows(data) if self.needs_data else None
        targets = None if rows is None else self.targets(network, rows)
        groups = [found] if self.scope == "global" else [[weight] for weight in found]
        kept = {weight: mask for group in groups for weight, mask in _prune(group, self.share).items()}
        if rows is not None and targets is not None:
            self.tune(network, rows, targets, kept=kept, rng=rng, observers=observers, checkpoint=checkpoint)
        return network


@torch.no_grad()
def _prune(group: list[nn.Parameter], share: float) -> dict[Tensor, Tensor]:
    """Zero the smallest weights of a group and return masks of those that stay."""
    sizes = torch.cat([weight.abs().flatten() for weight in group])
    # Sorted rather than compared with a threshold, so that ties do not change the number.
    smallest = sizes.argsort(stable=True)[: count_of(share, len(sizes))]
    keep = torch.ones_like(sizes, dtype=torch.bool)
    keep[smallest] = False
    masks: dict[Tensor, Tensor] = {}
    for weight, part in zip(group, torch.split(keep, [weight.numel() for weight in group]), strict=True):
        masks[weight] = part.view(weight.shape)
        weight.masked_fill_(~masks[weight], 0.0)
    return masks

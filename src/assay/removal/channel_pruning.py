"""Channel pruning: drop what ordinary inputs do not excite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from assay.data.dataset import Dataset
from assay.observers import Observer
from assay.registry import register
from assay.removal.channels import activity, count_of, readers, silence
from assay.removal.layers import copied
from assay.removal.tuning import Tuned, check_share

__all__ = ["ChannelPruning"]


@register("channel-pruning", kind="removal")
@dataclass(frozen=True, kw_only=True)
class ChannelPruning(Tuned):
    """Silence, before every layer but the first, the channels least active on the data.

    Works against marks whose inputs excite channels of their own, as those of a visible
    patch often do; does not touch marks entangled with the task. A channel is silenced
    for the layer that reads it, so that residual networks lose it too. All activities
    are measured before anything is silenced. Fine-tuning afterwards wins accuracy back;
    silenced channels stay silent in it.

    Parameters
    ----------
    share
        Share of the channels that each layer loses, in [0, 1); their number is the
        nearest whole one, and one channel is always left.

    References
    ----------
    Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient
    Deep Architectures", 2016 (activity as the criterion); He, Zhang and Sun, "Channel
    Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (channels removed
    where they are read).

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-8", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> washed = ChannelPruning(share=0.5).run(model, data).model.module
    >>> int((washed.head.weight == 0).all(0).sum())
    4
    """

    name: ClassVar[str] = "channel-pruning"
    least_epochs: ClassVar[int] = 0
    share: float = 0.2
    epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.name, "share", self.share)

    @property
    def needs_data(self) -> bool:
        """True: activity is measured on data."""
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
        """Silence channels of a copy and, if asked to, train it."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        chosen = readers(network, rows, self.name)
        kept = {}
        for reader, active in zip(chosen, activity(network, chosen, rows.x), strict=True):
            least = active.argsort(stable=True)[: count_of(self.share, reader.channels)]
            kept[reader.layer.weight] = silence(reader, least)
        self.tune(network, rows, targets, kept=kept, rng=rng, observers=observers, checkpoint=checkpoint)
        return network

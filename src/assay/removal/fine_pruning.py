"""Fine-pruning: silence idle channels of the last convolution, then fine-tune."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import predict
from assay.observers import Observer
from assay.registry import register
from assay.removal.channels import Reader, activity, count_of, readers, silence
from assay.removal.layers import copied
from assay.removal.tuning import Tuned, check_share

__all__ = ["FinePruning"]

_STEPS = 20


@register("fine-pruning", kind="removal")
@dataclass(frozen=True, kw_only=True)
class FinePruning(Tuned):
    """Silence the least active channels of the last convolution, then fine-tune.

    Channels go in the order of their activity on the thief's data for as long as the
    accuracy there, by the labels in use, falls by no more than ``drop``. Works against
    backdoors that keep channels to themselves; tuning then repairs the task and not the
    mark. Entangled marks survive it, and the copy's own labels can re-teach a mark. A
    network without convolution loses units of its last hidden layer.

    Parameters
    ----------
    share
        Share of the channels to silence, in [0, 1); None finds it by ``drop``.
    drop
        Accuracy that pruning may cost before tuning, in [0, 1].

    References
    ----------
    Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on
    Deep Neural Networks", RAID 2018, section 3. They prune channel by channel on a
    validation set; here the share grows by a twentieth at a time on the data themselves,
    and activity is measured where the next layer reads it, behind pooling.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("cnn-4", (1, 8, 8), 2))
    >>> data = Dataset(torch.rand(20, 1, 8, 8), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> washed = FinePruning(share=0.5, epochs=1).run(model, data).model.module
    >>> columns = washed.body[9].weight.view(16, 8, 4)  # 8 channels of 2 x 2 positions
    >>> int((columns == 0).all(2).all(0).sum())
    4
    """

    name: ClassVar[str] = "fine-pruning"
    least_epochs: ClassVar[int] = 0
    share: float | None = None
    drop: float = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share is not None:
            check_share(self.name, "share", self.share)
        if not 0 <= self.drop <= 1:
            msg = f"drop of {self.name} must be in [0, 1], got {self.drop!r}"
            raise InvalidInput(msg)

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
        """Silence channels of a copy and train it."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        found = readers(network, rows, self.name)
        reader = next((r for r in reversed(found) if r.behind_convolution), found[-1])
        order = activity(network, [reader], rows.x)[0].argsort(stable=True)
        if self.share is None:
            count = self._search(network, reader, order, rows, targets)
        else:
            count = count_of(self.share, reader.channels)
        kept = {reader.layer.weight: silence(reader, order[:count])}
        self.tune(network, rows, targets, kept=kept, rng=rng, observers=observers, checkpoint=checkpoint)
        return network

    def _search(
        self, network: nn.Module, reader: Reader, order: Tensor, rows: Dataset, targets: Tensor
    ) -> int:
        """Return how many channels may go; the network is left as it was."""
        whole = reader.layer.weight.detach().clone()
        least = _accuracy(network, rows, targets) - self.drop
        found = 0
        for count in sorted({count_of(step / _STEPS, reader.channels) for step in range(1, _STEPS)}):
            silence(reader, order[:count])
            if _accuracy(network, rows, targets) < least:
                break
            found = count
        with torch.no_grad():
            reader.layer.weight.copy_(whole)
        return found


def _accuracy(network: nn.Module, rows: Dataset, targets: Tensor) -> float:
    return float((predict(network, rows.x).argmax(1) == targets).double().mean())
